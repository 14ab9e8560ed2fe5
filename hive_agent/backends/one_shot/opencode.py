"""The opencode CLI: its command line and its events.

Tested with version 1.18.33; the events are those of `emit` in its packages/opencode/src/cli/cmd/run.ts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_agent.backends import cli_launch, mcp_config
from hive_agent.backends.api_errors import classify_error
from hive_agent.backends.base import Backend, BackendContext, Choice, Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.one_shot.backend import CliCall, OneShotBackend
from hive_agent.backends.one_shot.reader import OutputReader, tool_result
from hive_agent.backends.tool_permissions import Allowed, parse_tools
from hive_agent.backends.transcript import Entry, Notice, TokenUsage, ToolCall, TranscriptText
from hive_agent.infra import state_files
from hive_agent.infra.json_text import count, field, text
from hive_agent.infra.turn_environment import BACKEND_VARIABLES
from hive_agent.prompts import system_prompt
from hive_agent.repositories.places import Workplace, find_workplace
from hive_core.protocol import McpServer
from hive_core.protocol.models.vendors import VendorApi

_NEEDED = BACKEND_VARIABLES["opencode"]
_BASE_URLS: Mapping[str, tuple[str, str]] = {
    "anthropic": ("ANTHROPIC_BASE_URL", "/v1"),
    "openai": ("OPENAI_BASE_URL", "/v1"),
    "google": ("GOOGLE_GEMINI_BASE_URL", "/v1beta"),
}
"""Variables with addresses by provider, and the version of the API that opencode needs in them."""
_KEYS: Mapping[str, Sequence[str]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "google": ("GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
    "openrouter": ("OPENROUTER_API_KEY",),
}
"""Variables by provider, of which one must be set. What listens at another address may need no key."""
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
"""opencode's names of the tools; agent.toml uses the names of Claude Code. `edit` covers all changes of files."""


_PROJECT_SETTINGS = (".opencode", "opencode.json", "opencode.jsonc")
"""The settings of a repository, with plugins, of which opencode runs some there whatever its switches say."""
_INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md")
"""Files with instructions for agents, of which opencode reads a repository's first one."""
_SKILLS = (".opencode/skills", ".opencode/skill", ".claude/skills", ".agents/skills")
"""The directories with the skills of a repository."""


def open_backend(context: BackendContext) -> Backend:
    """Open the backend. It searches its program at every turn, so that an installation takes effect at once."""
    return OneShotBackend(context, Opencode(context))


