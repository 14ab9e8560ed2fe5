"""The codex CLI: its command line and its events.

Tested with version 0.169.0; the events are those of codex-rs/exec/src/exec_events.rs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from hive_agent.backends import cli_launch, mcp_config
from hive_agent.backends.api_errors import classify_error
from hive_agent.backends.base import Backend, BackendContext, Choice, Failed, Ok, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.one_shot.backend import CliCall, OneShotBackend
from hive_agent.backends.one_shot.reader import SHOWN_RESULT, OutputReader, tool_result
from hive_agent.backends.tool_permissions import parse_tools
from hive_agent.backends.transcript import Entry, Notice, TokenUsage, ToolCall, TranscriptText
from hive_agent.infra import json_text, state_files
from hive_agent.infra.json_text import count, text, truncate_nested
from hive_agent.infra.turn_environment import BACKEND_VARIABLES
from hive_agent.prompts import system_prompt
from hive_agent.repositories.places import Workplace, find_workplace
from hive_core.protocol import Effort, McpServer

_NEEDED = BACKEND_VARIABLES["codex"]
_KEYS = ("CODEX_API_KEY", "OPENAI_API_KEY")
_EFFORTS: Mapping[Effort, str] = {"low": "low", "medium": "medium", "high": "high", "max": "xhigh"}
_GATEWAY = "hive"
"""Name of the model provider for OPENAI_BASE_URL."""
_RESULT_TOKENS = 16_000
"""Longest result of a tool, of which codex counts four bytes as a token. From a longer one it removes the middle. By
default it does so with 10,000 bytes for a model that it does not know, less than a result of the hive's tools may have.
"""
_IDENTITY_BYTES = 1024 * 1024
"""Largest AGENTS.md that codex reads; a prompt.md has up to 100,000 characters."""

_INSTRUCTIONS = ("AGENTS.md", "AGENTS.override.md", "CLAUDE.md", ".agents", ".codex")
"""The paths in a working directory from which codex reads instructions and skills."""
_MENTION = re.compile(r"\$[A-Za-z0-9_:-]")
"""The beginning of a name that codex searches among the skills."""


def open_backend(context: BackendContext) -> Backend:
    """Open the codex backend. It searches its program at every turn, so that an installation takes effect at once."""
    return OneShotBackend(context, Codex(context))


class Codex:
    """The command line and configuration of codex."""

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

    @property
    def own_files(self) -> Sequence[Path]:
        return [self.home / "auth.json"]

    def check(self, choice: Choice) -> None:
        self._program()
        parse_tools(self._context.profile.config.tools).check_patterns(self.name)

    def _program(self) -> Path:
        return cli_launch.find_program(self._context.environment.variables, self.name, "HIVE_CODEX", "@openai/codex")

    def prepare_call(self, choice: Choice, session: str | None) -> CliCall:
        program = self._program()
        configuration = self._configuration(choice)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Codex reads the AGENTS.md of CODEX_HOME in each turn, also in a continued conversation.
        state_files.replace_lines(self.home / "AGENTS.md", [self._identity.encode()])
        state_files.replace_lines(self.home / "config.toml", [tomli_w.dumps(configuration).encode()])
        argv = [str(program), "exec"]
        if session is not None:
            argv += ["resume", session]
        return CliCall(
            [*argv, "--json", "--skip-git-repo-check", "-"], self._environment(), self._workplace().directory
        )

    def _workplace(self) -> Workplace:
        """Return where codex runs; not in a repository whose instructions it may not read, as it would."""
        profile, where = self._context.profile, self._context.environment
        found = find_workplace(profile, where)
        return find_workplace(profile, where, _INSTRUCTIONS) if found.instructed is None else found

    def new_reader(self, known: StoredSession) -> CodexReader:
        return CodexReader(known=known, most_calls=self._context.profile.config.max_steps)

    def escape_prompt(self, prompt: str) -> str:
        """Write `$\\` for each `$` if the agent has skills: codex adds the content of a skill that `$name` names.

        It has no setting for this and does not remove the backslash.
        """
        if not self._has_skills() or _MENTION.search(prompt) is None:
            return prompt
        escaped = prompt.replace("$", "$\\")
        return f"(In the following text, $\\ always stands for the dollar sign alone.)\n\n{escaped}"

    def _has_skills(self) -> bool:
        """Return whether a directory in which codex searches skills has an entry; its own skills are switched off."""
        where = self._context.environment
        roots = [self.home / "skills", Path("/etc/codex/skills")]
        roots += [self._workplace().directory / directory / "skills" for directory in (".agents", ".codex")]
        if "HOME" in where.variables:
            roots.append(Path(where.variables["HOME"], ".agents/skills"))
        try:
            return any(root.is_dir() and any(root.iterdir()) for root in roots)
        except OSError:
            return True

    def logged_in(self) -> bool:
        return any(name in self._environment() for name in _KEYS) or (self.home / "auth.json").exists()

    def can_call(self, choice: Choice) -> bool:
        return self.logged_in()

    @property
    def how_to_log_in(self) -> str:
        return (
            "set OPENAI_API_KEY and add it to pass_environment of the hive, or log in "
            f"where the agent runs, in a terminal: CODEX_HOME={self.home} codex login --device-auth"
        )

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        found = cli_launch.turn_environment(where, _NEEDED, self._context.profile.config)
        if "OPENAI_API_KEY" in found:
            found.setdefault("CODEX_API_KEY", found["OPENAI_API_KEY"])  # the variable that `codex exec` reads
        return found | {"TMPDIR": str(where.temporary), "CODEX_HOME": str(self.home)}

    def _configuration(self, choice: Choice) -> dict[str, Any]:
        """The content of config.toml (https://developers.openai.com/codex/config-reference).

        Raises BadConfig and OSError.
        """
        context = self._context
        config, variables = context.profile.config, context.environment.variables
        tools = parse_tools(config.tools)
        tools.check_patterns(self.name)
        others = mcp_config.other_servers(variables, config.mcp_servers, mcp_config.SERVER_NAME)
        others = mcp_config.prepare_servers(context.environment, others, config)
        hive = mcp_config.describe_server(context.role, context.environment, context.instance)
        servers = {name: _server(server) for name, server in others.items()}
        servers[mcp_config.SERVER_NAME] = _program(hive.command, hive.args, hive.env) | {"required": True}
        written: dict[str, Any] = {
            "check_for_update_on_startup": False,
            "approval_policy": "never",
            # The agent's container confines programs that write; a second sandbox in it is not needed.
            "sandbox_mode": "danger-full-access" if tools.allows_any("Bash", "Write", "Edit") else "read-only",
            "web_search": "live" if tools.allows_any("WebSearch") else "disabled",
            "project_doc_max_bytes": _IDENTITY_BYTES,
            "project_doc_fallback_filenames": ["CLAUDE.md"],
            # Only the working directory is searched for skills, not those above it; `escape_prompt` relies on both.
            "project_root_markers": [],
            "skills": {"bundled": {"enabled": False}},
            "tool_output_token_limit": _RESULT_TOKENS,
            "analytics": {"enabled": False},
            "agents": {"enabled": tools.allows_any("Task")},
            "features": {"shell_tool": tools.allows_any("Bash"), "apps": False, "plugins": False},
            # Commands of the model get variables like GH_TOKEN that agent.toml lists, but not codex's key.
            "shell_environment_policy": {
                "inherit": "all",
                "ignore_default_excludes": True,
                "exclude": list(_KEYS),
            },
            "mcp_servers": servers,
            # Without an entry codex reads AGENTS.md of a directory, and none of its settings, hooks and MCP servers. Of
            # one that is not trusted it reads no AGENTS.md either. The agent can write such files itself.
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
                    # The harness retries, with longer pauses.
                    "request_max_retries": 2,
                    "stream_max_retries": 2,
                }
            }
        return written


def _server(server: McpServer) -> dict[str, Any]:
    if server.command is None:
        return {"url": server.url, **_TIME_LIMITS}
    return _program(server.command, server.args, server.env)


def _program(command: str, args: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    return {"command": command, "args": list(args), "env": dict(variables), **_TIME_LIMITS}


_TIME_LIMITS = {
    "startup_timeout_sec": mcp_config.START_SECONDS,
    "tool_timeout_sec": mcp_config.CALL_SECONDS,
    "default_tools_approval_mode": "approve",
}


_TOOL_ITEMS = ("command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call")


@dataclass
class CodexReader(OutputReader):
    """Reads the events of one run, which may make at most `most_calls` tool calls."""

    known: StoredSession = field(default_factory=StoredSession)
    most_calls: int = 10_000
    called: set[str] = field(default_factory=set)
    """Tool calls that were emitted; codex reports some only when they have ended."""
    total: StoredSession | None = None
    """The totals of the conversation that codex reports at the end."""

    def read_event(self, event: Mapping[str, Any]) -> list[Entry]:
        item = json_text.field(event, "item")
        match event.get("type"):
            case "thread.started":
                self.session = text(event, "thread_id")
            case "item.started" if text(item, "type") in _TOOL_ITEMS:
                return self._call(item)
            case "item.completed":
                return self._completed(item)
            case "error":
                return [_error_notice(text(event, "message"))]
            case "turn.completed":
                self.settled, self.verdict = True, Ok()
                return [self._usage(json_text.field(event, "usage"))]
            case "turn.failed":
                self.verdict = classify_error(text(event, "error", "message") or "codex failed without a message")
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
            case kind if kind in _TOOL_ITEMS:
                failed = text(item, "status") in ("failed", "declined") or count(item, "exit_code") != 0
                return [*self._call(item), tool_result(text(item, "id"), _output(item), is_error=failed)]
        return []

    def _usage(self, usage: object) -> TokenUsage:
        """The usage of this turn, from the totals of the conversation that codex reports."""
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

    def add_sums(self, known: StoredSession) -> StoredSession:
        if self.total is None:
            return known
        return self.total.model_copy(update={"id": known.id})

    def read_stderr_line(self, line: str) -> list[Entry]:
        if "no rollout found" in line:
            self.lost = True
        elif "required MCP servers failed to initialize" in line:
            self.verdict = Failed(
                "no_tools", f"codex could not start the MCP server `{mcp_config.SERVER_NAME}` of the hive"
            )
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        return self.crash("codex", exit_code)


_RECONNECTING = re.compile(r"Reconnecting\W+(\d{1,4})/(\d{1,4})(?: \((.*)\))?$", re.DOTALL)
"""The message of an error after which codex calls the model again."""


def _error_notice(message: str) -> Notice:
    found = _RECONNECTING.match(message)
    if found is None:
        return Notice("warning", message)
    why = f"the model's API failed: {found[3] or 'no answer'}; retry {found[1]} of {found[2]}"
    return Notice("warning", why, repeat=max(1, int(found[1])))


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


def _output(item: object) -> str:
    """The result of the tool as text."""
    output = text(item, "aggregated_output") or text(item, "error", "message")
    if output:
        return output
    content = json_text.field(item, "result", "content")
    parts = content if isinstance(content, list) else []
    return "\n".join(text(part, "text") or json.dumps(truncate_nested(part, SHOWN_RESULT)) for part in parts)
