"""MCP servers that an agent's operating system adds to the hive's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hive_agent.backends.claude_command import SERVER, mcp_config
from hive_agent.backends.mcp_servers import configured

CLOCK = {"type": "stdio", "command": "/bin/clock", "args": [], "env": {}}


def test_servers_of_the_file(tmp_path: Path) -> None:
    """Servers of the file stand beside the hive's own, which none of them can replace."""
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"clock": CLOCK, SERVER: CLOCK, "no good": CLOCK, "odd": 7}}))
    servers = configured({"HIVE_AGENT_MCP": str(file)}, SERVER)
    assert servers == {"clock": CLOCK}
    written = mcp_config("python", "hive_agent", {}, servers)["mcpServers"]
    assert isinstance(written, dict)
    assert set(written) == {"clock", SERVER}
    assert written[SERVER]["command"] == "python"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mcpServers": 1}', "\xff", None])
def test_a_broken_file(text: str | None, tmp_path: Path) -> None:
    """A file that is missing or broken leaves the agent with the hive's tools."""
    file = tmp_path / "mcp.json"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    assert configured({"HIVE_AGENT_MCP": str(file)}, SERVER) == {}


def test_nowhere() -> None:
    """Where no file is named there are no more servers."""
    assert configured({}, SERVER) == {}
