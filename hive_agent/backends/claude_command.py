"""How Claude Code is called: arguments, environment and MCP configuration. Pure, but for finding the program."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVER = "hive"
"""Name of the hive's MCP server: its tools are called `mcp__hive__<tool>`."""
TOOL_PREFIX = f"mcp__{SERVER}__"

_PASSED = re.compile(
    r"ANTHROPIC_\w+|CLAUDE_CODE_\w+|(?:HTTPS?|NO)_PROXY|(?:https?|no)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_\w+"
    r"|GIT_(?:AUTHOR|COMMITTER)_\w+|HIVE_AGENT_(?:APPLIED|CONFIG|DEPLOYED)"
)


class NoProgram(Exception):
    """Claude Code is not installed; the text says where it was looked for."""


def find_program(variables: Mapping[str, str]) -> Path:
    """`HIVE_CLAUDE`, or `claude` on PATH, or the one that the package claude-agent-sdk brings."""
    named = variables.get("HIVE_CLAUDE", "")
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise NoProgram(f"HIVE_CLAUDE names {named}, which is no program that can be run here")
    on_path = shutil.which("claude", path=variables.get("PATH", os.defpath))
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("claude_agent_sdk")  # finds without importing: the package is large
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        bundled = Path(place) / "_bundled" / "claude"
        if os.access(bundled, os.X_OK):
            return bundled
    raise NoProgram(
        "Claude Code was not found: no HIVE_CLAUDE, no `claude` on PATH, no package claude-agent-sdk. "
        "Install one of them (pip install 'hyperhive[claude]'), or set backend = \"scripted\" in agent.toml"
    )


def arguments(
    program: Path,
    *,
    mcp_config: Path,
    identity: str,
    tools: Sequence[str],
    servers: Sequence[str] = (SERVER,),
    model: str | None,
    snapshot_option: bool,
) -> list[str]:
    """The command line of one turn, which goes on with the conversation of the working directory.

    Values are joined to their option with `=`, so that none can pass for an option. A tool may carry a pattern,
    as in `Bash(git *)`: the program gets the tool, and permission for what fits the pattern. All tools of the MCP
    `servers` are allowed.
    """
    names = list(dict.fromkeys(tool.partition("(")[0].strip() for tool in tools))
    argv = [
        str(program),
        "--print",
        "--verbose",
        "--output-format=stream-json",
        "--continue",
        f"--mcp-config={mcp_config}",
        "--strict-mcp-config",
        "--setting-sources=",
        "--permission-mode=dontAsk",
        f"--tools={','.join(names)}",
        f"--allowedTools={','.join([*(f'mcp__{name}' for name in servers), *tools])}",
        f"--append-system-prompt={identity}",
    ]
    if snapshot_option:
        # Else a conversation keeps the identity that it began with, also after the agent was reconfigured.
        argv.append("--system-prompt-snapshot=off")
    if model is not None:
        argv.append(f"--model={model}")
    return argv


def child_environment(
    variables: Mapping[str, str], *, temporary: Path, claude_directory: Path, confined: bool
) -> dict[str, str]:
    """The program's environment, from nothing: nothing of the harness's own gets in unnamed."""
    environment = {key: variables[key] for key in ("PATH", "HOME", "LANG") if key in variables}
    environment |= {
        "TMPDIR": str(temporary),
        "CLAUDE_CONFIG_DIR": str(claude_directory),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    environment |= {key: value for key, value in variables.items() if _PASSED.fullmatch(key)}
    if confined:
        environment["IS_SANDBOX"] = "1"
    return environment


def mcp_config(
    python: str, module: str, environment: Mapping[str, str], servers: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The file for `--mcp-config`: the hive's server, loaded before the first request, and `servers` beside it."""
    return {
        "mcpServers": {
            **(servers or {}),
            SERVER: {
                "type": "stdio",
                "command": python,
                "args": ["-m", module, "mcp"],
                "env": dict(environment),
                "alwaysLoad": True,
            },
        }
    }