class Opencode:
    """The command line and configuration of opencode."""

    name = "opencode"
    models: Sequence[str] = ()

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._identity = system_prompt.render(
            context.profile, context.role, context.environment, tool_prefix=f"{mcp_config.SERVER_NAME}_"
        )

    @property
    def home(self) -> Path:
        return self._context.environment.claude / "opencode"

    @property
    def own_files(self) -> Sequence[Path]:
        names = ("config/opencode/opencode.json", "data/opencode/auth.json", "state/opencode/model.json")
        return [self.home / name for name in (*names, "state/opencode/kv.json")]

    def check(self, choice: Choice) -> None:
        self._program()
        parse_tools(self._context.profile.config.tools)

    def _program(self) -> Path:
        return cli_launch.find_program(self._context.environment.variables, self.name, "HIVE_OPENCODE", "opencode-ai")

    def prepare_call(self, choice: Choice, session: str | None) -> CliCall:
        program = self._program()
        model = _model(choice.model, self._context.profile.provider_api)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_files.replace_lines(self.home / "identity.md", [self._identity.encode()])
        # opencode replaces `{env:NAME}` and `{file:PATH}` in the text before it parses it as JSON.
        configuration = json.dumps(self._configuration(model)).replace("{env:", "\\u007benv:")
        configuration = configuration.replace("{file:", "\\u007bfile:")
        state_files.replace_lines(self.home / "opencode.json", [configuration.encode()])
        argv = [
            str(program),
            "run",
            "--pure",
            "--format=json",
            "--print-logs",
            "--log-level=WARN",
            # Without a title, the model is called to create one.
            f"--title={self._context.profile.name}",
        ]
        if session is not None:
            argv.append(f"--session={session}")
        if model is not None:
            argv.append(f"--model={model}")
        if choice.effort is not None:
            argv.append(f"--variant={choice.effort}")
        return CliCall(argv, self._environment(), self._workplace().directory)

    def _workplace(self) -> Workplace:
        return find_workplace(self._context.profile, self._context.environment, _PROJECT_SETTINGS)

    def new_reader(self, known: StoredSession) -> OpencodeReader:
        return OpencodeReader()

    def escape_prompt(self, prompt: str) -> str:
        return prompt

    def logged_in(self) -> bool:
        variables = self._environment()
        keys = ("_API_KEY", "_AUTH_TOKEN")
        return any(name.endswith(keys) for name in variables) or (self.home / "data/opencode/auth.json").exists()

    def can_call(self, choice: Choice) -> bool:
        """Return False without a key or address for the model's provider, if that is one that wants a key.

        opencode has a login file for all providers, and models of its own that need no key.
        """
        if (self.home / "data/opencode/auth.json").exists():
            return True
        provider = (_model(choice.model, self._context.profile.provider_api) or "").partition("/")[0]
        variables = self._environment()
        return not (keys := _KEYS.get(provider, ())) or any(variables.get(key) for key in keys)

    @property
    def how_to_log_in(self) -> str:
        return (
            "set the key of the model's provider (such as ANTHROPIC_API_KEY) and add it to "
            "pass_environment of the hive, or log in where the agent runs, in a terminal: "
            f"XDG_DATA_HOME={self.home}/data opencode auth login"
        )

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        return cli_launch.turn_environment(where, _NEEDED, self._context.profile.config) | {
            "TMPDIR": str(where.temporary),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "OPENCODE_CONFIG": str(self.home / "opencode.json"),
            # The agent could write files in the working directory that allow more than agent.toml.
            "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
            "OPENCODE_DISABLE_CLAUDE_CODE": "1",
            "OPENCODE_DISABLE_EXTERNAL_SKILLS": "1",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_SHARE": "1",
            # Features of interactive use, without which the start is faster.
            "OPENCODE_DISABLE_EMBEDDED_WEB_UI": "1",
            "OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER": "1",
        }

    def _configuration(self, model: str | None) -> dict[str, Any]:
        """The content of opencode.json (https://opencode.ai/docs/config). Raises OSError."""
        context = self._context
        config, variables = context.profile.config, context.environment.variables
        others = mcp_config.other_servers(variables, config.mcp_servers, mcp_config.SERVER_NAME)
        others = mcp_config.prepare_servers(context.environment, others, config)
        hive = mcp_config.describe_server(context.role, context.environment, context.instance)
        servers = {name: _server(server) for name, server in others.items()}
        servers[mcp_config.SERVER_NAME] = _program([hive.command, *hive.args], hive.env)
        clone = self._workplace().instructed
        written: dict[str, Any] = {
            "autoupdate": False,
            "share": "disabled",
            "snapshot": False,
            "instructions": [str(self.home / "identity.md"), *_instructions(clone)],
            "permission": permissions(parse_tools(config.tools), servers),
            "mcp": servers,
            "provider": _providers(variables, model),
        }
        if clone is not None:
            written["skills"] = {"paths": [str(clone / each) for each in _SKILLS]}
            written["permission"]["skill"] = "allow"
        return written


def _instructions(clone: Path | None) -> list[str]:
    """Return the path of the file with the instructions of a repository, if it has one."""
    return [str(clone / name) for name in _INSTRUCTIONS if clone is not None and (clone / name).is_file()][:1]


def permissions(tools: Allowed, servers: Sequence[str] | Mapping[str, object]) -> dict[str, Any]:
    """The permissions of opencode: the last matching rule counts, and the model does not see tools that are denied."""
    rules: dict[str, Any] = {"*": "deny", "external_directory": "allow"}
    rules |= {f"{name}_*": "allow" for name in servers}
    for name, patterns in tools.patterns.items():
        known = _PERMISSIONS.get(name, name)
        if not patterns:
            rules[known] = "allow"
        elif rules.get(known) != "allow":
            rules[known] = {**rules.get(known, {"*": "deny"}), **dict.fromkeys(patterns, "allow")}
    return rules


def _model(named: str | None, api: VendorApi | None) -> str | None:
    """Return the name of a model as opencode has it, `provider/model`.

    With the API of the hive's provider, all models are that one's, and a slash may be a part of their own names.
    """
    if named is None or (api is None and "/" in named):
        return named
    return named if api is not None and named.startswith(f"{api}/") else f"{api or 'anthropic'}/{named}"


def _providers(variables: Mapping[str, str], model: str | None) -> dict[str, Any]:
    providers: dict[str, Any] = {}
    for provider, (variable, version) in _BASE_URLS.items():
        url = variables.get(variable, "").rstrip("/")
        if url:
            base = url if url.endswith(version) else f"{url}{version}"
            providers[provider] = {"options": {"baseURL": base}}
    if model is not None:
        provider, _, name = model.partition("/")
        # Declared, because opencode refuses models that are newer than itself.
        providers.setdefault(provider, {})["models"] = {name: {}}
    return providers


