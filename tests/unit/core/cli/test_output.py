"""What is drawn on a terminal: tables, times and event lines."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hive_core.cli.commands.agents.lifecycle import AGENT_COLUMNS
from hive_core.cli.events import lines
from hive_core.cli.output import Column, ago, clock, duration, moment, render
from hive_core.protocol import DestroyRequest, LogsAnswer
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.run_cli import Program

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@given(
    st.lists(
        st.lists(
            st.text(st.characters(categories=["L", "N", "So"]), max_size=30),
            min_size=len(AGENT_COLUMNS),
            max_size=len(AGENT_COLUMNS),
        )
    ),
    st.integers(20, 200),
)
def test_a_table_fits(rows: list[list[str]], width: int) -> None:
    """No line of a table is wider than the terminal, with wide characters, too, unless one name alone is."""
    names = max([cell_len(row[0]) for row in rows], default=0)
    drawn = [click.unstyle(line) for line in render(AGENT_COLUMNS, rows, width)]
    assert len(drawn) == len(rows) + 1
    assert max(cell_len(line) for line in drawn) <= max(width, names + 3)


def test_a_narrow_table_keeps_what_matters() -> None:
    """Columns are left out by their rank when there is no room, and the last one is cut."""
    columns = [Column("NAME", 9), Column("LESS", 1), Column("COUNT", 5, right=True), Column("DETAIL", 4)]
    rows = [["alice", "aaaaaaaaaa", "3", "a long detail of what happened"]]
    assert render(columns, rows, None)[1] == "alice  aaaaaaaaaa      3  a long detail of what happened"
    assert render(columns, rows, 30) == ["NAME   COUNT  DETAIL", "alice      3  a long detail o…"]
    assert render(columns, rows, 15) == ["NAME   COUNT", "alice      3"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (0, "just now"), (59, "59 s ago"), (185, "3 min ago"), (7_200, "2 h ago"), (90_000, "1 day ago"),
     (9 * 86_400, "9 days ago")],
)  # fmt: skip
def test_times_are_told_in_words(seconds: int, text: str) -> None:
    """A time is shown as how long ago it was, in the largest unit that fits."""
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


@pytest.mark.parametrize("value", [None, "", "yesterday", 7])
def test_a_time_that_is_none_is_left_out(value: object) -> None:
    """A time that the daemon does not know shows as nothing."""
    assert (duration(value, NOW), ago(value, NOW), clock(value), moment(value)) == ("", "", "--:--:--", "")


def drawn(kind: str, /, width: int | None = None, every: bool = False, **data: object) -> list[str]:
    event = {"id": 1, "kind": kind, "at": NOW.isoformat(), "data": data}
    return [click.unstyle(line)[9:] for line in lines(event, width, every)]


def test_a_message_is_a_line() -> None:
    """A message shows who told whom what."""
    shown = drawn("message.sent", id=3, sender="alice", to="bob", reply_to=2, body="hi")
    assert shown == ["    alice → bob       #3 answers #2 hi"]
    assert drawn("message.sent", id=3, sender="alice", to="*", reply_to=None, body="hi")[0].split()[2] == "everyone"


def test_long_messages_are_wrapped_below() -> None:
    """Lines of a message stay lines, and long ones are wrapped within the terminal, all of their words kept."""
    body = "first line\n" + "word " * 40 + "\n\nlast"
    shown = drawn("message.sent", 60, id=3, sender="alice", to="bob", reply_to=None, body=body)
    assert shown[1] == "  first line"
    assert shown[-2:] == ["", "  last"]
    assert sum(line.count("word") for line in shown) == 40
    assert max(len(line) for line in shown) <= 60 - 9


def test_states_say_why() -> None:
    """A change of state or process is shown with its reason, in which nothing can act on the terminal."""
    assert drawn("agent.state", agent="bob", state="failed", detail="no\x1bkey\n") == [r'      bob failed  "no\x1bkey"']
    assert drawn("agent.lifecycle", agent="bob", lifecycle="backoff", cause="exit code 1") == [
        "      bob process backoff  exit code 1"
    ]
    assert drawn("events.lost", count=12) == ["12 events are not shown: they came faster than they were read"]


def test_a_proposals_changes_are_shown() -> None:
    """What becomes of a proposal is one line: what it is, its state, who and why."""
    note = "Use the small model.\n\x1b[2J"
    changed: dict[str, Any] = {
        "agent": "ada",
        "number": 3,
        "kind": "config",
        "state": "proposal",
        "by": "agent:ada",
        "note": note,
    }
    assert drawn("proposal.changed", **changed) == [
        r'      ada proposal 3 proposed  agent:ada  "Use the small model. \x1b[2J"'
    ]
    changed |= {"kind": "rollback", "state": "deployed", "by": "operator:x\x1b", "note": ""}
    assert drawn("proposal.changed", **changed) == [r"      ada rollback 3 deployed  operator:x\x1b"]


def test_routine_is_shown_on_request() -> None:
    """Deliveries and acknowledgements show only when asked for, but a redelivery always."""
    assert drawn("message.delivered", agent="bob", ids=[3, 4], redelivered=False) == []
    assert drawn("message.acknowledged", agent="bob", ids=[3]) == []
    assert drawn("message.acknowledged", every=True, agent="bob", ids=[3]) == ["      bob handled #3"]
    assert drawn("message.delivered", agent="bob", ids=[3], redelivered=True) == ["      bob got #3 again"]
    assert drawn("message.released", agent="bob", ids=[3]) == ["      bob gave back #3"]


def test_an_unknown_event_is_shown() -> None:
    """An event of a newer daemon is named, not dropped."""
    assert drawn("gate.built", agent="bob") == ["bob gate.built"]


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
async def test_purge_asks(typed: bytes, code: int, hive: Program, daemon: FakeHost) -> None:
    """A purge asks on the terminal, and only a clear yes is one."""
    daemon.agents = [agent("alice")]
    ended, shown = await on_terminal(hive, "destroy", "alice", "--purge", typed=typed)
    assert "Remove alice with all of its files and waiting messages, permanently? [y/N]" in shown
    assert ended == code
    assert [body for _, _, body in daemon.asked] == ([DestroyRequest(purge=True)] if code == 0 else [])


async def test_ctrl_c_at_the_question(hive: Program, daemon: FakeHost) -> None:
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


async def test_colours(hive: Program, daemon: FakeHost) -> None:
    """A terminal gets colours, unless NO_COLOR or TERM=dumb asks for none."""
    daemon.agents = [agent("alice")]
    assert "\x1b[32m" in (await on_terminal(hive, "list"))[1]
    assert "\x1b" not in (await on_terminal(hive, "list", env={"NO_COLOR": "1"}))[1]
    assert "\x1b" not in (await on_terminal(hive, "list", env={"TERM": "dumb"}))[1]
    assert "\x1b" not in (await on_terminal(hive, "list", "--json"))[1]


@pytest.mark.parametrize("columns", [20, 40, 80])
async def test_a_list_fits(columns: int, hive: Program, daemon: FakeHost) -> None:
    """`list` fits a narrow terminal."""
    daemon.agents = [agent("alice", detail="long " * 40)]
    _, shown = await on_terminal(hive, "list", columns=columns, env={"NO_COLOR": "1"})
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert "alice" in shown


async def test_spawn_shows_progress(hive: Program, daemon: FakeHost) -> None:
    """On a terminal `spawn` shows what the agent is doing, with nothing in it that the terminal obeys."""
    detail = "[red]\x1b[2J"
    daemon.later = [agent("alice", state=state, detail=detail) for state in ("starting", "starting", "idle")]
    code, shown = await on_terminal(hive, "spawn", "alice")
    assert code == 0
    assert "\x1b[2J" not in shown
    assert r"[red]\x1b[2J" in shown
    assert shown.splitlines()[-1].endswith("is \x1b[32midle\x1b[0m")


@pytest.mark.parametrize(
    ("arguments", "is_paged"),
    [(["work", "log", "web/3"], True), (["proposals", "log", "ada/3", "--no-pager"], False),
     (["logs", "ada", "-n", "9"], True)],
)  # fmt: skip
async def test_a_long_log_is_paged(arguments: list[str], is_paged: bool, hive: Program, daemon: FakeHost) -> None:
    """A log that does not fit on the terminal goes through the pager, escaped, unless --no-pager is given."""
    lines = [f"line {number} \x1b[2J" for number in range(30)]
    daemon.raw = LogsAnswer(lines=lines, cursor="1").model_dump_json().encode()
    pager = hive.socket.with_name("pager")
    pager.write_text("#!/bin/sh\nexec sed 's/^/paged: /'\n")
    pager.chmod(0o755)
    code, shown = await on_terminal(hive, *arguments, env={"PAGER": str(pager)})
    assert code == 0 and "line 29 \\x1b[2J" in shown and "\x1b" not in shown
    assert shown.startswith("paged: ") == is_paged
