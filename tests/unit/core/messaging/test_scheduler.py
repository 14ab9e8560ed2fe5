"""Time brings what it has to bring: by itself, once, and to whom it can."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from hive_core.errors import HiveError
from hive_core.messaging import Due, Reminders, scheduler, store
from hive_core.messaging.questions import Questions
from hive_core.protocol import AnswerRequest, QuestionsQuery, RemindRequest, SendRequest
from tests.unit.core.messaging.messaging_hive import INSTANCE, Scene


async def test_it_wakes_by_itself(scene: Scene) -> None:
    """With the real clock: what is due later, and sooner than what was waited for, comes without anybody asking."""
    reminders = Reminders(scene.database, scene.broker)
    scene.due = Due(scene.database, Questions(scene.database, scene.broker, scene.directory, scene.events), reminders)
    await reminders.remind("ada", RemindRequest(text="much later", after=3_600))
    scene.run()
    started = time.time()
    await reminders.remind("ada", RemindRequest(text="soon", after=0.2))
    [came] = (await scene.next_of()).deliveries
    assert came.body.endswith("soon")
    assert time.time() - started >= 0.2


async def test_what_was_missed_comes_at_once(scene: Scene) -> None:
    """What became due while there was no daemon is delivered by the next one, in its order, once."""
    await scene.remind("second", after=20)
    await scene.remind("first", after=10)
    question = await scene.ask(expires_in=15)
    await scene.close()
    scene.now += 3_600_000
    for _ in range(2):
        await scene.open()
        await scene.due.carry_out()
        bodies = [body for _, _, body, _ in await scene.told("ada")]
        await scene.close()
    await scene.open()
    reminded = [body.rpartition("\n")[2] for body in bodies if body.startswith("Reminder")]
    assert reminded == ["first", "second"]
    assert [body for body in bodies if f"your question {question.id} in time" in body] == bodies[2:]


async def test_a_clock_that_is_set_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clock jumps ahead, what that makes due comes although nothing else happens."""
    monkeypatch.setattr("hive_core.messaging.scheduler._LONGEST_SECONDS", 0.05)
    await scene.remind("tomorrow", after=86_400)
    scene.run()
    await scene.due.carry_out()
    assert await scene.told("ada") == []
    scene.now += 86_400_000
    [came] = (await scene.next_of()).deliveries
    assert came.body.endswith("tomorrow")


async def test_a_full_inbox_holds_up_nobody_else(tmp_path: Path) -> None:
    """What cannot be delivered stays due and is told once in the log; others get theirs; with room it comes, once."""
    scene = Scene(tmp_path, inbox_limit=1)
    await scene.open()
    filled = await scene.broker.send("bob", SendRequest(to="ada", body="x"))
    for text in ("one", "two", "three"):
        await scene.remind(text, after=1)
    await scene.remind("bob's", agent="bob", after=1)
    scene.now += 1_000
    with capture_logs() as logs:
        await scene.due.carry_out()
    assert [entry["agent"] for entry in logs if entry["event"] == "not delivered, tried again later"] == ["ada"]
    assert [sender for sender, *_ in await scene.told("bob")] == ["bob"]
    scene.run()
    bodies: list[str] = []
    held = [filled.id]
    await scene.broker.hello("ada", INSTANCE)
    await scene.next_of()
    while len(bodies) < 3:
        await scene.broker.acknowledge("ada", INSTANCE, held)
        came = (await scene.next_of()).deliveries
        held = [delivery.id for delivery in came]
        bodies += [delivery.body.rpartition("\n")[2] for delivery in came]
    assert bodies == ["one", "two", "three"]
    await scene.close()


async def test_a_message_and_the_end_are_one(scene: Scene) -> None:
    """A reminder whose message cannot be stored is not gone: both are on disk, or neither."""
    await scene.remind("kept", after=1)
    scene.now += 1_000

    def refused(_: sqlite3.Connection, __: object) -> None:
        raise HiveError("disk_full", "no room")

    with patch.object(store, "insert", refused):
        await scene.due.carry_out()
    assert await scene.told("ada") == []
    assert len(await scene.reminders.waiting_of("ada")) == 1
    scene.run()
    [came] = (await scene.next_of()).deliveries
    assert came.body.endswith("kept")
    assert await scene.reminders.waiting_of("ada") == []


async def test_a_destroyed_agents_reminders_wait(scene: Scene) -> None:
    """Nothing comes while there is no such agent, and nobody retries; the next of its name gets them."""
    await scene.remind("still there?", after=1)
    await scene.remove("ada")
    scene.now += 5_000
    with capture_logs() as logs:
        assert await scene.due.carry_out() > 1.0
    assert logs == []
    scene.run()
    await scene.add("ada")
    scene.due.look_again()
    [came] = (await scene.next_of()).deliveries
    assert came.body.endswith("still there?")


async def test_what_ended_is_removed_after_a_while(scene: Scene) -> None:
    """Ended questions and reminders go after the retention time, open ones never."""
    ended, still = await scene.ask("ended"), await scene.ask("still open")
    scene.now += 1_000
    await scene.questions.answer(ended.id, AnswerRequest(text="yes"), "operator")
    for after in (0, 30 * 86_400):
        await scene.remind(after=after)
    await scene.due.carry_out()
    scene.now += 86_400_000
    assert await scene.due.vacuum(1, batch=1) == 0
    scene.now += 1
    assert await scene.due.vacuum(1, batch=1) == 2
    assert [row.id for row in (await scene.questions.listing(QuestionsQuery(view="all"))).questions] == [still.id]
    assert len(await scene.reminders.waiting_of("ada")) == 1


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_daemon_that_stops_meanwhile(scene: Scene, steps: int) -> None:
    """Wherever it is broken off, nothing is left half begun, and the rest is told by the next daemon, once."""
    await scene.remind("kept", after=0)
    bringing = asyncio.create_task(scene.due.carry_out())
    for _ in range(steps):
        await asyncio.sleep(0)
        time.sleep(0.003)  # noqa: ASYNC251 - so that the database's thread has answered.
    bringing.cancel()
    await asyncio.wait([bringing])
    gc.collect()  # A coroutine that nobody awaited would warn now.
    await scene.restart()
    await scene.due.carry_out()
    assert len(await scene.told("ada")) == 1


class Vacuumed:
    """Stands for the broker: its vacuum fails with these codes in turn, and then works."""

    def __init__(self, *codes: str) -> None:
        self._codes = list(codes)
        self.worked = asyncio.Event()

    async def vacuum(self, _: float) -> int:
        if self._codes:
            raise HiveError(self._codes.pop(0), "not now")
        self.worked.set()
        return 0


def vacuuming(broker: Vacuumed) -> asyncio.Task[None]:
    return asyncio.create_task(scheduler.keep_vacuumed(broker.vacuum, 14.0))


async def test_a_vacuum_on_a_full_disk_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vacuum at start must not make a full disk a loop of starts: it is put off until there is room."""
    monkeypatch.setattr(scheduler, "_VACUUM_RETRY_SECONDS", 0.0)
    broker = Vacuumed("disk_full", "database_busy")
    running = vacuuming(broker)
    async with asyncio.timeout(10):
        await broker.worked.wait()
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


async def test_a_vacuum_that_fails_for_good_is_told() -> None:
    """What does not pass is not tried again and again."""
    with pytest.raises(HiveError) as failure:
        await vacuuming(Vacuumed("storage_failed"))
    assert failure.value.code == "storage_failed"
