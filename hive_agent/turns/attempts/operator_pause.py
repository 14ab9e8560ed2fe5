"""The pause that the operator orders: no turn begins until it is ended, also after restarts of the harness."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from hive_agent.infra import state_files


class _StoredPause(BaseModel):
    on: bool = False


class OperatorPause:
    """The pause, and the file that stores it, which the agent can change: it binds the harness only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = state_files.load_model(path, _StoredPause)
        self.on = found is not None and found.on

    def switch(self, on: bool) -> None:
        """Begin or end the pause. If it cannot be stored, which is logged, a restart ends it."""
        self.on = on
        state_files.save_model(self._path, _StoredPause(on=on))
