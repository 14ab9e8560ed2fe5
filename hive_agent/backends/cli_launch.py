"""Launching an agent CLI: its program, its environment, and the session that it continues."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from hive_agent.backends.base import Failed, FailureKind
from hive_agent.backends.mcp_launch import read_secrets
from hive_agent.environment import AgentEnvironment
from hive_agent.infra import state_files
from hive_agent.infra.turn_environment import child_environment
from hive_core.protocol import AgentConfig

_SHORTAGES = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
        errno.ETXTBSY,
    }
)
"""Errors of a start that pass without anybody's help."""


def not_started(program: str, error: OSError) -> Failed:
    """Return the failure of an agent CLI that the system could not start."""
    kind: FailureKind = "shortage" if error.errno in _SHORTAGES else "no_program"
    return Failed(kind, f"{program} could not be started: {error}")


def turn_environment(agent: AgentEnvironment, needed: Sequence[str], config: AgentConfig) -> dict[str, str]:
    """Return the variables of `child_environment` and the secrets that agent.toml names, as they are now."""
    return child_environment(agent.variables, needed, config.environment) | read_secrets(agent.secrets, config.secrets)


class ProgramNotFound(Exception):
    """The agent CLI is not installed; the text says where it was searched, and what to do."""


def named_program(variables: Mapping[str, str], setting: str) -> Path | None:
    """The program that the variable `setting` names; None if it is not set. Raises ProgramNotFound."""
    path = variables.get(setting, "")
    if not path:
        return None
    if Path(path).is_file() and os.access(path, os.X_OK):
        return Path(path)
    raise ProgramNotFound(f"{setting} names {path}, which is not an executable file")


def find_program(variables: Mapping[str, str], name: str, setting: str, package: str) -> Path:
    """Find the program that the variable `setting` names, or else `name` on the PATH. `package` is its npm package.

    Raises ProgramNotFound.
    """
    named = named_program(variables, setting)
    if named is not None:
        return named
    found = shutil.which(name, path=variables.get("PATH", os.defpath))
    if found is None:
        raise ProgramNotFound(
            f"the program {name} is not installed: {setting} is not set, and there is no `{name}` on PATH. Install it "
            f"where agents see it (npm install --global {package}, or a package in agent.nix), or choose another "
            "backend in agent.toml"
        )
    return Path(found)


_Count = Annotated[int, Field(ge=0, le=2**53)]


class StoredSession(BaseModel):
    """The conversation of an agent CLI, as stored.

    `id` is the CLI's id of the conversation, None if the next turn starts a new one. `shortened`: that one begins with
    the agent's notes from the previous conversation. `input`, `cached` and `output` are the tokens used by the
    conversation, for a CLI that reports only such totals.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,199}$")] | None = None
    shortened: bool = False
    input: _Count = 0
    cached: _Count = 0
    output: _Count = 0


class CliSession:
    """The `known` conversation of an agent CLI, and the file that stores it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = state_files.load_model(path, StoredSession) or StoredSession()
        self._ended: StoredSession | None = None

    def store(self, known: StoredSession) -> None:
        """Store the conversation. If the file cannot be written, a restart starts a new conversation."""
        if known == self.known:
            return
        self.known = known
        state_files.save_model(self._path, known)

    def end(self, *, notes: bool) -> None:
        """Let the next turn start a new conversation, with the agent's notes in its prompt or without."""
        self._ended = self.known
        self.store(StoredSession(shortened=notes))

    def go_back(self) -> None:
        """Continue the conversation again that was ended last."""
        if self._ended is not None:
            self.store(self._ended)
