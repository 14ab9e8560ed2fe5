"""The pure parts of the claude backend: the command line, the environment, the reading of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends.base import Choice, Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.claude.command import arguments, environment, find_program, mcp_config
from hive_agent.backends.claude.events import LONGEST_RESULT, ClaudeEventReader, user_entries
from hive_agent.backends.cli_launch import ProgramNotFound
from hive_agent.backends.mcp_config import HiveServer
from hive_agent.backends.transcript import (
    Entry,
    Notice,
    SessionStarted,
    TextPiece,
    TokenUsage,
    ToolCall,
    ToolResult,
    TranscriptText,
)
from hive_core.protocol import McpServer


def argv(**values: Any) -> list[str]:
    defaults: dict[str, Any] = {
        "mcp_config": Path("/state/mcp.json"),
        "identity": Path("/state/identity.md"),
        "tools": ["Bash(git *)", "Bash(ls)", "Read"],
        "choice": Choice(),
        "session": None,
    }
    return arguments(Path("/bin/claude"), **(defaults | values))


def test_exact_command_line() -> None:
    """The command line, word for word."""
    words = argv(choice=Choice("claude-x", "high"), session="s1", servers=["hive", "clock"])
    assert words == [
        "/bin/claude",
        "--print",
        "--verbose",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--include-partial-messages",
        "--mcp-config=/state/mcp.json",
        "--strict-mcp-config",
        "--setting-sources=",
        "--permission-mode=dontAsk",
        "--tools=Bash,Read",
        "--allowedTools=mcp__hive,mcp__clock,Bash(git *),Bash(ls),Read",
        "--append-system-prompt-file=/state/identity.md",
        "--resume=s1",
        "--model=claude-x",
        "--effort=high",
    ]


def test_command_line_with_a_repository() -> None:
    """Instructions of a repository are read without hooks and commands of skills, and it is named if it is apart."""
    repository = Path("/code/web")
    plain, inside = argv(choice=Choice()), argv(choice=Choice(), instructed=repository)
    closed = '--settings={"disableAllHooks": true, "disableSkillShellExecution": true}'
    assert sorted(set(inside) - set(plain)) == [
        "--allowedTools=mcp__hive,Bash(git *),Bash(ls),Read,Skill",
        "--setting-sources=project",
        closed,
        "--tools=Bash,Read,Skill",
    ]
    apart = argv(choice=Choice(), instructed=repository, apart=True)
    assert [word for word in apart if word not in inside] == ["--add-dir=/code/web"]


def test_values_cannot_be_options() -> None:
    """A tool or model that starts with a dash stays a value."""
    words = argv(tools=["--dangerously-skip-permissions"], choice=Choice("--bare"))
    assert "--dangerously-skip-permissions" not in words
    assert "--bare" not in words


def test_environment_from_nothing() -> None:
    """The program gets what it needs, what agent.toml names, and nothing else of the harness's environment."""
    passed = {
        "PATH": "/bin",
        "HOME": "/root",
        "ANTHROPIC_API_KEY": "key",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca",
        "NODE_EXTRA_CA_CERTS": "/ca",
        "DATABASE_URL": "x",
        "AWS_REGION": "y",
    }
    variables = passed | {"SECRET": "x", "HIVE_INSTANCE": "x", "LD_PRELOAD": "x", "DATABASE_URL_2": "z"}
    extra = ["DATABASE_URL", "AWS_*"]
    found = environment(variables, extra, temporary=Path("/t"), claude_directory=Path("/c"), confined=False)
    assert found == passed | {
        "TMPDIR": "/t",
        "CLAUDE_CONFIG_DIR": "/c",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_STOP_HOOK_BLOCK_CAP": "0",
        "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
        "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
        "MCP_TIMEOUT": "60000",
    }
    confined = environment({}, [], temporary=Path("/t"), claude_directory=Path("/c"), confined=True)
    assert confined["IS_SANDBOX"] == "1"


def test_hive_server_is_loaded_at_once() -> None:
    """The hive's server is not deferred and starts behind its memory; others are as agent.toml says."""
    hive = HiveServer("/bin/python", ("-m", "hive_manager", "mcp"), {"HIVE_INSTANCE": "i"})
    others = {"clock": McpServer(command="/bin/clock", args=["-u"]), "far": McpServer(url="https://far.example/mcp")}
    servers = json.loads(json.dumps(mcp_config(hive, Path("/t/memory"), "v1", others)))["mcpServers"]
    assert servers["hive"]["alwaysLoad"] is True
    assert servers["hive"]["args"][-6:] == ["/t/memory", "v1", "/bin/python", "-m", "hive_manager", "mcp"]
    assert servers["clock"] == {"type": "stdio", "command": "/bin/clock", "args": ["-u"], "env": {}}
    assert servers["far"] == {"type": "http", "url": "https://far.example/mcp"}