def _server(server: McpServer) -> dict[str, Any]:
    if server.command is None:
        return {"type": "remote", "url": server.url, "enabled": True, "timeout": mcp_config.CALL_SECONDS * 1_000}
    return _program([server.command, *server.args], server.env)


def _program(command: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "local",
        "command": list(command),
        "environment": dict(variables),
        "enabled": True,
        # For the start and for each call, which may wait long. A server that hangs at its start shows as a turn without
        # output.
        "timeout": mcp_config.CALL_SECONDS * 1_000,
    }


_TRIES = 4
"""Failed calls of the model in a row after which the turn fails: opencode itself would retry for ever."""
_ERROR = re.compile(r'error\.error="((?:[^"\\]|\\.)*)"')
_LOGIN = "ProviderAuthError"
_TOO_LONG = "ContextOverflowError"


@dataclass
class OpencodeReader(OutputReader):
    """Reads the events of one run."""

    failure: Failed | NeedsLogin | None = None
    """The last error event; reset by the next output of the model."""
    steps: int = 0
    failing: int = 0
    """Failed calls of the model since its last output."""

    def read_event(self, event: Mapping[str, Any]) -> list[Entry]:
        self.session = self.session or text(event, "sessionID")
        self.settled = False
        part = field(event, "part")
        match event.get("type"):
            case "step_start":
                self.failing, self.failure = 0, None
            case "text":
                return [TranscriptText(text(part, "text"))]
            case "tool_use":
                return self._tool(part)
            case "step_finish":
                self.steps += 1
                self.settled = text(part, "reason") not in ("", "tool-calls")
                return [_usage(part)]
            case "error":
                self.failure = _failure(field(event, "error"))
        return []

    def _tool(self, part: object) -> list[Entry]:
        """The entries of a tool call, which opencode reports when it has ended."""
        call, state = text(part, "callID"), field(part, "state")
        failed = text(state, "status") == "error"
        output = text(state, "error") if failed else text(state, "output")
        return [
            ToolCall(call, text(part, "tool"), field(state, "input")),
            tool_result(call, output, is_error=failed),
        ]

    def read_stderr_line(self, line: str) -> list[Entry]:
        if 'message="server unavailable"' in line:
            name = line.partition(" key=")[2].partition(" ")[0]
            if name == mcp_config.SERVER_NAME:
                # Without the hive's tools the model cannot send answers, but the turn would count as successful.
                self.verdict = Failed("no_tools", "opencode could not start the hive's MCP server")
                return []
            return [Notice("warning", f"the MCP server {name} did not start: its tools are missing")]
        if 'message="stream error"' in line and "small=true" not in line:
            found = _ERROR.search(line)
            message = found[1] if found else line
            self.failing += 1
            if self.failing >= _TRIES:
                verdict = classify_error(message)
                if isinstance(verdict, Failed) and verdict.kind == "refused":
                    # opencode retries only temporary errors, but the log lacks the status that says so.
                    verdict = Failed("overloaded", message)
                self.verdict = verdict
            return [Notice("warning", f"the model's API failed: {message}", repeat=self.failing)]
        if "Session not found" in line:
            self.lost = True
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        if self.failure is not None:
            return self.failure
        if self.settled or (exit_code == 0 and self.steps):
            return Ok()
        found = re.search(r"ProviderModelNotFoundError: ([^\"\\]*)", self.stderr)
        return Failed("config", f"opencode: {found[1]}") if found else self.crash("opencode", exit_code)


def _usage(part: object) -> TokenUsage:
    tokens = field(part, "tokens")
    cost = field(part, "cost")
    usage = TokenUsage(
        input=count(tokens, "input"),
        output=count(tokens, "output") + count(tokens, "reasoning"),
        cache_read=count(tokens, "cache", "read"),
        cache_write=count(tokens, "cache", "write"),
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
    )
    full = usage.input + usage.output + usage.cache_read + usage.cache_write
    return TokenUsage(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cost_usd, context=full)


def _failure(error: object) -> Failed | NeedsLogin:
    name = text(error, "name")
    message = text(error, "data", "message") or name or "opencode reports an error without a message"
    if name == _LOGIN:
        return NeedsLogin(message)
    if name == _TOO_LONG:
        return Failed("too_long", message)
    retry_after = text(error, "data", "responseHeaders", "retry-after")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10 else None
    return classify_error(message, count(error, "data", "statusCode") or None, seconds)
