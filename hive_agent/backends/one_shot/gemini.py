"""The Gemini CLI: its command line and its events.

Tested with version 0.61.0; the events are those of packages/core/src/output/types.ts.
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
from hive_agent.backends.api_errors import classify_error, find_status
from hive_agent.backends.base import Backend, BackendContext, Choice, Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.one_shot.backend import CliCall, OneShotBackend
from hive_agent.backends.one_shot.reader import OutputReader, tool_result
from hive_agent.backends.tool_permissions import Allowed, parse_tools
from hive_agent.backends.transcript import Entry, Notice, TextPiece, TokenUsage, ToolCall, TranscriptText
from hive_agent.infra import json_text, state_files
from hive_agent.infra.json_text import count, field, text
from hive_agent.infra.turn_environment import BACKEND_VARIABLES
from hive_agent.prompts import system_prompt
from hive_agent.repositories.places import Workplace, find_workplace
from hive_core.protocol import Effort, McpServer

_NEEDED = BACKEND_VARIABLES["gemini"]
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
"""Gemini CLI's names of the tools; agent.toml uses the names of Claude Code."""
_BUDGETS: Mapping[Effort, int] = {"low": 1_024, "medium": 8_192, "high": 16_384, "max": 24_576}
"""Thinking budgets in tokens, for models before Gemini 3."""
_LEVELS: Mapping[Effort, str] = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH", "max": "HIGH"}
_PROJECT_SETTINGS = (".gemini",)
"""The directory of a repository with settings, extensions and variables that Gemini CLI obeys if it runs there."""
_INSTRUCTIONS = ("GEMINI.md", "AGENTS.md", "CLAUDE.md")
"""Files with instructions for agents, of which a repository's first one is read."""
_IDENTITY = "identity/GEMINI.md"
"""The path of the system prompt, in a directory of its own."""
_TOP_PRIORITY = 999
"""The highest priority of a rule of a policy."""


def open_backend(context: BackendContext) -> Backend:
    """Open the gemini backend. It searches its program at every turn, so that an installation takes effect at once."""
    return OneShotBackend(context, Gemini(context))


