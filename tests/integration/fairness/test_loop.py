"""Agents that answer everything, with real harnesses."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from tests.helpers.real_daemon import Daemon, Json

SETTLED = 25.0
OBSERVED = 30.0
PER_MINUTE = 10


def answers(to: str) -> list[Json]:
    """A script that answers everything."""
    return [{"match": "", "send": [{"to": to, "text": "thank you"}]}]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("names", [("ada", "bob"), ("ada", "bob", "cleo")])
async def test_agents_that_answer_everything_are_slowed(daemon: Daemon, names: tuple[str, ...]) -> None:
    """Thousands of messages a minute become a few; the operator is told once, and others are not slowed."""
    for name, following in [*pairwise(names), (names[-1], names[0])]:
        await daemon.spawn(name, script=answers(following))
    await daemon.spawn("dan")
    await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "say hello to the others"})
    began = time.time()

    async def wait_until(seconds: float) -> None:
        await asyncio.sleep(max(0.0, began + seconds - time.time()))

    await wait_until(SETTLED)
    started = time.monotonic()
    asked = await daemon.ask("POST", "/v1/messages", {"to": "dan", "body": "how are you"})
    reply = await daemon.ask("GET", f"/v1/messages/{asked['id']}/reply?wait_seconds=10")
    assert reply["reply"] is not None and time.monotonic() - started < 5
    await wait_until(SETTLED + OBSERVED)
    marks = ", ".join("?" * len(names))
    query = f"SELECT sent_at FROM messages WHERE sender IN ({marks}) AND recipient IN ({marks}) ORDER BY id"
    sent = [at / 1_000 - began for (at,) in daemon.sql(query, *names, *names)]
    late = [at for at in sent if at >= SETTLED]
    assert 1 <= len(late) <= PER_MINUTE * OBSERVED / 60 + 2, f"{len(sent)} messages, of which late: {late}"
    assert len(sent) <= 60 + PER_MINUTE * (SETTLED + OBSERVED) / 60 + 5
    told = [body for (body,) in daemon.sql("SELECT body FROM messages WHERE sender = 'system' ORDER BY id")]
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    assert [text.partition(" only answer each other: ")[0] for text in told] == [listed]
    (unhandled,) = daemon.sql("SELECT count(*) FROM deliveries WHERE acknowledged_at IS NULL AND attempts > 1")[0]
    assert unhandled == 0
