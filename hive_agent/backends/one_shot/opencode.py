"""The opencode backend: one run of opencode per turn, which goes on with the agent's conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hive_agent import state_files
from hive_agent.backends import cli_launch, mcp_config, mcp_servers, programs
from hive_agent.backends.base import Backend, BackendContext, Choice
from hive_agent.backends.cli_session import Known
from hive_agent.backends.one_shot.backend import Call, OneShotBackend
from hive_agent.backends.one_shot.opencode_events import OpencodeReading
from hive_agent.backends.tool_permissions import Allowed, allowed
from hive_agent.prompts import system_prompt
from hive_core.protocol import McpServer

_NEEDED = (
    "ANTHROPIC_*",
    "OPENAI_*",
    "GEMINI_API_KEY",
    "GOOGLE_GENERATIVE_AI_API_KEY",
    "OPENROUTER_API_KEY",
    "OPENCODE_API_KEY",
)
_BASE_URLS = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL"}
_PERMISSIONS = {
    "Bash": "bash",
    "Read": "read",
    "Write": "edit",
    "Edit": "edit",
    "Glob": "glob",
    "Grep": "grep",
    "LS": "list",
    "WebFetch": "webfetch",
    "WebSearch": "websearch",
    "Task": "task",
    "TodoWrite": "todowrite",
}
"""opencode's names for the tools that agent.toml names as Claude Code does; `edit` stands for all changes of files."""


def open_backend(context: BackendContext) -> Backend:
    """The opencode backend. Its program is looked for with every turn, so that installing it helps at once."""
    return OneShotBackend(context, Opencode(context))


class Opencode:
    """How opencode is called."""

    name = "opencode"
    models: Sequence[str] = ()

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._identity = system_prompt.render(
            context.profile, context.role, context.environment, tool_prefix=f"{mcp_config.NAME}_"
        )

    @property
    def home(self) -> Path:
        return self._context.environment.claude / "opencode"

    def call(self, choice: Choice, session: str | None) -> Call:
        where = self._context.environment
        program = programs.find(where.variables, self.name, "HIVE_OPENCODE", "opencode-ai")
        model = _model(choice.model)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_files.replace(self.home / "identity.md", [self._identity.encode()])
        state_files.replace(self.home / "opencode.json", [json.dumps(self._configuration(model)).encode()])
        argv = [
            str(program),
            "run",
            "--pure",
            "--format=json",
            "--print-logs",
            "--log-level=WARN",
            # Else the model is asked for one.
            f"--title={self._context.profile.name}",
        ]
        if session is not None:
            argv.append(f"--session={session}")
        if model is not None:
            argv.append(f"--model={model}")
        if choice.effort is not None:
            argv.append(f"--variant={choice.effort}")
        return Call(argv, self._environment())

    def reading(self, known: Known) -> OpencodeReading:
        return OpencodeReading()

    def shown(self, prompt: str) -> str:
        return prompt

    def logged_in(self) -> bool:
        variables = self._environment()
        keys = ("_API_KEY", "_AUTH_TOKEN")
        return any(name.endswith(keys) for name in variables) or (self.home / "data/opencode/auth.json").exists()

    @property
    def how_to_log_in(self) -> str:
        return (
            "opencode cannot be logged in from here. Either put a provider's key (such as ANTHROPIC_API_KEY) into "
            "pass_environment of the hive, or log in where the agent runs, in a terminal: "
            f"XDG_DATA_HOME={self.home}/data opencode auth login"
        )

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        return cli_launch.environment(where.variables, _NEEDED, self._context.profile.config.environment) | {
            "TMPDIR": str(where.temporary),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "OPENCODE_CONFIG": str(self.home / "opencode.json"),
            # Files in the working directory are the agent's: it could allow itself what agent.toml does not.
            "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
            "OPENCODE_DISABLE_CLAUDE_CODE": "1",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_SHARE": "1",
            # What only people need who sit before it; its start takes seconds without these as well.
            "OPENCODE_DISABLE_EMBEDDED_WEB_UI": "1",
            "OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER": "1",
        }

    def _configuration(self, model: str | None) -> dict[str, Any]:
        """What opencode.json holds (https://opencode.ai/docs/config)."""
        context = self._context
        config, variables = context.profile.config, context.environment.variables
        beside = mcp_servers.beside(variables, config.mcp_servers, mcp_config.NAME)
        hive = mcp_config.describe(context.role, context.environment, context.instance)
        servers = {name: _server(server) for name, server in beside.items()}
        servers[mcp_config.NAME] = _program([hive.command, *hive.args], hive.env)
        return {
            "autoupdate": False,
            "share": "disabled",
            "snapshot": False,
            "instructions": [str(self.home / "identity.md")],
            "permission": permissions(allowed(config.tools), servers),
            "mcp": servers,
            "provider": _providers(variables, model),
        }


def permissions(tools: Allowed, servers: Sequence[str] | Mapping[str, object]) -> dict[str, Any]:
    """What opencode may do: the last rule that fits counts, and what is denied altogether the model is not shown."""
    rules: dict[str, Any] = {"*": "deny", "external_directory": "allow"}
    rules |= {f"{name}_*": "allow" for name in servers}
    for name, patterns in tools.patterns.items():
        known = _PERMISSIONS.get(name, name)
        if not patterns:
            rules[known] = "allow"
        elif rules.get(known) != "allow":
            rules[known] = {**rules.get(known, {"*": "deny"}), **dict.fromkeys(patterns, "allow")}
    return rules


def _model(named: str | None) -> str | None:
    """opencode names models `provider/model`."""
    return named if named is None or "/" in named else f"anthropic/{named}"


def _providers(variables: Mapping[str, str], model: str | None) -> dict[str, Any]:
    providers: dict[str, Any] = {}
    for provider, variable in _BASE_URLS.items():
        url = variables.get(variable, "").rstrip("/")
        if url:
            # opencode wants the version in it; the variables have it or have it not.
            base = url if url.endswith("/v1") else f"{url}/v1"
            providers[provider] = {"options": {"baseURL": base}}
    if model is not None:
        provider, _, name = model.partition("/")
        # Else one that is newer than opencode would be refused.
        providers.setdefault(provider, {})["models"] = {name: {}}
    return providers


def _server(server: McpServer) -> dict[str, Any]:
    if server.command is None:
        return {"type": "remote", "url": server.url, "enabled": True}
    return _program([server.command, *server.args], server.env)


def _program(command: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "local",
        "command": list(command),
        "environment": dict(variables),
        "enabled": True,
        "timeout": mcp_config.START_SECONDS * 1_000,
    }
