"""Long-running programs: kept beyond a turn, continued after a restart, and never too many."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from hive_agent.infra import processes
from hive_agent.programs import starter as starter_module
from hive_agent.programs.records import MOST_RUNNING, STARTER, Order, ProgramRecord, Status, connect, read_records
from hive_agent.programs.starter import ProgramRefused, Starter
from tests.helpers.own_children import OwnChildren

PATH = {"PATH": os.environ["PATH"]}


def order(name: str, *argv: str, directory: str = "/") -> Order:
    return Order(name=name, argv=list(argv), directory=directory, environment={})


async def ended(record: ProgramRecord) -> Status:
    """Wait for the end of a program's keeper."""
    connection = record.connect()
    if connection is not None:
        with connection:
            connection.settimeout(30)
            with suppress(ConnectionResetError):  # It has ended before it accepted.
                await asyncio.to_thread(connection.recv, 1)
    return record.status()


async def test_a_program_stays_when_the_turn_that_started_it_ends(starter: Starter, programs: Path) -> None:
    """The end of a turn kills what the turn has started, and neither the program nor the orphans of that."""
    (programs.parent / "pids").mkdir()
    script = "setsid sleep 1021 & echo $! >orphan; exec sleep 1022"
    async with processes.running(["sleep", "1023"], PATH, programs) as turn:
        status = await starter.start(order("web", "sh", "-c", script, directory=str(programs.parent / "pids")))
        assert status.pid is not None
    assert not psutil.pid_exists(turn.pid)
    assert psutil.Process(status.pid).is_running()
    orphan = int((programs.parent / "pids/orphan").read_text())
    assert psutil.Process(orphan).is_running()


async def test_programs_end_with_the_harness_and_are_started_again_by_the_next(
    starter: Starter, programs: Path
) -> None:
    """A harness that stops leaves no process behind; the next one starts what was running, and says why."""
    children = OwnChildren()
    await starter.start(order("web", "sh", "-c", "(setsid sleep 1024 &); sleep 1025"))
    await starter.start(order("done", "true"))
    await ended(ProgramRecord(programs / "done"))
    await starter.close()
    assert children.alive() == []
    assert ProgramRecord(programs / "web").status().state == "interrupted"
    await starter.continue_all()
    record = ProgramRecord(programs / "web")
    assert record.status().state == "running"
    found = record.order()
    assert found is not None and found.restart_reason == "the harness was restarted"
    assert ProgramRecord(programs / "done").status().state == "exited"


async def test_a_killed_keeper_takes_its_program_with_it(starter: Starter, programs: Path) -> None:
    """A program whose keeper is killed ends, is shown as interrupted, and is started again by the next harness."""
    status = await starter.start(order("web", "sleep", "1026"))
    record = ProgramRecord(programs / "web")
    assert status.keeper is not None and status.pid is not None
    program = psutil.Process(status.pid)
    psutil.Process(status.keeper).kill()
    await asyncio.to_thread(program.wait, 10)
    assert (await ended(record)).state == "interrupted"
    await starter.continue_all()
    assert record.status().state == "running"


async def test_a_program_that_was_started_too_often_is_not_started_again(starter: Starter, programs: Path) -> None:
    """Five starts within an hour are enough: the program that may have ended the agent each time stays ended."""
    record = ProgramRecord(programs / "web")
    now = datetime.now(UTC)
    for age, state in ((timedelta(minutes=1), "failed"), (timedelta(hours=2), "running")):
        record.store(order("web", "sleep", "1027").model_copy(update={"starts": [now - age] * 5}))
        record.settle(Status(state="interrupted"))
        await starter.continue_all()
        assert record.status().state == state


