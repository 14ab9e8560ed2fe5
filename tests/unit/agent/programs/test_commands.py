"""What an agent, or its operator, sees and does of long-running programs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from hive_agent.environment import AgentEnvironment
from hive_agent.programs import commands
from hive_agent.programs.keeper import find_descendants
from hive_agent.programs.records import STARTER, Order, ProgramRecord, Status, listen
from hive_agent.programs.starter import Starter, serve_programs
from hive_core.protocol import AgentConfig, Profile
from tests.unit.agent.programs.conftest import Command

SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print("listening on", listener.getsockname()[1], flush=True)
while True:
    caller, _ = listener.accept()
    caller.sendall(b"hello")
    caller.close()
"""


async def test_a_server_is_started_listed_reached_logged_and_stopped(
    starter: Starter, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server runs until it is stopped; the list has its port, and its output is kept."""
    assert await command("run", "--name", "web", "--", sys.executable, "-c", SERVER) == 0
    ports: list[int] = []
    while not ports:  # It listens when its interpreter has started.
        assert await command("ps", "--json") == 0
        shown = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [(row["name"], row["state"]) for row in shown] == [("web", "running")]
        ports = shown[0]["ports"]
    (port,) = ports
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        assert connection.recv(16) == b"hello"
    assert await command("logs", "web") == 0
    assert capsys.readouterr().out == f"listening on {port}\n"
    assert await command("stop", "web") == 0
    assert await command("ps") == 0
    assert "web is stopped (signal 15)" in (shown_text := capsys.readouterr().out)
    assert "stopped" in shown_text.splitlines()[-1]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=10)


async def test_a_program_knows_the_agents_directories(
    programs: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program gets the variables of the harness that turns get, among them the directories, and no others."""
    given = {"PATH": os.environ["PATH"], "HIVE_AGENT_STATE": str(programs.parent), "HIVE_AGENT_CODE": "/code"}
    # A plain process of a daemon uses no systemd.
    environment = AgentEnvironment.read({**given, "HIVE_PARENT_PID": str(os.getpid()), "SECRET": "x"})
    profile = Profile(name="ada", kind="agent", config=AgentConfig(), prompt="", deployment=1, lease_seconds=60)
    async with serve_programs(environment, profile):
        await command("run", "--name", "web", "--", "env")
        assert await command("logs", "web", "-f") == 0
    shown = capsys.readouterr().out
    assert "HIVE_AGENT_CODE=/code\n" in shown and "SECRET" not in shown


async def test_a_program_that_ends_at_once_is_reported(
    starter: Starter, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start of a program that fails shows its last output and its exit code."""
    assert await command("run", "--name", "web", "--", "sh", "-c", "echo port in use >&2; exit 3") == 1
    assert capsys.readouterr().err.splitlines() == [
        "port in use",
        "web has ended already (exit code 3) (hive-ag3nt logs web)",
    ]


async def test_a_program_that_ignores_sigterm_is_killed_with_all_it_started(
    starter: Starter, command: Command, programs: Path
) -> None:
    """A stop ends a program that ignores the request, and the daemons that it started."""
    script = "trap '' TERM; (setsid sh -c \"trap '' TERM; sleep 1031\" &); while :; do sleep 1032; done"
    assert await command("run", "--name", "web", "--", "sh", "-c", script) == 0
    keeper = ProgramRecord(programs / "web").status().keeper
    assert keeper is not None
    before = find_descendants(keeper)
    assert len(before) >= 3
    assert await command("stop", "web") == 0
    assert [pid for pid in before if psutil.pid_exists(pid)] == []
    assert ProgramRecord(programs / "web").status().state == "stopped"


async def test_output_is_followed_to_the_end_of_the_program(
    starter: Starter, command: Command, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`logs -f` shows what a program writes, until it ends."""
    fifo = programs.parent / "go"
    os.mkfifo(fifo)
    assert await command("run", "--name", "web", "--", "sh", "-c", f"echo first; cat {fifo}; echo last") == 0
    following = asyncio.create_task(command("logs", "-f", "web"))
    await asyncio.to_thread(fifo.write_text, "middle\n")
    assert await following == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["first", "middle", "last"]


async def test_stop_of_an_interrupted_program_keeps_it_from_starting_again(
    starter: Starter, command: Command, programs: Path
) -> None:
    """A program that waits for the next harness can be stopped, too."""
    assert await command("run", "--name", "web", "--", "sleep", "1033") == 0
    await starter.close()
    assert await command("stop", "web") == 0
    await starter.continue_all()
    assert ProgramRecord(programs / "web").status().state == "stopped"


async def test_a_harness_that_is_being_restarted_is_waited_for(
    starter: Starter, command: Command, programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A program is started by the next harness if the last one has just ended; meanwhile the command says so."""
    (programs / STARTER).unlink()
    last = listen(programs, STARTER)
    last.close()
    asked = asyncio.create_task(command("run", "--name", "web", "--", "sleep", "1033"))
    said = ""
    while "is being restarted" not in said:
        await asyncio.sleep(0)
        said += capfd.readouterr().err
    server = await asyncio.start_server(starter.answer, sock=listen(programs, STARTER))
    try:
        assert await asked == 0
    finally:
        server.close()
    assert ProgramRecord(programs / "web").status().state == "running"


async def test_wrong_use_is_told(
    command: Command, programs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a harness, a program or a command, the commands say so, with their codes."""
    monkeypatch.setattr(commands, "_RESTART_SECONDS", 0.0)
    assert await command("run", "--name", "web", "--", "true") == 3
    assert "the harness cannot be asked" in capsys.readouterr().err
    assert await command("run", "--name", "web") == 2
    assert await command("logs", "web") == 1
    assert await command("stop", "web") == 1
    assert capsys.readouterr().err.count("there is no program web") == 2
    with pytest.raises(SystemExit) as usage:
        await command("stop", "../x")
    assert usage.value.code == 2
    assert await command("ps") == 0
    assert "no programs" in capsys.readouterr().out


async def test_hostile_words_are_shown_harmlessly(
    programs: Path, capsys: pytest.CaptureFixture[str], command: Command
) -> None:
    """Control characters of a command or a reason do not reach the terminal."""
    record = ProgramRecord(programs / "web")
    record.store(Order(name="web", argv=["a\x1b[2Jb"], directory="/", environment={}))
    record.settle(Status(state="failed", reason="\x1b]0;title\x07"))
    assert await command("ps") == 0
    assert "\x1b" not in capsys.readouterr().out
