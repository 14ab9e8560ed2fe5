"""The MCP servers beside the hive's: those of agent.toml, and those that agent.nix adds.

The latter are in the file that `HIVE_AGENT_MCP` names, where the system has one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from hive_core.protocol import McpServer

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_BYTES = 1024 * 1024


def configured(variables: Mapping[str, str], own: str) -> dict[str, dict[str, object]]:
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


def beside(variables: Mapping[str, str], asked: Mapping[str, McpServer], own: str) -> dict[str, McpServer]:
    """All servers but the one called `own`, by name. One that agent.toml asks for wins over the system's of its name.

    A server of the file that is described in another way than agent.toml could is left out.
    """
    found: dict[str, McpServer] = {}
    for name, described in configured(variables, own).items():
        known = {key: value for key, value in described.items() if key in McpServer.model_fields}
        try:
            found[name] = McpServer.model_validate(known)
        except ValidationError as error:
            log.warning("MCP server %s is left out: %s", name, error.errors(include_input=False)[0]["msg"])
    return {**found, **asked}
