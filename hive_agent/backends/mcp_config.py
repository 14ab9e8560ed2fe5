"""The MCP servers of an agent CLI: the hive's own, those of agent.toml, and those of the agent's system.

The last are in the file that `HIVE_AGENT_MCP` names, if it is set.
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
from hive_agent.backends import mcp_launch
from hive_agent.environment import AgentEnvironment
from hive_agent.infra import state_files
from hive_agent.infra.turn_environment import child_environment
from hive_agent.role import Role
from hive_core.errors.faults import find_faults
from hive_core.protocol import AgentConfig, McpServer

log = logging.getLogger(__name__)


SERVER_NAME = "hive"
"""Name of the hive's server in the configurations of CLIs, which derive the names of its tools from it."""
START_SECONDS = 60
"""Time limit for an MCP server to start, for CLIs that have such a setting: many agents may start at once."""
CALL_SECONDS = 3_600
"""Time limit of a tool call, for CLIs that have their own limit; it is long because turn_timeout applies anyway."""

_PACKAGES = ("hive_agent", "hive_manager", "hive_core.protocol")


@dataclass(frozen=True)
class HiveServer:
    """A program that speaks MCP on stdin and stdout. `env` is added to the environment that the CLI gives servers."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]


def describe_server(role: Role, environment: AgentEnvironment, instance: str) -> HiveServer:
    """Describe the server with the tools of `role`; it leases messages to the harness `instance`."""
    code = str(Path(hive_agent.__file__).parents[1])
    return HiveServer(
        command=sys.executable,
        args=("-m", role.module, "mcp"),
        env={
            "HIVE_AGENT_RUN": str(environment.run),
            "HIVE_AGENT_STATE": str(environment.state),
            "HIVE_AGENT_CODE": str(environment.code),
            "HIVE_AGENT_CONFIG": str(environment.config),
            "HIVE_AGENT_APPLIED": environment.variables.get("HIVE_AGENT_APPLIED", ""),
            "HIVE_INSTANCE": instance,
            # The server must run this harness's code, not modules in the agent's working directory or another
            # installation.
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [code, environment.variables.get("PYTHONPATH")])),
        },
    )


def code_version() -> str:
    """Identify the version of the server's code, by the paths, sizes and modification times of its files."""
    found = hashlib.sha256()
    for package in (*_PACKAGES, "mcp"):
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec is not None else []:
            # The SDK is installed as a whole, so its directory is enough.
            paths = [Path(root)] if package == "mcp" else sorted(Path(root).rglob("*.py"))
            for path in paths:
                stat = path.stat()
                found.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return found.hexdigest()[:32]


_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_BYTES = 1024 * 1024


def configured_servers(variables: Mapping[str, str], own: str) -> dict[str, dict[str, object]]:
    """Read the servers of the agent's system by name, in the format of `--mcp-config`, without the hive's (`own`).

    There are none if the file cannot be read: the agent then works without these tools.
    """
    named = variables.get("HIVE_AGENT_MCP", "")
    if not named:
        return {}
    try:
        with Path(named).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))["mcpServers"]
        if not isinstance(found, dict):
            raise TypeError("mcpServers is not an object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("MCP servers cannot be read from %s: %s", named, error)
        return {}
    return {
        name: server
        for name, server in found.items()
        if _NAME.fullmatch(name) and name != own and isinstance(server, dict)
    }


def other_servers(variables: Mapping[str, str], asked: Mapping[str, McpServer], own: str) -> dict[str, McpServer]:
    """All servers except the hive's (`own`), by name. Those of agent.toml (`asked`) override those of the system.

    A server of the system that agent.toml could not describe is left out.
    """
    found: dict[str, McpServer] = {}
    for name, described in configured_servers(variables, own).items():
        known = {key: value for key, value in described.items() if key in McpServer.model_fields}
        try:
            found[name] = McpServer.model_validate(known)
        except ValidationError as error:
            log.warning("the MCP server %s is left out: %s", name, find_faults(error, McpServer)[0].reason)
    return {**found, **asked}


def prepare_servers(
    environment: AgentEnvironment, servers: Mapping[str, McpServer], config: AgentConfig
) -> dict[str, McpServer]:
    """Prepare servers for an agent CLI, so that each gets exactly what its description says.

    A program is replaced by a call of the launcher, whose file this writes. It gets the variables that every agent
    CLI gets, those and the secrets that agent.toml names (`config`), and its own, but not those of a backend, such
    as the key of the model's API. Raises OSError.
    """
    inherited = child_environment(environment.variables, (), config.environment)
    inherited["TMPDIR"] = str(environment.temporary)
    secrets = {"directory": str(environment.secrets), "names": config.secrets}
    path = environment.temporary / "mcp-programs.json"
    prepared: dict[str, McpServer] = {}
    programs: dict[str, object] = {}
    for name, server in servers.items():
        if server.url is not None:
            # A CLI would replace `$NAME` in it; `%24` means the same to a web server.
            prepared[name] = McpServer(url=server.url.replace("$", "%24"))
            continue
        programs[name] = {
            "command": server.command,
            "args": server.args,
            "env": inherited | server.env,
            "secrets": secrets,
        }
        launcher = ["-I", "-S", mcp_launch.__file__, str(path), name]
        prepared[name] = McpServer(command=sys.executable, args=launcher)
    if programs:
        environment.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_files.replace_lines(path, [json.dumps(programs).encode()])
    return prepared
