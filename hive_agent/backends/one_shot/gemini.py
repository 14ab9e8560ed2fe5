"""The Gemini CLI: its command line, and its events.

Seen with version 0.61.0; the events are those of packages/core/src/output/types.ts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from hive_agent.backends import cli_launch, mcp_config
from hive_agent.backends.api_errors import judged
from hive_agent.backends.base import Backend, BackendContext, Choice, Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.one_shot.backend import CliCall, OneShotBackend
from hive_agent.backends.one_shot.reader import OutputReader, tool_result
from hive_agent.backends.tool_permissions import Allowed, allowed
from hive_agent.backends.transcript import Entry, Notice, TokenUsage, ToolCall, TranscriptText
from hive_agent.infra import state_files
from hive_agent.infra.json_text import count, field, text
from hive_agent.prompts import system_prompt
from hive_core.protocol import Effort, McpServer

_NEEDED = ("GEMINI_API_KEY", "GEMINI_MODEL", "GOOGLE_*")
_TOOLS: Mapping[str, Sequence[str]] = {
    "Bash": ("run_shell_command",),
    "Read": ("read_file", "read_many_files", "list_directory"),
    "Write": ("write_file",),
    "Edit": ("replace",),
    "Glob": ("glob",),
    "Grep": ("grep_search", "search_file_content"),
    "WebFetch": ("web_fetch",),
    "WebSearch": ("google_web_search",),
    "TodoWrite": ("write_todos",),
}
"""Gemini CLI's names for the tools that agent.toml names as Claude Code does."""
_BUDGETS: Mapping[Effort, int] = {"low": 1_024, "medium": 8_192, "high": 16_384, "max": 24_576}
"""Tokens that a model before Gemini 3 may think."""
_LEVELS: Mapping[Effort, str] = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH", "max": "HIGH"}
_MOST = 999
"""The highest priority of a policy's rule."""


def open_backend(context: BackendContext) -> Backend:
    """The gemini backend. Its program is looked for with every turn, so that installing it helps at once."""
    return OneShotBackend(context, Gemini(context))


class Gemini:
    """How the Gemini CLI is called."""

    name = "gemini"
    models: Sequence[str] = ()

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        config, variables = context.profile.config, context.environment.variables
        self._beside = mcp_config.other_servers(variables, config.mcp_servers, mcp_config.SERVER_NAME)
        self._identity = system_prompt.render(
            context.profile, context.role, context.environment, tool_prefix=f"mcp_{mcp_config.SERVER_NAME}_"
        )

    @property
    def home(self) -> Path:
        return self._context.environment.claude / "gemini"

    @property
    def _own(self) -> Path:
        return self.home / ".gemini"

    def call(self, choice: Choice, session: str | None) -> CliCall:
        where = self._context.environment
        program = cli_launch.find_program(where.variables, self.name, "HIVE_GEMINI", "@google/gemini-cli")
        rules = policy(allowed(self._context.profile.config.tools), [mcp_config.SERVER_NAME, *self._beside])
        self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_files.replace_lines(self._own / "GEMINI.md", [self._identity.encode()])
        state_files.replace_lines(self._own / "settings.json", [json.dumps(self._settings(choice)).encode()])
        state_files.replace_lines(self.home / "policy.toml", [tomli_w.dumps({"rule": rules}).encode()])
        argv = [
            str(program),
            "--output-format=stream-json",
            "--skip-trust",
            # A policy of this rank wins over settings in the working directory, which are the agent's own to write.
            f"--admin-policy={self.home / 'policy.toml'}",
        ]
        if session is not None:
            argv.append(f"--resume={session}")
        if choice.model is not None:
            argv.append(f"--model={choice.model}")
        return CliCall(argv, self._environment())

    def new_reader(self, known: StoredSession) -> GeminiReader:
        return GeminiReader(alone=not self._beside)

    def shown(self, prompt: str) -> str:
        """With no `@` that stands for a file, which the program would put into the prompt."""
        if "@" not in prompt:
            return prompt
        escaped = re.sub(r"(?<!\\)@", r"\\@", prompt)
        return f"(In what follows, each \\@ stands for the sign @ alone.)\n\n{escaped}"

    def logged_in(self) -> bool:
        return self._login() is not None

    @property
    def how_to_log_in(self) -> str:
        return (
            "Gemini CLI cannot be logged in from here. Either put GEMINI_API_KEY into pass_environment of the hive, "
            f"or log in where the agent runs, in a terminal: GEMINI_CLI_HOME={self.home} NO_BROWSER=true gemini"
        )

    def _login(self) -> str | None:
        """What the program calls the kind of credentials that there are."""
        variables = self._environment()
        if "GEMINI_API_KEY" in variables:
            return "gemini-api-key"
        if "GOOGLE_API_KEY" in variables or variables.get("GOOGLE_GENAI_USE_VERTEXAI") == "true":
            return "vertex-ai"
        return "oauth-personal" if (self._own / "oauth_creds.json").exists() else None

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        return cli_launch.child_environment(where.variables, _NEEDED, self._context.profile.config.environment) | {
            "TMPDIR": str(where.temporary),
            "GEMINI_CLI_HOME": str(self.home),
            "GEMINI_CLI_NO_RELAUNCH": "true",  # else it starts itself a second time, for a larger heap
            "NO_BROWSER": "true",
        }

    def _settings(self, choice: Choice) -> dict[str, Any]:
        """What settings.json holds (https://geminicli.com/docs/reference/configuration)."""
        context = self._context
        hive = mcp_config.describe_server(context.role, context.environment, context.instance)
        servers = {name: _server(server) for name, server in self._beside.items()}
        # Gemini CLI drops PYTHONPATH and its like from the `env` of a server.
        settled = [f"{name}={value}" for name, value in hive.env.items()]
        servers[mcp_config.SERVER_NAME] = _program("env", [*settled, hive.command, *hive.args], {})
        settings: dict[str, Any] = {
            # The harness itself tries again, with longer pauses.
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False, "maxAttempts": 2},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
            "model": {"maxSessionTurns": context.profile.config.max_steps},
            "mcpServers": servers,
        }
        login = self._login()
        if login is not None:
            settings["security"] = {"auth": {"selectedType": login}}
        if choice.effort is not None and choice.model is not None:
            settings["modelConfigs"] = {"customOverrides": [_thinking(choice.model, choice.effort)]}
        return settings