def test_program_is_looked_for_in_order(tmp_path: Path) -> None:
    """HIVE_CLAUDE wins over PATH; one that names no program is an error, not a reason to take another."""
    for place in ("named", "path/claude"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("#!/bin/sh\n")
        (tmp_path / place).chmod(0o755)
    path = {"PATH": str(tmp_path / "path")}
    assert find_program(path) == tmp_path / "path/claude"
    assert find_program(path | {"HIVE_CLAUDE": str(tmp_path / "named")}) == tmp_path / "named"
    with pytest.raises(ProgramNotFound, match="HIVE_CLAUDE names"):
        find_program(path | {"HIVE_CLAUDE": str(tmp_path / "missing")})


def test_no_program_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Claude Code the error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ProgramNotFound, match="claude-agent-sdk"):
        find_program({"PATH": str(tmp_path)})


INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": "s1",
    "model": "m",
    "mcp_servers": [{"name": "hive", "status": "connected"}],
}
RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "done"}
FAILED = RESULT | {"is_error": True}


def read(*events: Any, known: str | None = None, added_before: int | None = None) -> tuple[list[Entry], TurnOutcome]:
    """What these events tell, and how the turn ended; messages are put into it before the event `added_before`."""
    entries: list[Entry] = []
    reader = ClaudeEventReader(entries.append, message="u1", server="hive", known=known)
    for number, event in enumerate(events):
        if number == added_before:
            reader.record_added()
        reader.feed(event)
    reader.close()
    return entries, reader.outcome(1_000.0)


def said(*blocks: Any, number: str = "m1", **more: Any) -> dict[str, Any]:
    message = {"id": number, "model": "m", "content": list(blocks), "usage": {"input_tokens": 3, "output_tokens": 2}}
    return {"type": "assistant", "message": message, **more}


def instead(text: str, error: str) -> dict[str, Any]:
    """A message that stands in for the model's."""
    message = {"model": "<synthetic>", "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "message": message, "error": error}


def test_good_turn() -> None:
    """What the model said and called is told in order with what it took, whatever else is in the stream."""
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}
    noise: list[Any] = [{"type": "new"}, {"type": 3}, {"type": "user", "message": 7}, {"type": "assistant"}]
    spent = {"modelUsage": {"m": {"contextWindow": 9}}, "model_usage_since_last_result": {"m": {"costUSD": 0.5}}}
    entries, outcome = read(
        INIT,
        *noise,
        said({"type": "text", "text": "hi"}, call),
        {"type": "user", "message": {"content": [result]}},
        said({"type": "text", "text": "bye"}, number="m2"),
        RESULT | spent,
        known="s1",
    )
    assert outcome == Ok()
    assert [entry for entry in entries if not isinstance(entry, TokenUsage)] == [
        SessionStarted("s1", fresh=False),
        TranscriptText("hi"),
        ToolCall("t1", "Bash", {"command": "ls"}),
        ToolResult("t1", "a\n[image]", False, 9),
        TranscriptText("bye"),
    ]
    used = [entry for entry in entries if isinstance(entry, TokenUsage)]
    assert [(usage.input, usage.output, usage.cost_usd) for usage in used[-2:]] == [(3, 2, None), (3, 2, 0.5)]
    assert used[-1].window == 9


def test_streamed_answers_count_once() -> None:
    """The tokens of a streamed answer are those of its last piece, counted once, and say how full the window is."""
    start = {"id": "m1", "usage": {"input_tokens": 3, "cache_read_input_tokens": 40, "output_tokens": 1}}
    end = {"type": "message_delta", "usage": {"output_tokens": 7}, "delta": {"stop_reason": "end_turn"}}
    entries, _ = read(
        INIT,
        {"type": "stream_event", "event": {"type": "message_start", "message": start}},
        said({"type": "text", "text": "hi"}),
        {"type": "stream_event", "event": end},
        RESULT,
    )
    [usage] = [entry for entry in entries if isinstance(entry, TokenUsage)]
    assert (usage.input, usage.output, usage.cache_read, usage.context) == (3, 7, 40, 50)


