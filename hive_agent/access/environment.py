"""The environment and the working directory of sessions: those of turns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hive_agent.backends.mcp_launch import read_secrets
from hive_agent.environment import AgentEnvironment
from hive_agent.infra.turn_environment import BACKEND_VARIABLES, child_environment
from hive_agent.repositories.mirrors import read_mirrors
from hive_core.protocol.access.opening import Opening

_USUAL_PATH = "/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def session_environment(variables: Mapping[str, str], opening: Opening) -> dict[str, str]:
    """Return the variables of a session's program: those of a turn, its secrets too, of the terminal and the caller."""
    found = child_environment(variables, BACKEND_VARIABLES.get(opening.backend, ()), opening.variables)
    found |= read_secrets(AgentEnvironment.read(variables).secrets, list(opening.secrets))
    found.setdefault("PATH", _USUAL_PATH)
    found.setdefault("USER", "root" if os.geteuid() == 0 else str(os.geteuid()))
    found.setdefault("LOGNAME", found["USER"])
    temporary = _state(variables) / "tmp"
    if temporary.is_dir():
        found["TMPDIR"] = str(temporary)
    if opening.terminal is not None:
        found["TERM"] = opening.terminal.term
    return {**found, **opening.environment}


def default_directory(variables: Mapping[str, str]) -> str:
    """Return the directory in which a session without another one begins: as turns, where the agent's code is.

    Turns avoid a clone whose settings an agent CLI would obey. A person's shell obeys none of them.
    """
    code, names = Path(variables.get("HIVE_AGENT_CODE") or "/code"), [*read_mirrors(variables)]
    if len(names) == 1 and (code / names[0]).is_dir():
        return str(code / names[0])
    return str(code if names and code.is_dir() else _state(variables))


def login_shell(environment: Mapping[str, str]) -> str:
    """Return the path of the shell for people."""
    path = environment.get("PATH", _USUAL_PATH)
    for name in (environment.get("SHELL", ""), "bash", "sh"):
        if name and (found := shutil.which(name, path=path)):
            return found
    return "/bin/sh"


def _state(variables: Mapping[str, str]) -> Path:
    return Path(variables.get("HIVE_AGENT_STATE") or "/state")