async def test_programs_have_the_harness_variables_and_those_of_the_order(starter: Starter, programs: Path) -> None:
    """A program gets the variables of the harness and of its order; no others, and no file holds the harness's."""
    wanted = order("env", "env", directory=str(programs)).model_copy(update={"environment": {"MODE": "dev"}})
    await starter.start(wanted)
    await ended(ProgramRecord(programs / "env"))
    lines = (programs / "env/log").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines} <= {"PATH", "FROM_HARNESS", "MODE", "PWD"}
    assert "FROM_HARNESS=here" in lines and "MODE=dev" in lines
    assert all("here" not in file.read_text() for file in (programs / "env").glob("*.json"))


async def test_what_cannot_be_started_says_why(starter: Starter, programs: Path) -> None:
    """A missing program, and a missing directory, are refused with the reason, which is kept."""
    with pytest.raises(ProgramRefused, match="cannot be started: No such file or directory: no-such-program"):
        await starter.start(order("web", "no-such-program"))
    with pytest.raises(ProgramRefused, match="/no/such/directory"):
        await starter.start(order("web", "true", directory="/no/such/directory"))
    assert ProgramRecord(programs / "web").status().state == "failed"


async def test_a_name_is_used_once(starter: Starter) -> None:
    """A second program of the name is refused while the first one runs."""
    await starter.start(order("web", "sleep", "1028"))
    with pytest.raises(ProgramRefused, match="web runs already"):
        await starter.start(order("web", "true"))


async def test_programs_are_bounded_in_number(
    starter: Starter, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than so many run; records of ended ones make room, the oldest first."""
    monkeypatch.setattr(starter_module, "MOST_RUNNING", 1)
    monkeypatch.setattr(starter_module, "MOST_KEPT", 2)
    for name in ("one", "two", "three"):
        await starter.start(order(name, "true"))
        await ended(ProgramRecord(programs / name))
    assert [record.name for record in read_records(programs)] == ["three", "two"]
    await starter.start(order("four", "sleep", "1029"))
    with pytest.raises(ProgramRefused, match="1 programs run already"):
        await starter.start(order("five", "true"))
    assert MOST_RUNNING == 10


async def test_records_of_an_agent_are_not_trusted(starter: Starter, programs: Path) -> None:
    """Links, foreign names, broken and huge records are skipped, and the rest is continued."""
    elsewhere = programs.parent / "elsewhere"
    ProgramRecord(elsewhere / "web").store(order("web", "touch", str(programs / "touched")))
    (programs / "linked").symlink_to(elsewhere / "web")
    (programs / "other").mkdir()
    (programs / "other/order.json").write_bytes((elsewhere / "web/order.json").read_bytes())
    (programs / "huge").mkdir()
    (programs / "huge/order.json").write_text(json.dumps({"name": "huge", "argv": ["x" * 10_000_000]}) + "\n")
    (programs / "pipe").mkdir()
    os.mkfifo(programs / "pipe/order.json")
    good = ProgramRecord(programs / "good")
    good.store(order("good", "sleep", "1030"))
    good.settle(Status(state="interrupted"))
    await starter.continue_all()
    assert good.status().state == "running"
    assert not (programs / "touched").exists()


async def test_the_starter_answers_wrong_requests(starter: Starter, programs: Path) -> None:
    """Requests that are no orders are refused, or their connection is closed, and the next one is answered."""
    for line, answer in (
        (b"{}\n", "names nothing"),
        (b'{"run": {"name": "../x", "argv": ["a"], "directory": "/", "environment": {}}}\n', "not valid"),
        (b"no JSON\n", "not valid"),
        (b'{"keep": "missing"}\n', "no program missing"),
    ):
        reader, writer = await asyncio.open_unix_connection(sock=_connect(programs))
        writer.write(line)
        assert answer in json.loads(await reader.readline())["error"]
        writer.close()
    reader, writer = await asyncio.open_unix_connection(sock=_connect(programs))
    writer.write(b"x" * 1_000_000)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


def _connect(programs: Path) -> socket.socket:
    connection = connect(programs, STARTER)
    connection.setblocking(False)
    return connection
