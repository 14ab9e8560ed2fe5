"""What the harness remembers of its conversation over restarts, in one small file of the state directory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from hive_agent import lines
from hive_core.protocol import Backend, Effort

log = logging.getLogger(__name__)

_MOST_BYTES = 16 * 1024
MOST_TOKENS = 2**53


class Remembered(BaseModel):
    """`model` and `effort` are a person's choices, and only for `backend`.

    `context` is how much of the model's `window` (0: not known) the conversation fills, in tokens. `begun`: there is a
    conversation.
    """

    backend: Backend
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    effort: Effort | None = None
    context: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    window: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    begun: bool = False


class Memory:
    """The file. What is in it is the agent's to write: if it is not what it should be, it counts as missing."""

    def __init__(self, path: Path, backend: Backend) -> None:
        self._path = path
        self.now = self._load(backend)

    def save(self) -> None:
        """Write `now`. If that fails, a restart forgets, and that is all."""
        try:
            lines.replace(self._path, [self.now.model_dump_json().encode()])
        except OSError as error:
            log.error("what is to be remembered cannot be written: %s", error)

    def _load(self, backend: Backend) -> Remembered:
        try:
            kept = Remembered.model_validate_json(b"\n".join(lines.read(self._path, _MOST_BYTES)))
        except (OSError, ValidationError) as error:
            if self._path.exists():
                log.warning("%s cannot be read (%s), starting without it", self._path, type(error).__name__)
            return Remembered(backend=backend)
        return kept if kept.backend == backend else Remembered(backend=backend)
