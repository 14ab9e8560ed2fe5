"""How an agent CLI is found, with which environment it runs, and the session that it continues."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from hive_agent.infra import state_files

_EVERY_PROGRAM: Sequence[str] = (
    "PATH",
    "HOME",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_*",
    "GIT_AUTHOR_*",
    "GIT_COMMITTER_*",
    "HIVE_AGENT_APPLIED",
    "HIVE_AGENT_CONFIG",
    "HIVE_AGENT_DEPLOYED",
    # Where nothing confines an agent, the daemon knows by these two what a killed harness has left running.
    "HIVE_AGENT_RUN",
    "HIVE_PARENT_PID",
)
_SYSTEMS = "HIVE_AGENT_ENVIRONMENT"
"""Names what the agent's system has for every turn (`hyperhive.environment` of its agent.nix), between spaces."""


def child_environment(variables: Mapping[str, str], needed: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """Those of `variables` that every agent CLI needs, this one needs (`needed`), or agent.toml (`extra`) or agent.nix
    names.

    A `*` at the end of a pattern stands for any ending. What a backend sets itself it puts over this.
    """
    patterns = (*_EVERY_PROGRAM, *needed, *extra, *variables.get(_SYSTEMS, "").split())
    whole = {pattern for pattern in patterns if not pattern.endswith("*")}
    beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {name: value for name, value in variables.items() if name in whole or name.startswith(beginnings)}


class ProgramNotFound(Exception):
    """The agent CLI is not installed; the text says where it was looked for, and what to do."""


def named_program(variables: Mapping[str, str], setting: str) -> Path | None:
    """The program that the variable `setting` names; None if it is not set. Raises ProgramNotFound."""
    path = variables.get(setting, "")
    if not path:
        return None
    if Path(path).is_file() and os.access(path, os.X_OK):
        return Path(path)
    raise ProgramNotFound(f"{setting} names {path}, which is no program that can be run here")


def find_program(variables: Mapping[str, str], name: str, setting: str, package: str) -> Path:
    """The program that the variable `setting` names, or else `name` on the PATH. `package` is its npm package.

    Raises ProgramNotFound.
    """
    chosen = named_program(variables, setting)
    if chosen is not None:
        return chosen
    found = shutil.which(name, path=variables.get("PATH", os.defpath))
    if found is None:
        raise ProgramNotFound(
            f"{name} was not found: no {setting}, and no `{name}` on the PATH. Install it where agents see it "
            f"(npm install --global {package}, or a package in agent.nix), or choose another backend in agent.toml"
        )
    return Path(found)


_Count = Annotated[int, Field(ge=0, le=2**53)]


class StoredSession(BaseModel):
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
        self.known = state_files.load_model(path, StoredSession) or StoredSession()

    def remember(self, known: StoredSession) -> None:
        """If it cannot be written, a restart begins a new conversation."""
        if known == self.known:
            return
        self.known = known
        state_files.save_model(self._path, known)