def policy(tools: Allowed, servers: Sequence[str]) -> list[dict[str, Any]]:
    """The rules of a policy file that allows these tools and all of the MCP `servers`, and nothing else.

    Raises BadConfig for a tool other than Bash that is to be used in some ways only.
    """
    tools.refuse_patterns("gemini", "Bash")
    rules: list[dict[str, Any]] = [{"toolName": "*", "decision": "deny", "priority": 1}]
    rules += [{"mcpName": name, "toolName": "*", "decision": "allow", "priority": _MOST} for name in servers]
    for name, patterns in tools.patterns.items():
        allow: dict[str, Any] = {"decision": "allow", "priority": _MOST}
        if name == "Bash":
            allow["allowRedirection"] = True
        if patterns:
            rules += [{"toolName": "run_shell_command", **_command(pattern), **allow} for pattern in patterns]
        else:
            rules.append({"toolName": list(_TOOLS.get(name, (name,))), **allow})
    return rules


def _command(pattern: str) -> dict[str, str]:
    """What the command has to be: `git *` is git with whatever arguments."""
    words = pattern.removesuffix(" *")
    if words != pattern and "*" not in words:
        return {"commandPrefix": words}
    # It is matched with the arguments as JSON, from the command's start.
    quoted = (re.escape(json.dumps(part)[1:-1]) for part in pattern.split("*"))
    return {"commandRegex": '[^"]*'.join(quoted) + '"'}


def _thinking(model: str, effort: Effort) -> dict[str, Any]:
    thinking = (
        {"thinkingLevel": _LEVELS[effort]} if model.startswith("gemini-3") else {"thinkingBudget": _BUDGETS[effort]}
    )
    return {
        "match": {"model": model},
        "modelConfig": {"generateContentConfig": {"thinkingConfig": thinking}},
    }


def _server(server: McpServer) -> dict[str, Any]:
    if server.command is None:
        return {"httpUrl": server.url, "trust": True, "timeout": mcp_config.CALL_SECONDS * 1_000}
    return _program(server.command, server.args, server.env)


def _program(command: str, args: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    return {
        "command": command,
        "args": list(args),
        "env": dict(variables),
        "trust": True,
        "timeout": mcp_config.CALL_SECONDS * 1_000,
    }


_NO_AUTH = 41
"""Exit code, as are the others (packages/core/src/utils/exitCodes.ts)."""
_BAD_CONFIG = 52
_MOST_SAID = 1_000_000
"""Characters of an answer that are put together from its pieces."""


@dataclass
class GeminiReader(OutputReader):
    """One run. `alone`: the hive's MCP server is the only one."""

    alone: bool = True
    said: str = ""
    """What the model says; it comes in pieces."""

    def take(self, event: Mapping[str, Any]) -> list[Entry]:
        kind = event.get("type")
        if kind == "message":
            if event.get("role") == "assistant" and len(self.said) < _MOST_SAID:
                self.said += text(event, "content")
            return []
        return [*self._whole_text(), *self._other(kind, event)]

    def _whole_text(self) -> list[Entry]:
        said, self.said = self.said, ""
        return [TranscriptText(said)] if said else []

    def _other(self, kind: object, event: Mapping[str, Any]) -> list[Entry]:
        match kind:
            case "init":
                self.session = text(event, "session_id")
            case "tool_use":
                return [ToolCall(text(event, "tool_id"), text(event, "tool_name"), field(event, "parameters"))]
            case "tool_result":
                failed = event.get("status") != "success"
                said = text(event, "output") or text(event, "error", "message")
                return [tool_result(text(event, "tool_id"), said, is_error=failed)]
            case "error":
                return [Notice("error" if event.get("severity") == "error" else "warning", text(event, "message"))]
            case "result":
                self._result(event)
                return [_usage(field(event, "stats"))]
        return []

    def _result(self, event: Mapping[str, Any]) -> None:
        if event.get("status") == "success":
            self.verdict = Ok()
        elif text(event, "error", "type") == "FatalTurnLimitedError":
            self.verdict = Failed("steps", "gemini stopped the turn: it has made all the model calls of max_steps")
        else:
            self.verdict = judged(text(event, "error", "message") or "gemini failed without a word")

    def take_complaint(self, line: str) -> list[Entry]:
        if line.startswith("MCP issues detected"):
            if self.alone:
                # Without the hive's tools no answer would reach anyone, and yet the turn would look well.
                self.verdict = Failed("no_tools", "gemini could not start the hive's MCP server")
            return [Notice("warning", "an MCP server did not start: its tools are missing")]
        if "Error resuming session" in line:
            self.lost = True
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        words = self.complaints.strip()
        if exit_code == _NO_AUTH:
            return NeedsLogin(f"gemini has no credentials: {words or 'it does not say more'}")
        if exit_code == _BAD_CONFIG:
            return Failed("config", words or "gemini does not take its configuration")
        return self.crash("gemini", exit_code)


def _usage(stats: object) -> TokenUsage:
    cached = count(stats, "cached")
    return TokenUsage(
        input=max(0, count(stats, "input_tokens") - cached), output=count(stats, "output_tokens"), cache_read=cached
    )
