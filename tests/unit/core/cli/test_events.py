"""Reading a `text/event-stream`."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process

import pytest
from click import unstyle
from hypothesis import given
from hypothesis import strategies as st

from hive_core.cli.events import Item, parse
from hive_core.cli.events import lines as shown_lines
from hive_core.protocol import Event
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


def items(text: str) -> list[Item]:
    return list(parse(line.encode() for line in text.splitlines(keepends=True)))


def test_items_are_found() -> None:
    """Comments are skipped, lines of data joined, and the last id holds until the next."""
    stream = ": welcome\n\nid: 4\nevent: x\ndata: one\ndata:two\n\ndata: three\r\n\r\n: alive\n\n"
    assert items(stream) == [Item("4", "one\ntwo", "x"), Item("4", "three")]


def test_an_id_alone_counts() -> None:
    """An id without data names where to go on, before anything has happened."""
    assert items("id: 9\n\n") == [Item("9", "")]


def test_a_half_item_is_dropped() -> None:
    """What the daemon did not finish to say is not shown; it comes again after the reconnect."""
    assert items("id: 4\ndata: one\n\nid: 5\ndata: tw") == [Item("4", "one")]


@given(st.lists(st.binary(max_size=50)))
def test_garbage_does_no_harm(lines: list[bytes]) -> None:
    """Bytes that are no stream end in no error."""
    assert all(isinstance(item, Item) for item in parse(lines))


async def line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode()


async def interrupted(process: Process) -> tuple[bytes, bytes]:
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    return out, err


async def test_shows_what_happens(hive: Program, daemon: FakeHost) -> None:
    """Messages and changes of state come as lines, at once and without colours where there is no terminal."""
    process = await hive.begin("watch")
    await daemon.watching.wait()
    daemon.happens(1, "message.sent", id=3, sender="alice", to="bob", reply_to=None, body="hi\x1b[2J")
    assert (await line(process))[9:] == "    alice → bob       #3 hi\\x1b[2J\n"
    daemon.happens(2, "message.delivered", agent="bob", ids=[3], redelivered=False)
    daemon.happens(3, "agent.state", agent="bob", state="thinking", detail="")
    assert (await line(process))[9:] == "      bob thinking\n"
    change = {"agent": "bob", "number": 2, "kind": "config", "state": "built", "by": "agent:bob", "note": "more"}
    daemon.happens(4, "proposal.changed", **change)
    assert (await line(process))[9:] == '      bob proposal 2 built  agent:bob  "more"\n'
    out, err = await interrupted(process)
    assert (out, err.strip()) == (b"", b"")


async def test_goes_on_after_a_restart(hive: Program, daemon: FakeHost) -> None:
    """When the daemon comes back, the flow goes on after the last event that was seen."""
    process = await hive.begin("watch", "--after", "0", "--json")
    await daemon.watching.wait()
    first = daemon.happens(41, "agent.state", agent="bob", state="idle", detail="\x9b")
    assert Event.model_validate_json(await line(process)) == first
    await daemon.stop()
    assert process.stderr is not None
    assert b"lost the connection" in await process.stderr.readline()
    daemon.watching.clear()
    await daemon.start()
    await daemon.watching.wait()
    second = daemon.happens(42, "agent.lifecycle", agent="bob", lifecycle="backoff", cause="exit code 1")
    assert Event.model_validate_json(await line(process)) == second
    assert daemon.streams == [(0, None), (None, "41")]
    out, err = await interrupted(process)
    assert (out, err.strip()) == (b"", b"connected to the daemon again")


async def test_routine_with_verbose(hive: Program, daemon: FakeHost) -> None:
    """-v shows what is handed out and handled, too."""
    process = await hive.begin("watch", "-v")
    await daemon.watching.wait()
    daemon.happens(1, "message.acknowledged", agent="bob", ids=[3, 4])
    assert (await line(process))[9:] == "      bob handled #3, #4\n"
    await interrupted(process)


async def test_ends_with_its_reader(hive: Program, daemon: FakeHost) -> None:
    """When nobody reads the output any more (`| head`), the program ends quietly."""
    process = await hive.begin("watch")
    await daemon.watching.wait()
    transport = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    transport.close()
    daemon.happens(1, "agent.state", agent="bob", state="idle", detail="")
    daemon.happens(2, "agent.state", agent="bob", state="idle", detail="")
    assert process.stderr is not None
    assert (await process.stderr.read(), await process.wait()) == (b"", 1)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"what": "allow", "host": "npm", "by": "operator:me"}, 'may reach "npm" by operator:me'),
        ({"what": "open", "by": "operator:me"}, "may reach everything that is public by operator:me"),
        ({"what": "ended", "host": ""}, "has no rule any more for what was open"),
        ({"what": "refused", "host": "a\x1b\nb", "count": 3}, 'was refused "a\\x1b b" and 2 more'),
    ],
)
def test_changes_of_the_network(data: dict[str, object], shown: str) -> None:
    """A change of what an agent reaches is one line, in which a host is quoted."""
    event = {"kind": "network.changed", "at": "2026-01-02T03:04:05+00:00", "data": {"agent": "ada", "by": "", **data}}
    [text] = shown_lines(event, None, every=False)
    assert " ".join(unstyle(text).split()[1:]) == f"ada {shown}"
