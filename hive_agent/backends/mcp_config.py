"""The MCP servers that an agent CLI gets: the hive's own and those of `agent.toml`.

The latter are in the file that `HIVE_AGENT_MCP` names, where the system has one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

import hive_agent
from hive_agent.environment import AgentEnvironment
from hive_agent.role import Role
from hive_core.protocol import McpServer

log = logging.getLogger(__name__)


SERVER_NAME = "hive"
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


def describe_server(role: Role, environment: AgentEnvironment, instance: str) -> HiveServer:
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


_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_BYTES = 1024 * 1024


def configured_servers(variables: Mapping[str, str], own: str) -> dict[str, dict[str, object]]:
    """The servers by name, as `--mcp-config` takes them; none that is called `own`, which is the hive's.

    None where no file is named or it cannot be read: an agent without these tools is better than none.
    """
    named = variables.get("HIVE_AGENT_MCP", "")
    if not named:
        return {}
    try:
        with Path(named).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))["mcpServers"]
        if not isinstance(found, dict):
            raise TypeError("mcpServers is no table")
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("no MCP servers from %s: %s", named, error)
        return {}
    return {
        name: server
        for name, server in found.items()
        if _NAME.fullmatch(name) and name != own and isinstance(server, dict)
    }


def other_servers(variables: Mapping[str, str], asked: Mapping[str, McpServer], own: str) -> dict[str, McpServer]:
    """All servers but the one called `own`, by name. One that agent.toml asks for wins over the system's of its name.

    A server of the file that is described in another way than agent.toml could is left out.
    """
    found: dict[str, McpServer] = {}
    for name, described in configured_servers(variables, own).items():
        known = {key: value for key, value in described.items() if key in McpServer.model_fields}
        try:
            found[name] = McpServer.model_validate(known)
        except ValidationError as error:
            log.warning("MCP server %s is left out: %s", name, error.errors(include_input=False)[0]["msg"])
    return {**found, **asked}
