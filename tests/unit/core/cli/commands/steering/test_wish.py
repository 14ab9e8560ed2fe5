"""A wish that is followed to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_core.cli.client import Client
from hive_core.cli.commands.steering.wish import Wish, follow_wish
from hive_core.cli.commands.work.work_names import Answer
from hive_core.cli.errors import Failure
from tests.unit.core.cli.commands.work.fake_host_work import work
from tests.unit.core.cli.fake_host_api import FakeHost, agent, message

WISH = Wish("ada", "web", 7, 2)
SECONDS = 10.0
"""Less than the time after which it looks without an event."""


class Following:
    """A wish that is followed in a thread."""

    def __init__(self, socket: Path) -> None:
        self.said: list[str] = []
        self._result = asyncio.create_task(asyncio.to_thread(follow_wish, Client(str(socket)), WISH, self.said.append))

    async def result(self) -> Answer:
        """Wait for the work."""
        async with asyncio.timeout(SECONDS):
            return await self._result

    async def failure(self) -> Failure:
        """Wait for the failure with which it ends."""
        with pytest.raises(Failure) as raised:
            await self.result()
        return raised.value


async def quiet(daemon: FakeHost) -> None:
    """Wait until everything was looked at after the stream of events was opened."""
    async with asyncio.timeout(SECONDS):
        await daemon.watching.wait()
        daemon.asked_for_reply.clear()
        await daemon.asked_for_reply.wait()


async def test_an_event_of_the_work_ends_the_wait(socket: Path, daemon: FakeHost) -> None:
    """Each state of the work is said as soon as the daemon tells of it; the checked work is the result."""
    daemon.agents = [agent("ada", state="thinking", unacked=1)]
    daemon.working.work = [work(number=2)]
    following = Following(socket)
    await quiet(daemon)
    daemon.working.work = [work(state="building", waits_for=None), work(number=2)]
    daemon.asked_for_reply.clear()
    daemon.happens(1, "work.changed", repo="web", number=3, state="building", by="ada", title="Mend it")
    await asyncio.wait_for(daemon.asked_for_reply.wait(), SECONDS)
    daemon.working.work = [work(), work(number=2)]
    daemon.happens(2, "work.changed", repo="web", number=3, state="built", by="ada", title="Mend it")
    assert (await following.result())["number"] == 3
    assert following.said == ["web/3: checking", "web/3: checked"]


async def test_events_of_others_cause_no_requests(socket: Path, daemon: FakeHost) -> None:
    """While nothing happens that concerns the wish, the daemon is not asked anything."""
    daemon.agents = [agent("ada", state="thinking", unacked=1)]
    following = Following(socket)
    await quiet(daemon)
    daemon.asked.clear()
    daemon.happens(1, "work.changed", repo="shop", number=9, state="built", by="bob", title="Else")
    daemon.happens(2, "agent.state", agent="bob", state="failed", detail="")
    daemon.working.work = [work()]
    daemon.happens(3, "agent.state", agent="ada", state="idle", detail="")
    await following.result()
    assert len(daemon.asked) == 2  # one list of work, one look at the reply


@pytest.mark.parametrize(
    ("status", "code", "words", "hint"),
    [
        (
            {"state": "needs_login", "detail": "no key"},
            "not_ready",
            'ada needs a login: "no key"; your wish waits for it',
            "hive-c0re login ada",
        ),
        (
            {"state": "paused", "detail": "by alice"},
            "not_ready",
            'ada is paused: "by alice"; your wish waits for it',
            "hive-c0re resume ada",
        ),
        ({"lifecycle": "stopped", "state": "offline"}, "not_running", "ada is stopped", "hive-c0re logs ada"),
        (
            {"lifecycle": "failed", "state": "offline", "last_crash": "exit code 3", "crashes": 1},
            "not_running",
            "ada is failed: with: exit code 3",
            "hive-c0re logs ada",
        ),
    ],
)
async def test_an_agent_that_cannot_go_on(
    socket: Path, daemon: FakeHost, status: dict[str, object], code: str, words: str, hint: str
) -> None:
    """An agent that needs a person ends the wait at once, with the reason and the command that helps."""
    daemon.agents = [agent("ada", **status)]
    failure = await Following(socket).failure()
    assert failure.code == code and words in failure.message and hint in failure.hint


async def test_three_failed_turns(socket: Path, daemon: FakeHost) -> None:
    """Two failed turns are said, the third ends the wait; a turn that is reported twice counts once."""
    failed, thinking = agent("ada", state="failed", detail="no answer"), agent("ada", state="thinking")
    daemon.agents = [failed]
    following = Following(socket)
    await quiet(daemon)
    states = [failed, thinking, failed, thinking, failed]
    for number, status in enumerate(states, 1):
        daemon.agents = [status]
        daemon.asked_for_reply.clear()
        daemon.happens(number, "agent.state", agent="ada", state=status.state, detail=status.detail)
        await asyncio.wait_for(daemon.asked_for_reply.wait(), SECONDS)
    failure = await following.failure()
    assert failure.message == '3 turns of ada have failed: "no answer"' and "hive-c0re skip ada" in failure.hint
    assert following.said == ['the turn failed: "no answer"'] * 3


async def test_a_turn_without_work(socket: Path, daemon: FakeHost) -> None:
    """An agent that has ended its turn without work ends the wait, with what it has said."""
    daemon.agents = [agent("ada")]
    daemon.reply = message(8, "ada", "I do not\nwant to.", reply_to=7)
    failure = await Following(socket).failure()
    assert failure.code == "no_work" and "without submitting work" in failure.message
    assert "I do not" in failure.message and "\n" not in failure.message


async def test_work_that_does_not_pass(socket: Path, daemon: FakeHost) -> None:
    """Work that has failed is said with the reason; it ends the wait only when the agent does no more about it."""
    daemon.agents = [agent("ada", state="thinking")]
    daemon.handled = True
    daemon.working.work = [work(state="failed", waits_for=None, outcome="check test: exit code 1")]
    following = Following(socket)
    await quiet(daemon)
    daemon.agents = [agent("ada")]
    daemon.happens(1, "agent.state", agent="ada", state="idle", detail="")
    failure = await following.failure()
    assert failure.code == "no_work" and 'web/3 is failed, "check test: exit code 1"' in failure.message
    assert following.said == ['web/3: failed, "check test: exit code 1"']


async def test_work_of_others_and_of_before(socket: Path, daemon: FakeHost) -> None:
    """Work that was there before the wish, or that another agent has submitted, is not its result."""
    daemon.agents = [agent("ada")]
    daemon.handled = True
    daemon.working.work = [work(number=4, by="bob"), work(number=2)]
    assert (await Following(socket).failure()).code == "no_work"


async def test_a_restart_of_the_daemon(socket: Path, daemon: FakeHost) -> None:
    """A daemon that goes away and comes back does not end the wait, and nothing that happened meanwhile is missed."""
    daemon.agents = [agent("ada", state="thinking")]
    following = Following(socket)
    await quiet(daemon)
    await daemon.stop()
    daemon.working.work = [work()]
    await daemon.start()
    assert (await following.result())["number"] == 3


async def test_an_agent_that_is_destroyed(socket: Path, daemon: FakeHost) -> None:
    """The destruction of the agent ends the wait."""
    daemon.agents = [agent("ada", state="thinking")]
    following = Following(socket)
    await quiet(daemon)
    daemon.agents = []
    daemon.happens(1, "agent.lifecycle", agent="ada", lifecycle="stopped", cause="")
    assert (await following.failure()).code == "unknown_agent"
