"""The pure parts of the claude backend: the command line, the environment, the reading of events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.claude_command import NoProgram, arguments, child_environment, find_program, mcp_config
from hive_agent.backends.claude_events import Reading


def argv(**values: object) -> list[str]:
    defaults: dict[str, object] = {
        "mcp_config": Path("/state/mcp.json"),
        "identity": "You are x.",
        "tools": ["Bash(git *)", "Bash(ls)", "Read"],
        "model": None,
        "snapshot_option": True,
    }
    return arguments(Path("/bin/claude"), **(defaults | values))  # type: ignore[arg-type]


def test_exact_command_line() -> None:
    """The command line of a turn, word for word."""
    assert argv(model="claude-x") == [
        "/bin/claude",
        "--print",
        "--verbose",
        "--output-format=stream-json",
        "--continue",
        "--mcp-config=/state/mcp.json",
        "--strict-mcp-config",
        "--setting-sources=",
        "--permission-mode=dontAsk",
        "--tools=Bash,Read",
        "--allowedTools=mcp__hive,Bash(git *),Bash(ls),Read",
        "--append-system-prompt=You are x.",
        "--system-prompt-snapshot=off",
        "--model=claude-x",
    ]


def test_old_versions_get_no_unknown_option() -> None:
    """A version without the snapshot option is called without it."""
    assert not any("snapshot" in word for word in argv(snapshot_option=False))


def test_values_cannot_be_options() -> None:
    """A tool or model that starts with a dash stays a value."""
    words = argv(tools=["--dangerously-skip-permissions"], model="--bare")
    assert "--dangerously-skip-permissions" not in words
    assert "--bare" not in words


def test_environment_from_nothing() -> None:
    """The program gets what it needs and nothing else of the harness's environment."""
    variables = {
        "PATH": "/bin",
        "HOME": "/root",
        "SECRET": "x",
        "HIVE_AGENT_RUN": "/run/hive",
        "LD_PRELOAD": "x",
        "ANTHROPIC_API_KEY": "key",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca",
        "NODE_EXTRA_CA_CERTS": "/ca",
    }
    found = child_environment(variables, temporary=Path("/t"), claude_directory=Path("/c"), confined=False)
    assert found == {
        "PATH": "/bin",
        "HOME": "/root",
        "TMPDIR": "/t",
        "CLAUDE_CONFIG_DIR": "/c",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ANTHROPIC_API_KEY": "key",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca",
        "NODE_EXTRA_CA_CERTS": "/ca",
    }
    confined = child_environment({}, temporary=Path("/t"), claude_directory=Path("/c"), confined=True)
    assert confined["IS_SANDBOX"] == "1"


def test_hive_server_is_loaded_at_once() -> None:
    """The MCP server's entry asks not to be deferred, and runs the role's module."""
    config = mcp_config("/bin/python", "hive_manager", {"HIVE_INSTANCE": "i"})
    entry = json.loads(json.dumps(config))["mcpServers"]["hive"]
    assert entry["alwaysLoad"] is True
    assert [entry["command"], *entry["args"]] == ["/bin/python", "-m", "hive_manager", "mcp"]


def test_program_is_looked_for_in_order(tmp_path: Path) -> None:
    """HIVE_CLAUDE wins over PATH; one that names no program is an error, not a reason to take another."""
    for place in ("named", "path/claude"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("#!/bin/sh\n")
        (tmp_path / place).chmod(0o755)
    path = {"PATH": str(tmp_path / "path")}
    assert find_program(path) == tmp_path / "path/claude"
    assert find_program(path | {"HIVE_CLAUDE": str(tmp_path / "named")}) == tmp_path / "named"
    with pytest.raises(NoProgram, match="HIVE_CLAUDE names"):
        find_program(path | {"HIVE_CLAUDE": str(tmp_path / "missing")})


def test_no_program_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Claude Code the error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(NoProgram, match="claude-agent-sdk"):
        find_program({"PATH": str(tmp_path)})


def outcome(*events: object, exit_code: int | None = 0, stderr: str = "") -> TurnOutcome:
    reading = Reading(server="hive")
    for event in events:
        reading.feed(json.dumps(event).encode() if not isinstance(event, bytes) else event)
    return reading.outcome(exit_code, stderr)


RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "done"}


def test_good_turn() -> None:
    """A result without error and exit code 0 is a turn that ended well, whatever else was in the stream."""
    noise = [b"not json", b"[1]", {"type": "new_kind"}, {"type": "system", "subtype": "init", "mcp_servers": 3}]
    assert outcome(*noise, RESULT) == Ok()
    assert outcome(RESULT, exit_code=None) == Ok()


@pytest.mark.parametrize(
    ("events", "exit_code", "kind"),
    [
        ([RESULT | {"is_error": True}], 1, "claude"),
        ([RESULT | {"is_error": True}], 0, "claude"),
        ([RESULT], 1, "claude"),
        ([], 0, "no_result"),
        ([], -9, "no_result"),
        ([RESULT | {"is_error": True, "api_error_status": 500}], 1, "api_500"),
        ([RESULT | {"is_error": True, "terminal_reason": "prompt_too_long"}], 1, "prompt_too_long"),
        ([{"type": "assistant", "error": "billing_error"}, RESULT | {"is_error": True}], 1, "billing_error"),
        ([{"type": "result", "subtype": "success"}], 0, "claude"),
    ],
)
def test_failures_are_not_taken_for_success(events: list[object], exit_code: int, kind: str) -> None:
    """`subtype` says success of failures too, so error flag, exit code and a missing result decide."""
    found = outcome(*events, exit_code=exit_code)
    assert isinstance(found, Failed)
    assert found.kind == kind


def test_error_that_was_overcome() -> None:
    """An error that the program got over (it retried) does not colour the failure or success that follows."""
    overcome = [{"type": "assistant", "error": "authentication_failed"}, {"type": "assistant", "message": {}}]
    assert outcome(*overcome, RESULT) == Ok()
    assert isinstance(outcome(*overcome, RESULT | {"is_error": True}, exit_code=1), Failed)


def test_login() -> None:
    """Failed authentication is the one failure that a person has to mend, and says so."""
    failed = RESULT | {"is_error": True, "result": "Not logged in"}
    assert outcome({"type": "assistant", "error": "authentication_failed"}, failed, exit_code=1) == NeedsLogin(
        "Not logged in"
    )


def test_last_words_are_told() -> None:
    """A program that ends without a result is told of with what it wrote on stderr."""
    found = outcome(exit_code=1, stderr="error: unknown option\n")
    assert isinstance(found, Failed)
    assert found.detail.endswith("error: unknown option")