def test_pieces_of_a_text_are_told() -> None:
    """The text of a streamed answer is told as it comes; that of a sub-agent is not, nor is a tool's input."""

    def piece(**delta: str) -> dict[str, Any]:
        return {"type": "stream_event", "event": {"type": "content_block_delta", "index": 0, "delta": delta}}

    entries, _ = read(
        INIT,
        piece(type="text_delta", text="he"),
        piece(type="input_json_delta", partial_json="{"),
        piece(type="text_delta", text="y") | {"parent_tool_use_id": "t1"},
        piece(type="text_delta", text="llo"),
        said({"type": "text", "text": "hello"}),
        RESULT,
    )
    assert [entry.text for entry in entries if isinstance(entry, TextPiece)] == ["he", "llo"]


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([], "crashed"),
        ([INIT], "crashed"),
        ([FAILED], "refused"),
        ([{"type": "result", "subtype": "success"}], "refused"),
        ([FAILED | {"api_error_status": 500}], "overloaded"),
        ([FAILED | {"terminal_reason": "api_error"}], "overloaded"),
        ([FAILED | {"terminal_reason": "prompt_too_long"}], "too_long"),
        ([instead("pay", "billing_error"), FAILED], "billing"),
        ([FAILED | {"api_error_status": 429}], "rate_limit"),
        ([instead("no such model", "model_not_found"), FAILED], "config"),
        ([INIT | {"mcp_servers": [{"name": "hive", "status": "failed"}]}, RESULT], "no_tools"),
        ([INIT | {"mcp_servers": []}, RESULT], "no_tools"),
        ([INIT | {"mcp_servers": "all"}, RESULT], "no_tools"),
        ([RESULT | {"user_message_uuids": ["another"]}], "crashed"),
    ],
)
def test_failures_are_not_taken_for_success(events: Sequence[Any], kind: str) -> None:
    """`subtype` says success of failures too, so error flag, reasons and a missing result decide."""
    _, outcome = read(*events)
    assert isinstance(outcome, Failed)
    assert outcome.kind == kind
    assert outcome.detail


def test_error_that_was_overcome() -> None:
    """An error that the program got over (it retried) does not colour the failure or success that follows."""
    overcome = [instead("no", "authentication_failed"), said()]
    assert read(*overcome, RESULT)[1] == Ok()
    assert isinstance(read(*overcome, FAILED)[1], Failed)


def test_login() -> None:
    """Failed authentication is the one failure that a person has to mend, and says so."""
    failed = FAILED | {"result": "Not logged in"}
    assert read(instead("", "authentication_failed"), failed)[1] == NeedsLogin("Not logged in")


@pytest.mark.parametrize(
    ("status", "said_by_api", "words", "outcome"),
    [
        (402, "billing_error", "API Error: 402 More credits", Failed("billing", "API Error: 402 More credits")),
        (403, "permission_error", "API Error: 403 Not allowed", NeedsLogin("API Error: 403 Not allowed")),
    ],
)
def test_a_refusal_for_good_is_told_at_once(status: int, said_by_api: str, words: str, outcome: TurnOutcome) -> None:
    """A 402 or 403 is told with the first retry and when the turn ends with it."""
    retry = {"type": "system", "subtype": "api_retry", "error_status": status, "error": said_by_api, "attempt": 1}
    [notice], _ = read(retry | {"max_retries": 10, "retry_delay_ms": 500})
    again = f"the model's API failed: {status} {said_by_api}; retry 1 of 10 in 0.5 s"
    assert notice == Notice("warning", again, repeat=1)
    assert read(INIT, FAILED | {"api_error_status": status, "result": words})[1] == outcome


def test_waiting_time() -> None:
    """How long to wait comes from the last retry, or from when a subscription's limit is lifted."""
    retry = {"type": "system", "subtype": "api_retry", "error_status": 429, "retry_delay_ms": 7_000.5, "attempt": 1}
    entries, outcome = read(retry, instead("slow", "rate_limit"), FAILED)
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == pytest.approx(7.0005)
    assert isinstance(entries[0], Notice)
    limit = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1_600}}
    _, outcome = read(retry, limit, instead("slow", "rate_limit"), FAILED)
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == 600.0
    # Without another try: the API asks for more than the program waits itself, which does not say for how much.
    _, outcome = read(instead("slow", "rate_limit"), FAILED | {"api_error_status": 429})
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == 60.0


def test_messages_that_the_model_did_not_see() -> None:
    """A turn that ends although messages were put into it last did not handle these, and is no good turn."""
    events = [INIT, said(), RESULT]
    assert isinstance(read(*events, added_before=2)[1], Failed)
    assert read(*events, added_before=1)[1] == Ok()


def test_compaction() -> None:
    """A failed compaction is told by its status alone; within another turn only the turn's own result counts."""
    failed = {"type": "system", "subtype": "status", "compact_result": "failed", "compact_error": "exhausted"}
    _, outcome = read(INIT, failed, RESULT | {"local_command": "compact"})
    assert isinstance(outcome, Failed)
    assert outcome.kind == "too_long"
    assert read(INIT, failed, RESULT)[1] == Ok()
    boundary = {"type": "system", "subtype": "compact_boundary", "compact_metadata": {"post_tokens": 5}}
    entries, _ = read(INIT, boundary, RESULT)
    assert [entry.context for entry in entries if isinstance(entry, TokenUsage)] == [5]


def test_long_results_are_cut() -> None:
    """A transcript holds the beginning of a long result, and how long it was."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": "x" * (LONGEST_RESULT + 5), "is_error": True}
    [entry] = user_entries({"message": {"content": [result]}})
    assert (len(entry.text), entry.characters, entry.is_error) == (LONGEST_RESULT, LONGEST_RESULT + 5, True)
