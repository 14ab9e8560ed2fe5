"""How Claude Code is called: arguments, environment and MCP configuration. Pure, but for finding the program."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hive_agent.backends import cli_launch
from hive_agent.backends.base import Choice
from hive_agent.backends.claude import mcp_cache
from hive_agent.backends.cli_launch import ProgramNotFound, named_program
from hive_agent.backends.mcp_config import SERVER_NAME, START_SECONDS, HiveServer
from hive_core.protocol import McpServer

TOOL_PREFIX = f"mcp__{SERVER_NAME}__"
"""Before the names of the hive's tools."""
_NEEDED = ("ANTHROPIC_*", "CLAUDE_CODE_*")


def find_program(variables: Mapping[str, str]) -> Path:
    """`HIVE_CLAUDE`, or `claude` on PATH, or the one that the package claude-agent-sdk brings.

    Raises ProgramNotFound.
    """
    chosen = named_program(variables, "HIVE_CLAUDE")
    if chosen is not None:
        return chosen
    on_path = shutil.which("claude", path=variables.get("PATH", os.defpath))
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("claude_agent_sdk")  # finds without importing: the package is large
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        bundled = Path(place) / "_bundled" / "claude"
        if os.access(bundled, os.X_OK):
            return bundled
    raise ProgramNotFound(
        "Claude Code was not found: no HIVE_CLAUDE, no `claude` on PATH, no package claude-agent-sdk. "
        "Install one of them (pip install 'hyperhive[claude]'), or set backend = \"scripted\" in agent.toml"
    )


def arguments(
    program: Path,
    *,
    mcp_config: Path,
    identity: Path,
    tools: Sequence[str],
    servers: Sequence[str] = (SERVER_NAME,),
    choice: Choice,
    session: str | None,
) -> list[str]:
    """The command line of a process that takes turn after turn on stdin, in the conversation `session` if there is one.

    Values are joined to their option with `=`, so that none can pass for an option. A tool may carry a pattern,
    as in `Bash(git *)`: the program gets the tool, and permission for what fits the pattern. All tools of the MCP
    `servers` are allowed.
    """
    names = list(dict.fromkeys(tool.partition("(")[0].strip() for tool in tools))
    argv = [
        str(program),
        "--print",
        "--verbose",
        "--input-format=stream-json",
        "--output-format=stream-json",
        # Exact token counts of each model call, and a sign of life while the model thinks for long.
        "--include-partial-messages",
        f"--mcp-config={mcp_config}",
        "--strict-mcp-config",
        "--setting-sources=",
        "--permission-mode=dontAsk",
        f"--tools={','.join(names)}",
        f"--allowedTools={','.join([*(f'mcp__{name}' for name in servers), *tools])}",
        # In a file: a single argument may have no more than 128 KiB.
        f"--append-system-prompt-file={identity}",
    ]
    if session is not None:
        argv.append(f"--resume={session}")
    if choice.model is not None:
        argv.append(f"--model={choice.model}")
    if choice.effort is not None:
        argv.append(f"--effort={choice.effort}")
    return argv


def environment(
    variables: Mapping[str, str], extra: Sequence[str], *, temporary: Path, claude_directory: Path, confined: bool
) -> dict[str, str]:
    """The program's environment, from nothing; `extra` are the patterns of agent.toml."""
    found = cli_launch.child_environment(variables, _NEEDED, extra)
    found.setdefault("MCP_TIMEOUT", str(START_SECONDS * 1_000))
    found |= {
        "TMPDIR": str(temporary),
        "CLAUDE_CONFIG_DIR": str(claude_directory),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # What ends in the background would begin a turn of its own, with nobody's message and no limits.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # Else the ninth time that messages come into a turn the turn ends, and the model has not seen them.
        "CLAUDE_CODE_STOP_HOOK_BLOCK_CAP": "0",
    }
    if confined:
        found["IS_SANDBOX"] = "1"
    return found


def mcp_config(hive: HiveServer, memory: Path, version: str, servers: Mapping[str, McpServer]) -> dict[str, object]:
    """The file for `--mcp-config`: the hive's server, loaded before the first request, and `servers` beside it.

    The hive's answers from `memory` until it has started, if that is of this `version`.
    """
    front = ["-I", "-S", mcp_cache.__file__, str(memory), version, hive.command, *hive.args]
    return {
        "mcpServers": {
            **{name: _described(server) for name, server in servers.items()},
            SERVER_NAME: {
                "type": "stdio",
                "command": hive.command,
                "args": front,
                "env": dict(hive.env),
                "alwaysLoad": True,
            },
        }
    }


def _described(server: McpServer) -> dict[str, object]:
    if server.url is not None:
        return {"type": "http", "url": server.url}
    return {"type": "stdio", "command": server.command, "args": server.args, "env": server.env}
