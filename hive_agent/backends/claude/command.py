"""The command line, environment and MCP configuration of Claude Code. No I/O, except for finding the program."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hive_agent.backends.base import Choice
from hive_agent.backends.claude import mcp_cache
from hive_agent.backends.cli_launch import ProgramNotFound, named_program
from hive_agent.backends.mcp_config import SERVER_NAME, START_SECONDS, HiveServer
from hive_agent.infra.turn_environment import BACKEND_VARIABLES, child_environment
from hive_core.protocol import McpServer

TOOL_PREFIX = f"mcp__{SERVER_NAME}__"
"""Prefix of the names of the hive's tools."""
PROJECT_SETTINGS = (".claude/settings.json",)
"""The settings of a repository that Claude Code obeys if it runs there and reads its CLAUDE.md: keys, variables,
permissions and programs.
"""
_CLOSED = {"disableAllHooks": True, "disableSkillShellExecution": True}
"""Settings against what skills may have: hooks, and commands whose output becomes a part of the text."""
_NEEDED = BACKEND_VARIABLES["claude"]


def find_program(variables: Mapping[str, str]) -> Path:
    """Find the program: `HIVE_CLAUDE`, or `claude` on the PATH, or the one of the package claude-agent-sdk.

    Raises ProgramNotFound.
    """
    named = named_program(variables, "HIVE_CLAUDE")
    if named is not None:
        return named
    on_path = shutil.which("claude", path=variables.get("PATH", os.defpath))
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("claude_agent_sdk")  # does not import the package, which is large
    for directory in (spec.submodule_search_locations or []) if spec is not None else []:
        bundled = Path(directory) / "_bundled" / "claude"
        if os.access(bundled, os.X_OK):
            return bundled
    raise ProgramNotFound(
        "the program claude is not installed: no HIVE_CLAUDE, no `claude` on PATH, no package claude-agent-sdk. "
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
    instructed: Path | None = None,
    apart: bool = False,
) -> list[str]:
    """The command line of a process that reads prompts from stdin and continues the conversation `session`, if any.

    Values are joined to their option with `=`, so that none can be parsed as an option. A tool may have a pattern, as
    in `Bash(git *)`: the tool is available, and uses that match the pattern are permitted. All tools of the MCP
    `servers` are permitted.

    `instructed` is a repository whose CLAUDE.md and skills are read; `apart` is True if it is not the working
    directory.
    """
    if instructed is not None:
        tools = [*tools, "Skill"]
    names = list(dict.fromkeys(tool.partition("(")[0].strip() for tool in tools))
    argv = [
        str(program),
        "--print",
        "--verbose",
        "--input-format=stream-json",
        "--output-format=stream-json",
        # For exact token counts of each model call, and for output while the model thinks for long.
        "--include-partial-messages",
        f"--mcp-config={mcp_config}",
        "--strict-mcp-config",
        # With the source "project" come the settings of the working directory, which must have none, and CLAUDE.md.
        f"--setting-sources={'project' if instructed is not None else ''}",
        "--permission-mode=dontAsk",
        f"--tools={','.join(names)}",
        f"--allowedTools={','.join([*(f'mcp__{name}' for name in servers), *tools])}",
        # In a file, because a single argument may have at most 128 KiB.
        f"--append-system-prompt-file={identity}",
    ]
    if instructed is not None:
        argv.append(f"--settings={json.dumps(_CLOSED)}")
        argv += [f"--add-dir={instructed}"] if apart else []
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
    """The complete environment of the program; `extra` are the patterns of agent.toml."""
    found = child_environment(variables, _NEEDED, extra)
    found.setdefault("MCP_TIMEOUT", str(START_SECONDS * 1_000))
    found |= {
        "TMPDIR": str(temporary),
        "CLAUDE_CONFIG_DIR": str(claude_directory),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # A background task that ends would start a turn without a message and without limits.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # Else the turn ends when messages are added for the ninth time, without the model having seen them.
        "CLAUDE_CODE_STOP_HOOK_BLOCK_CAP": "0",
        # For what is not sent as a part of its own, such as the focus of a compaction.
        "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
        # For a repository that is not the working directory.
        "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
    }
    if confined:
        found["IS_SANDBOX"] = "1"
    return found


def mcp_config(hive: HiveServer, cache: Path, version: str, servers: Mapping[str, McpServer]) -> dict[str, object]:
    """The content of the file for `--mcp-config`: the hive's server, loaded before the first request, and `servers`.

    The hive's server answers from `cache` until it has started, if the cache is of this `version`.
    """
    proxy = ["-I", "-S", mcp_cache.__file__, str(cache), version, hive.command, *hive.args]
    return {
        "mcpServers": {
            **{name: _described(server) for name, server in servers.items()},
            SERVER_NAME: {
                "type": "stdio",
                "command": hive.command,
                "args": proxy,
                "env": dict(hive.env),
                "alwaysLoad": True,
            },
        }
    }


def _described(server: McpServer) -> dict[str, object]:
    if server.url is not None:
        return {"type": "http", "url": server.url}
    return {"type": "stdio", "command": server.command, "args": server.args, "env": server.env}
