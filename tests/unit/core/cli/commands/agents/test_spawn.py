"""`hive-c0re spawn`: what is sent to the daemon, and waiting until the agent is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.protocol import AgentConfig, AgentStatus, LogsAnswer, ScriptRule, ScriptSend, SpawnRequest
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.run_cli import Program


async def test_waits_until_ready(hive: Program, daemon: FakeHost) -> None:
    """The command ends when the harness is idle; what happens until then is told on stderr, each change once."""
    daemon.later = [agent("alice", state=state) for state in ("offline", "starting", "starting", "idle")]
    ended = await hive.run("spawn", "alice")
    assert (ended.code, ended.out) == (0, "alice is idle\n")
    assert [line.rpartition(" ")[2] for line in ended.err.splitlines()] == ["offline", "starting", "idle"]
    assert daemon.asked[0][2] == SpawnRequest(name="alice")


async def test_json_is_the_last_answer(hive: Program, daemon: FakeHost) -> None:
    """With --json stdout is the status with which the agent became ready."""
    daemon.later = [agent("alice", state="starting"), agent("alice", state="idle")]
    ended = await hive.run("spawn", "alice", "--json")
    assert AgentStatus.model_validate(ended.json).state == "idle"


@pytest.mark.parametrize(("flag", "words"), [("--no-start", "created, and not started"), ("--no-wait", "created")])
async def test_need_not_wait(flag: str, words: str, hive: Program, daemon: FakeHost) -> None:
    """--no-start and --no-wait end at once, without asking again."""
    ended = await hive.run("spawn", "alice", flag)
    assert (ended.code, ended.out, ended.err) == (0, f"alice is {words}\n", "")
    assert [body for _, _, body in daemon.asked] == [SpawnRequest(name="alice", start=flag != "--no-start")]


async def test_unknown_names_are_told(hive: Program, daemon: FakeHost) -> None:
    """Each warning of the daemon is a line on stderr, escaped; the agent is created, and the exit code is 0."""
    daemon.spawn_warnings = ["tools: no tool Bsh is known, did you mean 'Bash'?", "no model \x1b[31mx is known"]
    ended = await hive.run("spawn", "alice", "--tool", "Bsh", "--no-wait")
    assert (ended.code, ended.out) == (0, "alice is created\n")
    assert ended.err.splitlines() == [
        "hive-c0re: warning: tools: no tool Bsh is known, did you mean 'Bash'?",
        r"hive-c0re: warning: no model \x1b[31mx is known",
    ]


async def test_options_are_sent(hive: Program, daemon: FakeHost) -> None:
    """Options become the agent's configuration."""
    options = ["--backend", "claude", "--model", "m1", "--prompt", "You review.", "--tool", "Read", "--tool", "Bash"]
    options += ["--network", "sealed", "--reach", "npm", "--reach", "crates.io"]
    ended = await hive.run("spawn", "alice", *options, "--allow", "bob", "--allow", "hm1nd", "--no-wait")
    assert ended.code == 0, ended.err
    config = AgentConfig(
        backend="claude",
        model="m1",
        tools=["Read", "Bash"],
        allowed_recipients=["bob", "hm1nd"],
        network="sealed",
        allowed_hosts=["npm", "crates.io"],
    )
    assert daemon.asked[0][2] == SpawnRequest(name="alice", config=config, prompt="You review.")


async def test_files_are_sent(hive: Program, daemon: FakeHost, tmp_path: Path) -> None:
    """The three files of --config-dir are sent as they are; options win over them."""
    (tmp_path / "agent.toml").write_text(
        'model = "m1"\nturn_timeout = 60.0\n[[script]]\nmatch = "hi"\nsend = [{ to = "@boss", text = "ho" }]\n'
    )
    (tmp_path / "prompt.md").write_text("You answer.\n")
    (tmp_path / "agent.nix").write_text("{ }\n")
    ended = await hive.run("spawn", "alice", "--config-dir", str(tmp_path), "--model", "m2", "--no-wait")
    assert ended.code == 0, ended.err
    script = [ScriptRule(match="hi", send=[ScriptSend(to="@boss", text="ho")])]
    config = AgentConfig(model="m2", turn_timeout=60.0, script=script)
    assert daemon.asked[0][2] == SpawnRequest(name="alice", config=config, prompt="You answer.\n", agent_nix="{ }\n")


