"""The program on a real (pseudo) terminal: questions, colours, progress."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Mapping

import pytest

from hive_core.protocol import DestroyRequest
from tests.unit.core.cli.fake_host_api import StandIn, agent
from tests.unit.core.cli.run_cli import Program


async def on_terminal(
    hive: Program, *arguments: str, typed: bytes = b"", columns: int = 80, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The exit code and everything that was shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = hive.environment({"TERM": "xterm-256color", **(env or {})})
    environment.pop("COLUMNS", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hive_core", *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    os.write(ours, typed)
    reading = asyncio.create_task(asyncio.to_thread(_read_all, ours))
    code = await process.wait()
    return code, (await reading).decode().replace("\r\n", "\n")


def _read_all(descriptor: int) -> bytes:
    shown = b""
    while True:
        try:
            shown += os.read(descriptor, 65_536)
        except OSError:  # The terminal's other side was closed: the program has ended.
            os.close(descriptor)
            return shown


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"YES\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)])
async def test_purge_asks(typed: bytes, code: int, hive: Program, daemon: StandIn) -> None:
    """A purge asks on the terminal, and only a clear yes is one."""
    daemon.agents = [agent("alice")]
    ended, shown = await on_terminal(hive, "destroy", "alice", "--purge", typed=typed)
    assert "Remove alice with all of its files and waiting messages, for good? [y/N]" in shown
    assert ended == code
    assert [body for _, _, body in daemon.asked] == ([DestroyRequest(purge=True)] if code == 0 else [])


async def test_ctrl_c_at_the_question(hive: Program, daemon: StandIn) -> None:
    """Ctrl-C at the question changes nothing and ends with 130, without a traceback."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hive_core", "destroy", "alice", "--purge",
        stdin=theirs, stdout=theirs, stderr=theirs, env=hive.environment(), start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += await asyncio.to_thread(os.read, ours, 4_096)
    process.send_signal(2)
    assert await process.wait() == 130
    assert b"Traceback" not in await asyncio.to_thread(_read_all, ours)
    assert daemon.asked == []


async def test_colours(hive: Program, daemon: StandIn) -> None:
    """A terminal gets colours, unless NO_COLOR or TERM=dumb asks for none."""
    daemon.agents = [agent("alice")]
    assert "\x1b[32m" in (await on_terminal(hive, "list"))[1]
    assert "\x1b" not in (await on_terminal(hive, "list", env={"NO_COLOR": "1"}))[1]
    assert "\x1b" not in (await on_terminal(hive, "list", env={"TERM": "dumb"}))[1]
    assert "\x1b" not in (await on_terminal(hive, "list", "--json"))[1]


@pytest.mark.parametrize("columns", [20, 40, 80])
async def test_a_list_fits(columns: int, hive: Program, daemon: StandIn) -> None:
    """`list` fits a narrow terminal."""
    daemon.agents = [agent("alice", detail="long " * 40)]
    _, shown = await on_terminal(hive, "list", columns=columns, env={"NO_COLOR": "1"})
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert "alice" in shown


async def test_spawn_shows_progress(hive: Program, daemon: StandIn) -> None:
    """On a terminal `spawn` shows what the agent is doing, with nothing in it that the terminal obeys."""
    detail = "[red]\x1b[2J"
    daemon.later = [agent("alice", state=state, detail=detail) for state in ("starting", "starting", "idle")]
    code, shown = await on_terminal(hive, "spawn", "alice")
    assert code == 0
    assert "\x1b[2J" not in shown
    assert r"[red]\x1b[2J" in shown
    assert shown.splitlines()[-1].endswith("is \x1b[32midle\x1b[0m")
