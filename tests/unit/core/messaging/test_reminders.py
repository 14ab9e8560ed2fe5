"""Reminders: when they come, to whom, and how many there may be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.reminders import MOST_WAITING
from hive_core.protocol import RemindersQuery
from hive_core.protocol.messaging.questions import LONGEST_AHEAD
from tests.unit.core.messaging.messaging_hive import QuestionHive


def at(question_hive: QuestionHive, **ahead: float) -> datetime:
    """A moment so far from now on the scene's clock."""
    return datetime.fromtimestamp(question_hive.now / 1_000, UTC) + timedelta(**ahead)


async def code(awaited: object) -> str:
    """The code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        await awaited  # type: ignore[misc]
    return refusal.value.code


async def test_a_reminder_comes_at_its_time(question_hive: QuestionHive) -> None:
    """At a time or after so long, the agent gets its own text from itself, whomever it may write to; once."""
    first = await question_hive.remind("look at the build", agent="bob", after=60)
    second = await question_hive.remind("and again", agent="bob", at=at(question_hive, seconds=90))
    assert (first.at, second.at) == (at(question_hive, seconds=60), at(question_hive, seconds=90))
    for ahead, count in ((59_999, 0), (1, 1), (29_999, 1), (1, 2), (10**9, 2)):
        question_hive.now += ahead
        await question_hive.scheduler.run_due()
        assert len(await question_hive.told("bob")) == count
    (sender, _, body, _), _ = await question_hive.told("bob")
    assert sender == "bob"
    assert body == (
        f"Reminder {first.id}, which you set at 2027-01-15 08:00:00 UTC for 2027-01-15 08:01:00 UTC:\n\n"
        "> look at the build"
    )


async def test_a_time_that_is_past_is_now(question_hive: QuestionHive) -> None:
    """A reminder for a time that is past comes at once."""
    made = [await question_hive.remind(at=at(question_hive, days=-3)), await question_hive.remind(after=0)]
    assert [reminder.at for reminder in made] == [at(question_hive)] * 2
    await question_hive.scheduler.run_due()
    assert len(await question_hive.told("ada")) == 2


async def test_bad_times(question_hive: QuestionHive) -> None:
    """No time, two of them, or one that lies too far ahead is refused."""
    assert await code(question_hive.remind()) == "invalid_request"
    assert await code(question_hive.remind(at=at(question_hive), after=1)) == "invalid_request"
    await question_hive.remind(at=at(question_hive, seconds=LONGEST_AHEAD))
    assert await code(question_hive.remind(at=at(question_hive, seconds=LONGEST_AHEAD + 1))) == "invalid_request"


async def test_an_agent_has_so_many(question_hive: QuestionHive) -> None:
    """One more than 100 reminders to come is refused, of that agent only, until one has come or was given up."""
    made = await asyncio.gather(*(question_hive.remind(after=60) for _ in range(MOST_WAITING)))
    assert await code(question_hive.remind(after=60)) == "too_many_reminders"
    await question_hive.remind(agent="bob", after=60)
    await question_hive.reminders.cancel("ada", made[0].id)
    await question_hive.remind(after=60)


async def test_cancel(question_hive: QuestionHive) -> None:
    """A reminder that is given up never comes; one that came, another's, or none cannot be given up."""
    kept, given_up = await question_hive.remind(after=1), await question_hive.remind("no", after=1)
    assert await code(question_hive.reminders.cancel("bob", given_up.id)) == "unknown_reminder"
    assert await question_hive.reminders.cancel("ada", given_up.id) == given_up
    question_hive.now += 1_000
    await question_hive.scheduler.run_due()
    [(_, _, body, _)] = await question_hive.told("ada")
    assert body.startswith(f"Reminder {kept.id},")
    for number in (kept.id, given_up.id, 999):
        assert await code(question_hive.reminders.cancel("ada", number)) == "unknown_reminder"


async def test_idempotency_keys(question_hive: QuestionHive) -> None:
    """The same key makes one reminder, also after it came; for another text or time it is refused."""
    first, second = await asyncio.gather(*(question_hive.remind(after=60, idempotency_key="k") for _ in range(2)))
    exact = await question_hive.remind(at=first.at, idempotency_key="exact")
    question_hive.now += 60_000
    await question_hive.scheduler.run_due()
    assert first == second == await question_hive.remind(after=60, idempotency_key="k")
    assert exact == await question_hive.remind(at=first.at, idempotency_key="exact")
    assert await code(question_hive.remind("other", after=60, idempotency_key="k")) == "idempotency_conflict"
    assert await code(question_hive.remind(after=61, idempotency_key="k")) == "idempotency_conflict"
    assert (
        await code(question_hive.remind(at=at(question_hive, days=1), idempotency_key="exact"))
        == "idempotency_conflict"
    )
    await question_hive.remind("other", agent="bob", after=60, idempotency_key="k")
    assert len(await question_hive.told("ada")) == 2


async def test_an_agent_that_is_gone(question_hive: QuestionHive) -> None:
    """What a destroyed agent's last request asks for is not kept for the next of its name."""
    await question_hive.remove("ada")
    assert await code(question_hive.remind(after=1)) == "unknown_agent"
    assert (await question_hive.reminders.listing(RemindersQuery())).total == 0


async def test_lists(question_hive: QuestionHive) -> None:
    """The next one first, of one agent or of all; `total` counts what the limit leaves out."""
    late, soon = await question_hive.remind(after=90), await question_hive.remind(agent="bob", after=30)

    async def listed(**query: object) -> tuple[list[int], int]:
        found = await question_hive.reminders.listing(RemindersQuery.model_validate(query))
        return [reminder.id for reminder in found.reminders], found.total

    assert await listed() == ([soon.id, late.id], 2)
    assert await listed(limit=1) == ([soon.id], 2)
    assert await listed(agent="ada") == ([late.id], 1)
    assert [reminder.id for reminder in await question_hive.reminders.waiting_of("bob")] == [soon.id]
