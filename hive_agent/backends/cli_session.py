"""Which conversation of an agent CLI is the agent's, kept over restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from hive_agent import kept

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
    """The conversation that is `known`, and the file that keeps it; without the file there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = kept.load(path, Known) or Known()

    def remember(self, known: Known) -> None:
        """If it cannot be written, a restart begins a new conversation."""
        if known == self.known:
            return
        self.known = known
        kept.save(self._path, known)
