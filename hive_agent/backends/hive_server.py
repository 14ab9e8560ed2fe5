"""The hive's own MCP server, as any agent CLI has to start it."""

from __future__ import annotations

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
