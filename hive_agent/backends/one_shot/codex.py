"""The codex CLI: its command line, and its events.

Seen with version 0.169.0; the events are those of codex-rs/exec/src/exec_events.rs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from hive_agent.backends import cli_launch, mcp_config
from hive_agent.backends.api_errors import judged
from hive_agent.backends.base import Backend, BackendContext, Choice, Failed, Ok, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.one_shot.backend import CliCall, OneShotBackend
from hive_agent.backends.one_shot.reader import SHOWN_RESULT, OutputReader, tool_result
from hive_agent.backends.tool_permissions import allowed
from hive_agent.backends.transcript import Entry, Notice, TokenUsage, ToolCall, TranscriptText
from hive_agent.infra import json_text, state_files
from hive_agent.infra.json_text import count, shortened, text
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
            context.profile, context.role, context.environment, tool_prefix=f"mcp__{mcp_config.SERVER_NAME}__"
        )

    @property
    def home(self) -> Path:
        return self._context.environment.claude / "codex"

    def call(self, choice: Choice, session: str | None) -> CliCall:
        where = self._context.environment
        program = cli_launch.find_program(where.variables, self.name, "HIVE_CODEX", "@openai/codex")
        configuration = self._configuration(choice)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What lies in CODEX_HOME under this name is read anew in each turn, also in a conversation that goes on.
        state_files.replace_lines(self.home / "AGENTS.md", [self._identity.encode()])
        state_files.replace_lines(self.home / "config.toml", [tomli_w.dumps(configuration).encode()])
        argv = [str(program), "exec"]
        if session is not None:
            argv += ["resume", session]
        return CliCall([*argv, "--json", "--skip-git-repo-check", "-"], self._environment())

    def new_reader(self, known: StoredSession) -> CodexReader:
        return CodexReader(known=known, most_calls=self._context.profile.config.max_steps)

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
        found = cli_launch.child_environment(where.variables, _NEEDED, self._context.profile.config.environment)
        if "OPENAI_API_KEY" in found:
            found.setdefault("CODEX_API_KEY", found["OPENAI_API_KEY"])  # the one that `codex exec` looks at
        return found | {"TMPDIR": str(where.temporary), "CODEX_HOME": str(self.home)}

    def _configuration(self, choice: Choice) -> dict[str, Any]:
        """What config.toml holds (https://developers.openai.com/codex/config-reference). Raises BadConfig."""
        context = self._context
        config, variables = context.profile.config, context.environment.variables
        tools = allowed(config.tools)
        tools.refuse_patterns(self.name)
        beside = mcp_config.other_servers(variables, config.mcp_servers, mcp_config.SERVER_NAME)
        hive = mcp_config.describe_server(context.role, context.environment, context.instance)
        servers = {name: _server(server) for name, server in beside.items()}
        servers[mcp_config.SERVER_NAME] = _program(hive.command, hive.args, hive.env) | {"required": True}
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


_WORK = ("command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call")


@dataclass
class CodexReader(OutputReader):
    """One run of a conversation. `most_calls` is how many tool calls it may make."""

    known: StoredSession = field(default_factory=StoredSession)
    most_calls: int = 10_000
    called: set[str] = field(default_factory=set)
    """Tool calls that were told; codex tells of some only when they are over."""
    total: StoredSession | None = None
    """The sums that codex gave at the end."""

    def take(self, event: Mapping[str, Any]) -> list[Entry]:
        item = json_text.field(event, "item")
        match event.get("type"):
            case "thread.started":
                self.session = text(event, "thread_id")
            case "item.started" if text(item, "type") in _WORK:
                return self._call(item)
            case "item.completed":
                return self._completed(item)
            case "error":
                return [Notice("warning", text(event, "message"))]
            case "turn.completed":
                self.settled, self.verdict = True, Ok()
                return [self._usage(json_text.field(event, "usage"))]
            case "turn.failed":
                self.verdict = judged(text(event, "error", "message") or "codex failed without a word")
        return []

    def _call(self, item: object) -> list[Entry]:
        call = text(item, "id")
        if call in self.called:
            return []
        self.called.add(call)
        if len(self.called) > self.most_calls:
            self.verdict = Failed("steps", f"the turn was stopped after {self.most_calls} tool calls (max_steps)")
        return [ToolCall(call, _name(item), _input(item))]

    def _completed(self, item: object) -> list[Entry]:
        match text(item, "type"):
            case "agent_message":
                return [TranscriptText(text(item, "text"))]
            case "error":
                return [Notice("warning", text(item, "message"))]
            case kind if kind in _WORK:
                failed = text(item, "status") in ("failed", "declined") or count(item, "exit_code") != 0
                return [*self._call(item), tool_result(text(item, "id"), _said(item), is_error=failed)]
        return []

    def _usage(self, usage: object) -> TokenUsage:
        """Of this turn: codex gives the sums of the whole conversation."""
        before = self.known if self.known.id == self.session else StoredSession()
        self.total = StoredSession(
            input=count(usage, "input_tokens"),
            cached=count(usage, "cached_input_tokens"),
            output=count(usage, "output_tokens"),
        )
        taken = max(0, self.total.input - before.input)
        cached = max(0, self.total.cached - before.cached)
        return TokenUsage(
            input=max(0, taken - cached), output=max(0, self.total.output - before.output), cache_read=cached
        )

    def sums(self, known: StoredSession) -> StoredSession:
        if self.total is None:
            return known
        return self.total.model_copy(update={"id": known.id})

    def take_complaint(self, line: str) -> list[Entry]:
        if "no rollout found" in line:
            self.lost = True
        elif "required MCP servers failed to initialize" in line:
            self.verdict = Failed(
                "no_tools", f"codex could not start the MCP server `{mcp_config.SERVER_NAME}` of the hive"
            )
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        return self.crash("codex", exit_code)


def _name(item: object) -> str:
    if text(item, "type") == "mcp_tool_call":
        return f"mcp__{text(item, 'server')}__{text(item, 'tool')}"
    return text(item, "type")


def _input(item: object) -> Any:
    for key in ("arguments", "command", "changes", "query", "prompt"):
        found = json_text.field(item, key)
        if found is not None:
            return found if key == "arguments" else {key: found}
    return {}


def _said(item: object) -> str:
    """What the tool answered, as text."""
    output = text(item, "aggregated_output") or text(item, "error", "message")
    if output:
        return output
    content = json_text.field(item, "result", "content")
    parts = content if isinstance(content, list) else []
    return "\n".join(text(part, "text") or json.dumps(shortened(part, SHOWN_RESULT)) for part in parts)
