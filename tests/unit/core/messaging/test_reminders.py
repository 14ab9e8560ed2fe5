"""Reminders: when they come, to whom, and how many there may be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.reminders import MOST_WAITING
from hive_core.protocol import RemindersQuery
from hive_core.protocol.questions import LONGEST_AHEAD
from tests.unit.core.messaging.messaging_hive import QuestionHive


def at(hive: QuestionHive, **ahead: float) -> datetime:
    """A moment so far from now on the scene's clock."""
    return datetime.fromtimestamp(hive.now / 1_000, UTC) + timedelta(**ahead)


async def code(awaited: object) -> str:
    """The code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        await awaited  # type: ignore[misc]
    return refusal.value.code


async def test_a_reminder_comes_at_its_time(hive: QuestionHive) -> None:
    """At a time or after so long, the agent gets its own text from itself, whomever it may write to; once."""
    first = await hive.remind("look at the build", agent="bob", after=60)
    second = await hive.remind("and again", agent="bob", at=at(hive, seconds=90))
    assert (first.at, second.at) == (at(hive, seconds=60), at(hive, seconds=90))
    for ahead, count in ((59_999, 0), (1, 1), (29_999, 1), (1, 2), (10**9, 2)):
        hive.now += ahead
        await hive.scheduler.run_due()
        assert len(await hive.told("bob")) == count
    (sender, _, body, _), _ = await hive.told("bob")
    assert sender == "bob"
    assert body == (
        f"Reminder {first.id}, which you set at 2027-01-15 08:00:00 UTC for 2027-01-15 08:01:00 UTC:\n\n"
        "look at the build"
    )


async def test_a_time_that_is_past_is_now(hive: QuestionHive) -> None:
    """A reminder for a time that is past comes at once."""
    made = [await hive.remind(at=at(hive, days=-3)), await hive.remind(after=0)]
    assert [reminder.at for reminder in made] == [at(hive)] * 2
    await hive.scheduler.run_due()
    assert len(await hive.told("ada")) == 2


async def test_bad_times(hive: QuestionHive) -> None:
    """No time, two of them, or one that lies too far ahead is refused."""
    assert await code(hive.remind()) == "invalid_request"
    assert await code(hive.remind(at=at(hive), after=1)) == "invalid_request"
    await hive.remind(at=at(hive, seconds=LONGEST_AHEAD))
    assert await code(hive.remind(at=at(hive, seconds=LONGEST_AHEAD + 1))) == "invalid_request"


async def test_an_agent_has_so_many(hive: QuestionHive) -> None:
    """One more than 100 reminders to come is refused, of that agent only, until one has come or was given up."""
    made = await asyncio.gather(*(hive.remind(after=60) for _ in range(MOST_WAITING)))
    assert await code(hive.remind(after=60)) == "too_many_reminders"
    await hive.remind(agent="bob", after=60)
    await hive.reminders.cancel("ada", made[0].id)
    await hive.remind(after=60)


async def test_cancel(hive: QuestionHive) -> None:
    """A reminder that is given up never comes; one that came, another's, or none cannot be given up."""
    kept, given_up = await hive.remind(after=1), await hive.remind("no", after=1)
    assert await code(hive.reminders.cancel("bob", given_up.id)) == "unknown_reminder"
    assert await hive.reminders.cancel("ada", given_up.id) == given_up
    hive.now += 1_000
    await hive.scheduler.run_due()
    [(_, _, body, _)] = await hive.told("ada")
    assert body.startswith(f"Reminder {kept.id},")
    for number in (kept.id, given_up.id, 999):
        assert await code(hive.reminders.cancel("ada", number)) == "unknown_reminder"


async def test_idempotency_keys(hive: QuestionHive) -> None:
    """The same key makes one reminder, also after it came; for another text or time it is refused."""
    first, second = await asyncio.gather(*(hive.remind(after=60, idempotency_key="k") for _ in range(2)))
    exact = await hive.remind(at=first.at, idempotency_key="exact")
    hive.now += 60_000
    await hive.scheduler.run_due()
    assert first == second == await hive.remind(after=60, idempotency_key="k")
    assert exact == await hive.remind(at=first.at, idempotency_key="exact")
    assert await code(hive.remind("other", after=60, idempotency_key="k")) == "idempotency_conflict"
    assert await code(hive.remind(after=61, idempotency_key="k")) == "idempotency_conflict"
    assert await code(hive.remind(at=at(hive, days=1), idempotency_key="exact")) == "idempotency_conflict"
    await hive.remind("other", agent="bob", after=60, idempotency_key="k")
    assert len(await hive.told("ada")) == 2


async def test_an_agent_that_is_gone(hive: QuestionHive) -> None:
    """What a destroyed agent's last request asks for is not kept for the next of its name."""
    await hive.remove("ada")
    assert await code(hive.remind(after=1)) == "unknown_agent"
    assert (await hive.reminders.listing(RemindersQuery())).total == 0


async def test_lists(hive: QuestionHive) -> None:
    """The next one first, of one agent or of all; `total` counts what the limit leaves out."""
    late, soon = await hive.remind(after=90), await hive.remind(agent="bob", after=30)

    async def listed(**query: object) -> tuple[list[int], int]:
        found = await hive.reminders.listing(RemindersQuery.model_validate(query))
        return [reminder.id for reminder in found.reminders], found.total

    assert await listed() == ([soon.id, late.id], 2)
    assert await listed(limit=1) == ([soon.id], 2)
    assert await listed(agent="ada") == ([late.id], 1)
    assert [reminder.id for reminder in await hive.reminders.waiting_of("bob")] == [soon.id]
