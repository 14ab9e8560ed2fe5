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
from hive_core.messaging import Reminders, Scheduler, scheduler, store
from hive_core.messaging.questions import Questions
from hive_core.protocol import AnswerRequest, QuestionsQuery, RemindRequest, SendRequest
from tests.unit.core.messaging.messaging_hive import INSTANCE, QuestionHive


async def test_it_wakes_by_itself(question_hive: QuestionHive) -> None:
    """With the real clock: what is due later, and sooner than what was waited for, comes without anybody asking."""
    reminders = Reminders(question_hive.database, question_hive.broker)
    question_hive.scheduler = Scheduler(
        question_hive.database,
        Questions(question_hive.database, question_hive.broker, question_hive.directory, question_hive.events),
        reminders,
    )
    await reminders.remind("ada", RemindRequest(text="much later", after=3_600))
    question_hive.run()
    started = time.time()
    await reminders.remind("ada", RemindRequest(text="soon", after=0.2))
    [came] = (await question_hive.next_of()).deliveries
    assert came.body.endswith("soon")
    assert time.time() - started >= 0.2


async def test_what_was_missed_comes_at_once(question_hive: QuestionHive) -> None:
    """What became due while there was no daemon is delivered by the next one, in its order, once."""
    await question_hive.remind("second", after=20)
    await question_hive.remind("first", after=10)
    question = await question_hive.ask(expires_in=15)
    await question_hive.close()
    question_hive.now += 3_600_000
    for _ in range(2):
        await question_hive.open()
        await question_hive.scheduler.run_due()
        bodies = [body for _, _, body, _ in await question_hive.told("ada")]
        await question_hive.close()
    await question_hive.open()
    reminded = [body.rpartition("\n")[2] for body in bodies if body.startswith("Reminder")]
    assert reminded == ["> first", "> second"]
    assert [body for body in bodies if f"your question {question.id} in time" in body] == bodies[2:]


async def test_a_clock_that_is_set_is_noticed(question_hive: QuestionHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clock jumps ahead, what that makes due comes although nothing else happens."""
    monkeypatch.setattr("hive_core.messaging.scheduler._LONGEST_SECONDS", 0.05)
    await question_hive.remind("tomorrow", after=86_400)
    question_hive.run()
    await question_hive.scheduler.run_due()
    assert await question_hive.told("ada") == []
    question_hive.now += 86_400_000
    [came] = (await question_hive.next_of()).deliveries
    assert came.body.endswith("tomorrow")


async def test_a_clock_that_is_set_back_gives_no_question_more_time(question_hive: QuestionHive) -> None:
    """A question expires in time, although the host's clock was set back by a day meanwhile."""
    await question_hive.ask(expires_in=60)
    question_hive.set_back = 86_400_000
    question_hive.now += 59_000
    await question_hive.scheduler.run_due()
    assert await question_hive.told("ada") == []
    question_hive.now += 1_000
    assert await question_hive.scheduler.run_due() > 0
    assert len(await question_hive.told("ada")) == 1


async def test_a_full_inbox_holds_up_nobody_else(tmp_path: Path) -> None:
    """What cannot be delivered stays due and is told once in the log; others get theirs; with room it comes, once."""
    hive = QuestionHive(tmp_path, inbox_limit=1)
    await hive.open()
    filled = await hive.broker.send("bob", SendRequest(to="ada", body="x"))
    for text in ("one", "two", "three"):
        await hive.remind(text, after=1)
    await hive.remind("bob's", agent="bob", after=1)
    hive.now += 1_000
    with capture_logs() as logs:
        await hive.scheduler.run_due()
    assert [entry["agent"] for entry in logs if entry["event"] == "not delivered, tried again later"] == ["ada"]
    assert [sender for sender, *_ in await hive.told("bob")] == ["bob"]
    hive.run()
    bodies: list[str] = []
    held = [filled.id]
    await hive.broker.hello("ada", INSTANCE)
    await hive.next_of()
    while len(bodies) < 3:
        await hive.broker.acknowledge("ada", INSTANCE, held)
        came = (await hive.next_of()).deliveries
        held = [delivery.id for delivery in came]
        bodies += [delivery.body.rpartition("\n")[2] for delivery in came]
    assert bodies == ["> one", "> two", "> three"]
    await hive.close()


async def test_a_message_and_the_end_are_one(question_hive: QuestionHive) -> None:
    """A reminder whose message cannot be stored is not gone: both are on disk, or neither."""
    await question_hive.remind("kept", after=1)
    question_hive.now += 1_000

    def refused(_: sqlite3.Connection, __: object) -> None:
        raise HiveError("disk_full", "no room")

    with patch.object(store, "insert", refused):
        await question_hive.scheduler.run_due()
    assert await question_hive.told("ada") == []
    assert len(await question_hive.reminders.waiting_of("ada")) == 1
    question_hive.run()
    [came] = (await question_hive.next_of()).deliveries
    assert came.body.endswith("kept")
    assert await question_hive.reminders.waiting_of("ada") == []


async def test_a_destroyed_agents_reminders_wait(question_hive: QuestionHive) -> None:
    """Nothing comes while there is no such agent, and nobody retries; the next of its name gets them."""
    await question_hive.remind("still there?", after=1)
    await question_hive.remove("ada")
    question_hive.now += 5_000
    with capture_logs() as logs:
        assert await question_hive.scheduler.run_due() > 1.0
    assert logs == []
    question_hive.run()
    await question_hive.add("ada")
    question_hive.scheduler.reschedule()
    [came] = (await question_hive.next_of()).deliveries
    assert came.body.endswith("still there?")


async def test_what_ended_is_removed_after_a_while(question_hive: QuestionHive) -> None:
    """Ended questions and reminders go after the retention time, open ones never."""
    ended, still = await question_hive.ask("ended"), await question_hive.ask("still open")
    question_hive.now += 1_000
    await question_hive.questions.answer(ended.id, AnswerRequest(text="yes"), "operator")
    for after in (0, 30 * 86_400):
        await question_hive.remind(after=after)
    await question_hive.scheduler.run_due()
    question_hive.now += 86_400_000
    assert await question_hive.scheduler.vacuum(1, batch=1) == 0
    question_hive.now += 1
    assert await question_hive.scheduler.vacuum(1, batch=1) == 2
    assert [row.id for row in (await question_hive.questions.listing(QuestionsQuery(view="all"))).questions] == [
        still.id
    ]
    assert len(await question_hive.reminders.waiting_of("ada")) == 1


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_daemon_that_stops_meanwhile(question_hive: QuestionHive, steps: int) -> None:
    """Wherever it is broken off, nothing is left half begun, and the rest is told by the next daemon, once."""
    await question_hive.remind("kept", after=0)
    bringing = asyncio.create_task(question_hive.scheduler.run_due())
    for _ in range(steps):
        await asyncio.sleep(0)
        time.sleep(0.003)  # noqa: ASYNC251 - so that the database's thread has answered.
    bringing.cancel()
    await asyncio.wait([bringing])
    gc.collect()  # A coroutine that nobody awaited would warn now.
    await question_hive.restart()
    await question_hive.scheduler.run_due()
    assert len(await question_hive.told("ada")) == 1


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
    return asyncio.create_task(scheduler.run_retention(broker.vacuum, 14.0))


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
