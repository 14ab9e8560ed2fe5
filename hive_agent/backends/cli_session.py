"""Which conversation of an agent CLI is the agent's, kept over restarts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from hive_agent import lines

log = logging.getLogger(__name__)

_MOST_BYTES = 16 * 1024
_Count = Annotated[int, Field(ge=0, le=2**53)]


class Known(BaseModel):
    """`id` is the CLI's name for the conversation, None if the next turn begins one.

    `shortened`: it is None because the conversation before was given up for its length. `input`, `cached` and `output`
    are the tokens that it has taken so far, for a CLI that tells only such sums.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,199}$")] | None = None
    shortened: bool = False
    input: _Count = 0
    cached: _Count = 0
    output: _Count = 0


class CliSession:
    """The file. It lies where the agent can write: if it is not what it should be, there is no conversation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.known = Known.model_validate_json(b"\n".join(lines.read(path, _MOST_BYTES)) or b"{}")
        except (OSError, ValidationError) as error:
            log.warning("%s cannot be read (%s): a new conversation begins", path, type(error).__name__)
            self.known = Known()

    def remember(self, known: Known) -> None:
        """If it cannot be written, a restart begins a new conversation."""
        if known == self.known:
            return
        self.known = known
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines.replace(self._path, [known.model_dump_json().encode()])
        except OSError as error:
            log.error("which conversation is the agent's cannot be written: %s", error)
