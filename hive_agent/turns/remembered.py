"""What the harness remembers of its conversation over restarts, in one small file of the state directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from hive_agent import kept
from hive_core.protocol import Backend, Effort

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
    """What is remembered now, and the file that keeps it."""

    def __init__(self, path: Path, backend: Backend) -> None:
        self._path = path
        found = kept.load(path, Remembered)
        self.now = found if found is not None and found.backend == backend else Remembered(backend=backend)

    def save(self) -> None:
        """Write `now`. If that fails, a restart forgets, and that is all."""
        kept.save(self._path, self.now)
