"""The operator's choices and the size of the conversation, kept over restarts of the harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from hive_agent.infra import state_files
from hive_core.protocol import Backend as BackendName
from hive_core.protocol import Effort

MOST_TOKENS = 2**53


class ConversationState(BaseModel):
    """The operator's choices and the size of the conversation, as stored.

    `model` and `effort` apply only to `backend`. `context` is the part of the model's `window` (0: not known) that the
    conversation fills, in tokens. `begun`: a conversation exists.
    """

    backend: BackendName
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    effort: Effort | None = None
    context: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    window: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    begun: bool = False


class ConversationStateFile:
    """The current state of the conversation, and the file that stores it."""

    def __init__(self, path: Path, backend: BackendName) -> None:
        self._path = path
        found = state_files.load_model(path, ConversationState)
        self.now = found if found is not None and found.backend == backend else ConversationState(backend=backend)

    def save(self) -> None:
        """Write `now` to the file. A failure is logged; the state is then lost with a restart."""
        state_files.save_model(self._path, self.now)


def bounded_tokens(reported: int) -> int:
    """Bound a token count that a program reported to the values that the state file can hold."""
    return max(0, min(reported, MOST_TOKENS))
