"""The codex backend: one run of `codex exec` per turn, which goes on with the agent's conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from hive_agent import state_files
from hive_agent.backends import cli_launch, mcp_config, mcp_servers, programs
from hive_agent.backends.base import Backend, BackendContext, Choice
from hive_agent.backends.cli_session import Known
from hive_agent.backends.one_shot.backend import Call, OneShotBackend
from hive_agent.backends.one_shot.codex_events import CodexReading
from hive_agent.backends.tool_permissions import allowed
from hive_agent.prompts import system_prompt
from hive_core.protocol import Effort, McpServer

_NEEDED = ("CODEX_API_KEY", "OPENAI_*")
_KEYS = ("CODEX_API_KEY", "OPENAI_API_KEY")
_EFFORTS: Mapping[Effort, str] = {"low": "low", "medium": "medium", "high": "high", "max": "xhigh"}
_GATEWAY = "hive"
"""Name of the model provider that stands for OPENAI_BASE_URL."""
_IDENTITY_BYTES = 1024 * 1024
"""How much of AGENTS.md codex reads; a prompt.md has up to 100,000 characters."""


def open_backend(context: BackendContext) -> Backend:
    """The codex backend. Its program is looked for with every turn, so that installing it helps at once."""
    return OneShotBackend(context, Codex(context))


class Codex:
    """How codex is called."""

    name = "codex"
    models: Sequence[str] = ()

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._identity = system_prompt.render(
            context.profile, context.role, context.environment, tool_prefix=f"mcp__{mcp_config.NAME}__"
        )

    @property
    def home(self) -> Path:
        return self._context.environment.claude / "codex"

    def call(self, choice: Choice, session: str | None) -> Call:
        where = self._context.environment
        program = programs.find(where.variables, self.name, "HIVE_CODEX", "@openai/codex")
        configuration = self._configuration(choice)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What lies in CODEX_HOME under this name is read anew in each turn, also in a conversation that goes on.
        state_files.replace(self.home / "AGENTS.md", [self._identity.encode()])
        state_files.replace(self.home / "config.toml", [tomli_w.dumps(configuration).encode()])
        argv = [str(program), "exec"]
        if session is not None:
            argv += ["resume", session]
        return Call([*argv, "--json", "--skip-git-repo-check", "-"], self._environment())

    def reading(self, known: Known) -> CodexReading:
        return CodexReading(known=known, most_calls=self._context.profile.config.max_steps)

    def shown(self, prompt: str) -> str:
        return prompt

    def logged_in(self) -> bool:
        return any(name in self._environment() for name in _KEYS) or (self.home / "auth.json").exists()

    @property
    def how_to_log_in(self) -> str:
        return (
            "codex cannot be logged in from here. Either put OPENAI_API_KEY into pass_environment of the hive, or log "
            f"in where the agent runs, in a terminal: CODEX_HOME={self.home} codex login --device-auth"
        )

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        found = cli_launch.environment(where.variables, _NEEDED, self._context.profile.config.environment)
        if "OPENAI_API_KEY" in found:
            found.setdefault("CODEX_API_KEY", found["OPENAI_API_KEY"])  # the one that `codex exec` looks at
        return found | {"TMPDIR": str(where.temporary), "CODEX_HOME": str(self.home)}

    def _configuration(self, choice: Choice) -> dict[str, Any]:
        """What config.toml holds (https://developers.openai.com/codex/config-reference). Raises BadConfig."""
        context = self._context
        config, variables = context.profile.config, context.environment.variables
        tools = allowed(config.tools)
        tools.refuse_patterns(self.name)
        beside = mcp_servers.beside(variables, config.mcp_servers, mcp_config.NAME)
        hive = mcp_config.describe(context.role, context.environment, context.instance)
        servers = {name: _server(server) for name, server in beside.items()}
        servers[mcp_config.NAME] = _program(hive.command, hive.args, hive.env) | {"required": True}
        written: dict[str, Any] = {
            "check_for_update_on_startup": False,
            "approval_policy": "never",
            # Whatever may write is confined by the agent's container, not by a second sandbox in it.
            "sandbox_mode": "danger-full-access" if tools.some("Bash", "Write", "Edit") else "read-only",
            "web_search": "live" if tools.some("WebSearch") else "disabled",
            "project_doc_max_bytes": _IDENTITY_BYTES,
            "analytics": {"enabled": False},
            "agents": {"enabled": tools.some("Task")},
            "features": {"shell_tool": tools.some("Bash"), "apps": False, "plugins": False},
            # Names like GH_TOKEN that agent.toml lists are for the commands that the model runs; codex's key is not.
            "shell_environment_policy": {
                "inherit": "all",
                "ignore_default_excludes": True,
                "exclude": list(_KEYS),
            },
            "mcp_servers": servers,
            # Its configuration in the working directory is the agent's own to write.
            "projects": {str(context.environment.state): {"trust_level": "untrusted"}},
        }
        if choice.model is not None:
            written["model"] = choice.model
        if choice.effort is not None:
            written["model_reasoning_effort"] = _EFFORTS[choice.effort]
        url = variables.get("OPENAI_BASE_URL", "")
        if url:
            written["model_provider"] = _GATEWAY
            written["model_providers"] = {
                _GATEWAY: {
                    "name": "OPENAI_BASE_URL",
                    "base_url": url,
                    "env_key": "CODEX_API_KEY",
                    "wire_api": "responses",
                    # The harness itself tries again, with longer pauses.
                    "request_max_retries": 2,
                    "stream_max_retries": 2,
                }
            }
        return written


def _server(server: McpServer) -> dict[str, Any]:
    if server.command is None:
        return {"url": server.url, **_PATIENCE}
    return _program(server.command, server.args, server.env)


def _program(command: str, args: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    return {"command": command, "args": list(args), "env": dict(variables), **_PATIENCE}


_PATIENCE = {
    "startup_timeout_sec": mcp_config.START_SECONDS,
    "tool_timeout_sec": mcp_config.CALL_SECONDS,
    "default_tools_approval_mode": "approve",
}
