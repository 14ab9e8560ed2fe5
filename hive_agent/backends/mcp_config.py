"""The hive's own MCP server, as any agent CLI has to start it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import hive_agent
from hive_agent.environment import AgentEnvironment
from hive_agent.role import Role

NAME = "hive"
"""What it is called in the CLIs' configurations; they make the names of its tools from that."""
START_SECONDS = 60
"""How long an MCP server may take to start, for CLIs that want it told: many agents may start at once."""
CALL_SECONDS = 3_600
"""How long a call of a tool may take, for CLIs that have a limit of their own, which turn_timeout makes needless."""

_PACKAGES = ("hive_agent", "hive_manager", "hive_core.protocol")


@dataclass(frozen=True)
class HiveServer:
    """A program that speaks MCP on stdin and stdout. `env` comes on top of whatever the CLI gives its servers."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]


def describe(role: Role, environment: AgentEnvironment, instance: str) -> HiveServer:
    """The server with `role`'s tools; what it receives, it receives for the harness `instance`."""
    code = str(Path(hive_agent.__file__).parents[1])
    return HiveServer(
        command=sys.executable,
        args=("-m", role.module, "mcp"),
        env={
            "HIVE_AGENT_RUN": str(environment.run),
            "HIVE_AGENT_STATE": str(environment.state),
            "HIVE_AGENT_CONFIG": str(environment.config),
            "HIVE_AGENT_APPLIED": environment.variables.get("HIVE_AGENT_APPLIED", ""),
            "HIVE_INSTANCE": instance,
            # The server must be this harness's code: neither what lies in the agent's working directory,
            # nor what its Python would find on its own.
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [code, environment.variables.get("PYTHONPATH")])),
        },
    )


def code_version() -> str:
    """Differs between versions of the code that the server's tools are made of: by where it is, its times and sizes."""
    found = hashlib.sha256()
    for package in (*_PACKAGES, "mcp"):
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec is not None else []:
            # Of the SDK, which is installed as a whole, the directory says enough.
            places = [Path(root)] if package == "mcp" else sorted(Path(root).rglob("*.py"))
            for place in places:
                stat = place.stat()
                found.update(f"{place} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return found.hexdigest()[:32]
