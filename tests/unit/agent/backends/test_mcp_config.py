"""MCP servers that an agent's operating system and its agent.toml add to the hive's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hive_agent.backends.mcp_config import other_servers
from hive_core.protocol import McpServer

CLOCK = {"type": "stdio", "command": "/bin/clock", "args": [], "env": {}}
OWN = "hive"


def test_servers_of_the_file(tmp_path: Path) -> None:
    """Servers of the file stand beside the hive's own, which none of them can replace; agent.toml's win over them."""
    file = tmp_path / "mcp.json"
    neither = {"type": "stdio", "args": []}
    servers = {"clock": CLOCK, "bell": CLOCK, OWN: CLOCK, "no good": CLOCK, "odd": 7, "neither": neither}
    file.write_text(json.dumps({"mcpServers": servers}))
    asked = {"bell": McpServer(command="/bin/bell")}
    found = other_servers({"HIVE_AGENT_MCP": str(file)}, asked, OWN)
    assert found == {"clock": McpServer(command="/bin/clock"), "bell": McpServer(command="/bin/bell")}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mcpServers": 1}', "\xff", None])
def test_a_broken_file(text: str | None, tmp_path: Path) -> None:
    """A file that is missing or broken leaves the agent with the hive's tools."""
    file = tmp_path / "mcp.json"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    assert other_servers({"HIVE_AGENT_MCP": str(file)}, {}, OWN) == {}


def test_nowhere() -> None:
    """Where no file is named there are no more servers."""
    assert other_servers({}, {}, OWN) == {}