async def test_each_file_may_be_missing(hive: Program, daemon: FakeHost, tmp_path: Path) -> None:
    """A directory with none of the files makes an agent of defaults; one that is not there is wrong usage."""
    assert (await hive.run("spawn", "alice", "--config-dir", str(tmp_path), "--no-wait")).code == 0
    assert daemon.asked[0][2] == SpawnRequest(name="alice")
    assert (await hive.run("spawn", "alice", "--config-dir", str(tmp_path / "none"))).code == 2


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("model = [", "is not valid TOML: "),
        ("turn_timeout = nan", "cannot be written as JSON"),
        ("turn_timeout = 2026-01-01", "cannot be written as JSON"),
        ('modell = "m1"', "config.modell: "),
        ("turn_timeout = -1.0", "config.turn_timeout: "),
        ("[[script]]\nthinks = 1", "config.script.0.thinks: "),
    ],
)
async def test_a_wrong_file_is_explained(
    toml: str, words: str, hive: Program, daemon: FakeHost, tmp_path: Path
) -> None:
    """What is wrong in agent.toml is said with its key or place, and no agent is made."""
    (tmp_path / "agent.toml").write_text(toml)
    ended = await hive.run("spawn", "alice", "--config-dir", str(tmp_path), "--no-wait")
    assert (ended.code, ended.out, daemon.agents) == (1, "", [])
    assert words in ended.err
    assert len(ended.err.splitlines()) <= 2


async def test_prompt_from_a_file(hive: Program, daemon: FakeHost, tmp_path: Path) -> None:
    """--prompt-file is read; one that cannot be read is named; beside --prompt it is wrong usage."""
    path = tmp_path / "role"
    ended = await hive.run("spawn", "alice", "--prompt-file", str(path))
    assert (ended.code, daemon.asked) == (1, [])
    assert f"cannot read {path}: No such file" in ended.err
    path.write_bytes(b"\xff")
    assert "not UTF-8" in (await hive.run("spawn", "alice", "--prompt-file", str(path))).err
    path.write_text("You wait.")
    assert (await hive.run("spawn", "alice", "--prompt-file", str(path), "--no-wait")).code == 0
    assert daemon.asked[0][2] == SpawnRequest(name="alice", prompt="You wait.")
    assert (await hive.run("spawn", "alice", "--prompt-file", str(path), "--prompt", "x")).code == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lifecycle": "failed", "state": "offline", "exit_cause": "exit code 1"}, "failed: exit code 1"),
        ({"state": "failed", "detail": "no\x1bkey"}, r'failed: "no\x1bkey"'),
        ({"state": "needs_login", "detail": "log in with claude"}, 'needs a login: "log in with claude"'),
        (
            {"state": "paused", "detail": "the program codex is not installed: HIVE_CODEX is not set"},
            'is paused: "the program codex is not installed: HIVE_CODEX is not set"',
        ),
        ({"lifecycle": "stopped", "state": "offline"}, "was stopped before it was ready"),
        (
            {
                "lifecycle": "backoff",
                "state": "offline",
                "crashes": 3,
                "last_crash": "exit code 2",
                "last_line": "no\x1b[31m",
            },
            r'has ended 3 times in a row, the last time with: exit code 2: "no\x1b[31m"',
        ),
    ],
)
async def test_failure_shows_the_log(changes: dict[str, object], words: str, hive: Program, daemon: FakeHost) -> None:
    """An agent that will not become ready ends the command with 1, why, and the end of its log."""
    daemon.later = [agent("alice", state="starting"), agent("alice", **changes)]
    daemon.logs = [LogsAnswer(lines=["starting", "ValueError: \x1b[31mno"], cursor="2")]
    ended = await hive.run("spawn", "alice")
    assert (ended.code, ended.out) == (1, "")
    assert words in ended.err
    assert "the last lines of its log:\nstarting\nValueError: \\x1b[31mno\n" in ended.err


async def test_does_not_wait_for_ever(hive: Program, daemon: FakeHost) -> None:
    """An agent that is not ready in time is a failure that says what it was doing."""
    ended = await hive.run("spawn", "alice", "--timeout", "0.1")
    assert (ended.code, ended.out) == (1, "")
    assert "is not ready after 0.1 s (its harness is starting)" in ended.err