class Gemini:
    """The command line and configuration of the Gemini CLI."""

    name = "gemini"
    models: Sequence[str] = ()

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        config, variables = context.profile.config, context.environment.variables
        self._others = mcp_config.other_servers(variables, config.mcp_servers, mcp_config.SERVER_NAME)
        self._identity = system_prompt.render(
            context.profile, context.role, context.environment, tool_prefix=f"mcp_{mcp_config.SERVER_NAME}_"
        )

    @property
    def home(self) -> Path:
        return self._context.environment.claude / "gemini"

    @property
    def _own(self) -> Path:
        return self.home / ".gemini"

    @property
    def own_files(self) -> Sequence[Path]:
        names = ("oauth_creds", "google_accounts", "projects", "state", "trustedFolders")
        return [self._own / f"{name}.json" for name in names]

    def check(self, choice: Choice) -> None:
        self._program()
        policy(parse_tools(self._context.profile.config.tools), [])

    def _program(self) -> Path:
        return cli_launch.find_program(
            self._context.environment.variables, self.name, "HIVE_GEMINI", "@google/gemini-cli"
        )

    def prepare_call(self, choice: Choice, session: str | None) -> CliCall:
        program = self._program()
        instructed = self._workplace().instructed is not None
        tools = [*self._context.profile.config.tools, *(["activate_skill"] if instructed else [])]
        rules = policy(parse_tools(tools), [mcp_config.SERVER_NAME, *self._others])
        self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_identity()
        state_files.replace_lines(self._own / "settings.json", [json.dumps(self._settings(choice)).encode()])
        state_files.replace_lines(self.home / "policy.toml", [tomli_w.dumps({"rule": rules}).encode()])
        argv = [
            str(program),
            "--output-format=stream-json",
            "--skip-trust",
            # An admin policy overrides settings in the working directory, which the agent can write.
            f"--admin-policy={self.home / 'policy.toml'}",
        ]
        if self._context.profile.repositories:
            # Its tools for files refuse paths outside of the working directory and of these.
            where = self._context.environment
            shown = (self._workplace().instructed or where.code, where.state, where.config)
            argv += [f"--include-directories={each}" for each in shown if each.is_dir()]
        if session is not None:
            argv.append(f"--resume={session}")
        if choice.model is not None:
            argv.append(f"--model={choice.model}")
        return CliCall(argv, self._environment(), self._workplace().directory)

    def _workplace(self) -> Workplace:
        profile, where = self._context.profile, self._context.environment
        found = find_workplace(profile, where, _PROJECT_SETTINGS)
        return find_workplace(profile, where, (*_PROJECT_SETTINGS, ".agents")) if found.instructed is None else found

    def _write_identity(self) -> None:
        """Write the file for the system prompt, alone in its directory.

        Gemini CLI takes `@name` in it for the import of a file of that directory (see `_settings`).
        """
        file = self._own / _IDENTITY
        file.parent.mkdir(mode=0o700, exist_ok=True)
        state_files.replace_lines(file, [self._identity.encode()])
        (self._own / "GEMINI.md").unlink(missing_ok=True)  # older versions wrote it here, where it would be read, too

    def new_reader(self, known: StoredSession) -> GeminiReader:
        return GeminiReader(alone=not self._others)

    def escape_prompt(self, prompt: str) -> str:
        """Write `\\@` for each `@`, which the program would replace by the content of a file.

        It has no setting for this and does not remove the backslash. The explanation contains no `@` of its own: in
        `@.` the program would find its working directory.
        """
        if "@" not in prompt:
            return prompt
        escaped = prompt.replace("@", "\\@")
        return f"(In the following text, \\@ always stands for the at sign alone.)\n\n{escaped}"

    def logged_in(self) -> bool:
        return self._login() is not None

    def can_call(self, choice: Choice) -> bool:
        return self.logged_in()

    @property
    def how_to_log_in(self) -> str:
        return (
            "set GEMINI_API_KEY and add it to pass_environment of the hive, "
            f"or log in where the agent runs, in a terminal: GEMINI_CLI_HOME={self.home} NO_BROWSER=true gemini"
        )

    def _login(self) -> str | None:
        """The program's name for the kind of the existing credentials; None if there are none."""
        variables = self._environment()
        if "GEMINI_API_KEY" in variables:
            return "gemini-api-key"
        if "GOOGLE_API_KEY" in variables or variables.get("GOOGLE_GENAI_USE_VERTEXAI") == "true":
            return "vertex-ai"
        return "oauth-personal" if (self._own / "oauth_creds.json").exists() else None

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        return cli_launch.turn_environment(where, _NEEDED, self._context.profile.config) | {
            "TMPDIR": str(where.temporary),
            "GEMINI_CLI_HOME": str(self.home),
            "GEMINI_CLI_NO_RELAUNCH": "true",  # else it restarts itself with a larger heap
            "NO_BROWSER": "true",
        }

    def _settings(self, choice: Choice) -> dict[str, Any]:
        """The content of settings.json (https://geminicli.com/docs/reference/configuration). Raises OSError."""
        context = self._context
        hive = mcp_config.describe_server(context.role, context.environment, context.instance)
        others = mcp_config.prepare_servers(context.environment, self._others, context.profile.config)
        servers = {name: _server(server) for name, server in others.items()}
        # Gemini CLI removes PYTHONPATH and similar variables from the `env` of a server.
        assignments = [f"{name}={value}" for name, value in hive.env.items()]
        servers[mcp_config.SERVER_NAME] = _program("env", [*assignments, hive.command, *hive.args], {})
        settings: dict[str, Any] = {
            # The harness retries, with longer pauses.
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False, "maxAttempts": 2},
            "privacy": {"usageStatisticsEnabled": False},
            # The variables of a file .env in a repository are for its programs, not for Gemini CLI itself.
            "advanced": {"ignoreLocalEnv": True},
            "telemetry": {"enabled": False},
            "model": {"maxSessionTurns": context.profile.config.max_steps},
            "mcpServers": servers,
            # With "flat", the text of the file remains as it is, and imports are appended: there are none without
            # other files in its directory, to which the empty list confines them.
            "context": {
                "fileName": [_IDENTITY, *self._instructions()],
                "importFormat": "flat",
                "memoryBoundaryMarkers": [],
                # For a repository that is not the working directory.
                "loadMemoryFromIncludeDirectories": self._workplace().instructed is not None,
            },
        }
        login = self._login()
        if login is not None:
            settings["security"] = {"auth": {"selectedType": login}}
        if choice.effort is not None and choice.model is not None:
            settings["modelConfigs"] = {"customOverrides": [_thinking(choice.model, choice.effort)]}
        return settings

    def _instructions(self) -> list[str]:
        """Return the name of the file with the instructions of the repository, if they may be read."""
        clone = self._workplace().instructed
        return [name for name in _INSTRUCTIONS if clone is not None and (clone / name).is_file()][:1]


def policy(tools: Allowed, servers: Sequence[str]) -> list[dict[str, Any]]:
    """The rules of a policy file that allows these tools and all tools of the MCP `servers`, and nothing else.

    Raises BadConfig for a pattern of a tool other than Bash.
    """
    tools.check_patterns("gemini", "Bash")
    rules: list[dict[str, Any]] = [{"toolName": "*", "decision": "deny", "priority": 1}]
    rules += [{"mcpName": name, "toolName": "*", "decision": "allow", "priority": _TOP_PRIORITY} for name in servers]
    for name, patterns in tools.patterns.items():
        allow: dict[str, Any] = {"decision": "allow", "priority": _TOP_PRIORITY}
        if name == "Bash":
            allow["allowRedirection"] = True
        if patterns:
            rules += [{"toolName": "run_shell_command", **_command(pattern), **allow} for pattern in patterns]
        else:
            rules.append({"toolName": list(_TOOLS.get(name, (name,))), **allow})
    return rules


def _command(pattern: str) -> dict[str, str]:
    """The condition for a command that matches the pattern: `git *` is git with any arguments."""
    prefix = pattern.removesuffix(" *")
    if prefix != pattern and "*" not in prefix:
        return {"commandPrefix": prefix}
    # The expression is matched with the arguments as JSON, from the start of the command.
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
"""Exit code, as is the next (packages/core/src/utils/exitCodes.ts)."""
_BAD_CONFIG = 52
_RETRYING = re.compile(r"Attempt (\d{1,4}) failed(?:: (.+?)| with status (\d{3}))?\.+ Retrying (?:after|with)(.*)")
"""The line that Gemini CLI writes before it calls the model again (packages/core/src/utils/retry.ts)."""
_MESSAGE = re.compile(r'"message": ?"((?:[^"\\]|\\.){1,1000})')
_MCP_ANSWER = '{"functionResponse":'
_MCP_RESPONSE = f" with response: [{_MCP_ANSWER}"
"""Text of the program between an MCP tool's arguments and its result, in the message of an error. The arguments before
it are JSON, in which such quotation marks are escaped."""
_LONGEST_ANSWER = 1_000_000
"""Characters of an answer that is joined from its parts."""


@dataclass
class GeminiReader(OutputReader):
    """Reads the events of one run. `alone`: the hive's MCP server is the only one."""

    alone: bool = True
    answer: str = ""
    """The text of the model, which comes in parts."""
    status: int | None = None
    """The HTTP status of the last call of the model if it failed and was repeated."""

    def read_event(self, event: Mapping[str, Any]) -> list[Entry]:
        kind = event.get("type")
        if kind == "message":
            if event.get("role") == "assistant" and len(self.answer) < _LONGEST_ANSWER:
                piece = text(event, "content")
                self.answer, self.status = self.answer + piece, None
                return [TextPiece(piece)]
            return []
        return [*self._take_answer(), *self._read_other(kind, event)]

    def _take_answer(self) -> list[Entry]:
        answer, self.answer = self.answer, ""
        return [TranscriptText(answer)] if answer else []

    def _read_other(self, kind: object, event: Mapping[str, Any]) -> list[Entry]:
        match kind:
            case "init":
                self.session = text(event, "session_id")
            case "tool_use":
                self.status = None
                return [ToolCall(text(event, "tool_id"), text(event, "tool_name"), field(event, "parameters"))]
            case "tool_result":
                failed = event.get("status") != "success"
                return [tool_result(text(event, "tool_id"), _output(event), is_error=failed)]
            case "error":
                return [Notice("error" if event.get("severity") == "error" else "warning", text(event, "message"))]
            case "result":
                self._read_result(event)
                return [_usage(field(event, "stats"))]
        return []

    def _read_result(self, event: Mapping[str, Any]) -> None:
        if event.get("status") == "success":
            self.verdict = Ok()
        elif text(event, "error", "type") == "FatalTurnLimitedError":
            self.verdict = Failed("steps", "gemini stopped the turn after all model calls of max_steps")
        else:
            message = text(event, "error", "message") or "gemini failed without a message"
            self.verdict = classify_error(message, find_status(message) or self.status)

    def read_stderr_line(self, line: str) -> list[Entry]:
        if line.startswith("MCP issues detected"):
            if self.alone:
                # Without the hive's tools the model cannot send answers, but the turn would count as successful.
                self.verdict = Failed("no_tools", "gemini could not start the hive's MCP server")
            return [Notice("warning", "an MCP server did not start: its tools are missing")]
        if "Error resuming session" in line:
            self.lost = True
        found = _RETRYING.search(line)
        return [] if found is None else [self._repeat(found)]

    def _repeat(self, found: re.Match[str]) -> Notice:
        """The notice of a failed call that is repeated; its status is missing in the result of the turn."""
        self.status = int(found[3]) if found[3] else None
        message = _MESSAGE.search(found[4])
        why = found[2] or (message[1] if message is not None else "")
        why = " ".join(part for part in (found[3], why) if part) or "no reason was given"
        return Notice("warning", f"the model's API failed: {why}", repeat=max(1, int(found[1])))

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        message = self.stderr.strip()
        if exit_code == _NO_AUTH:
            return NeedsLogin(f"gemini has no credentials{f': {message}' if message else ''}")
        if exit_code == _BAD_CONFIG:
            return Failed("config", message or "gemini rejects its configuration")
        return self.crash("gemini", exit_code)


def _output(event: Mapping[str, Any]) -> str:
    """The output of a tool; of a failed MCP tool what its server or the transport said, which `output` lacks."""
    error = text(event, "error", "message")
    _, marked, rest = error.partition(_MCP_RESPONSE)
    answer = json_text.parse_object(f"{_MCP_ANSWER}{rest.removesuffix(']')}".encode()) if marked else None
    response = field(answer, "functionResponse", "response")
    content = field(response, "content")
    parts = [text(part, "text") for part in content] if isinstance(content, list) else []
    return "\n".join(parts) or text(response, "error", "message") or text(event, "output") or error


def _usage(stats: object) -> TokenUsage:
    cached = count(stats, "cached")
    return TokenUsage(
        input=max(0, count(stats, "input_tokens") - cached), output=count(stats, "output_tokens"), cache_read=cached
    )
