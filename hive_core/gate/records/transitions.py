"""The record of one transition: tags, index, audit row and messages.

The tags are the truth. What is missing in the database after a crash between the two is made up for from the tags by
`hive_core.gate.pipeline.recovery`.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.gate.policy import Principal
from hive_core.gate.records import index, tag_message
from hive_core.gate.records.states import TERMINAL, tag_of
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.infra.database import audit
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.writer import PASSING
from hive_core.infra.git.objects import Person, Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.infra.tasks import shield_to_completion
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, OutgoingMessage
from hive_core.protocol.names import SYSTEM

_log = structlog.get_logger(__name__)


MAIN = "refs/heads/main"
_SHOWN_NOTE = 2_000
_RETRY_SECONDS = 1.0

Notification = tuple[str, str]
"""To whom, and what."""


def seconds() -> int:
    """Now, as git's tags tell time."""
    return int(time.time())


@dataclass(frozen=True)
class Transition:
    """A tag to be planted: what it says, on which commit, by whom. `marker` names a tag that is no state."""

    data: ProposalTag
    commit: str
    by: Principal
    marker: str = ""

    @property
    def tag(self) -> str:
        return tag_of(self.marker or self.data.state, self.data.number)


@dataclass(frozen=True)
class MoveMain:
    """What is deployed changes from the commit `old` (None: nothing was) to `new`."""

    new: str
    old: str | None


class TransitionLog:
    """Writes transitions down. The caller holds the agent's lock."""

    def __init__(
        self,
        layout: Layout,
        broker: Broker,
        events: EventHub,
        now: Callable[[], int] = seconds,
    ) -> None:
        """`now` gives the time in seconds since 1970."""
        self._layout = layout
        self._broker = broker
        self._events = events
        self._now = now
        self._stopping = asyncio.Event()

    async def record(
        self,
        agent: str,
        steps: Sequence[Transition],
        *,
        main: MoveMain | None = None,
        notices: Sequence[Notification] = (),
        created: dict[int, int] | None = None,
    ) -> None:
        """Plant the tags of all `steps` at once, or none of them. Raises `ref_moved` if the agent's tags are others
        than those of which the caller knows.

        `created` gives, for numbers whose first tag is not among the steps, when that was planted, in milliseconds.
        """
        # A caller that is cancelled in between would leave tags of which the database does not know.
        await shield_to_completion(self._record(agent, steps, main, notices, created))

    async def _record(
        self,
        agent: str,
        steps: Sequence[Transition],
        main: MoveMain | None,
        notices: Sequence[Notification],
        created: dict[int, int] | None,
    ) -> None:
        when = self._now()
        shas = await asyncio.to_thread(self._write_tags, agent, steps, main, when)
        crash_point("tags planted")
        planted = [(transition, sha, when) for transition, sha in zip(steps, shas, strict=True)]
        await self._write_index_until_done(agent, planted, notices, created)
        crash_point("index written")

    def stop(self) -> None:
        """Try no longer to write down what the database has no room for: the next start makes up for it."""
        self._stopping.set()

    async def _write_index_until_done(
        self,
        agent: str,
        planted: Sequence[tuple[Transition, str, int]],
        notices: Sequence[Notification],
        created: dict[int, int] | None,
    ) -> None:
        """Tell the database, again and again while its disk is full: the tags are there, so nobody may go on from what
        the index says without them.
        """
        while True:
            try:
                await self.write_index(agent, planted, notices, created)
                return
            except HiveError as error:
                if error.code not in PASSING or self._stopping.is_set():
                    raise
                _log.error("tags not in the index yet", agent=agent, code=error.code)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._stopping.wait()

    async def write_index(
        self,
        agent: str,
        planted: Sequence[tuple[Transition, str, int]],
        notices: Sequence[Notification],
        created: dict[int, int] | None = None,
    ) -> None:
        """Tell the database of tags that are in place: each with its object's id and its time in seconds."""
        births = dict(created or {})

        def within(db: sqlite3.Connection) -> None:
            for transition, sha, when in planted:
                number = transition.data.number
                at = births.setdefault(number, when * 1_000)
                index.put(
                    db,
                    index.ProposalRow.from_tag(
                        transition.data, transition.commit, created_at=at, changed_at=when * 1_000
                    ),
                )
                detail = {"tag": transition.tag, "object": sha, "commit": transition.commit}
                action = f"gate.{transition.marker or transition.data.state.value}"
                audit.append(db, actor=transition.by.actor, action=action, subject=agent, detail=detail)

        await self._broker.announce(notices, within)
        for transition, _, _ in planted:
            self._send_notifications(transition)

    async def write_index_in(self, notices: Sequence[Notification]) -> None:
        """Send messages that go with no transition."""
        await self._broker.announce(notices, lambda _: None)

    async def notify_once(self, notice: Notification, note: Operation[None]) -> None:
        """Send a message that goes with no transition, and `note` that it was told: both or neither.

        Raises `inbox_full`, `unknown_recipient`.
        """
        to, text = notice
        await self._broker.deliver(OutgoingMessage(SYSTEM, to, lambda _: text), lambda db, _: note(db))

    def _write_tags(self, agent: str, steps: Sequence[Transition], main: MoveMain | None, when: int) -> list[str]:
        with Repository.open(self._layout.applied_repository(agent)) as repository:
            _check_open(repository, steps)
            shas = [
                repository.write_tag(
                    Tag(
                        transition.tag,
                        transition.commit,
                        person(transition.by),
                        when,
                        tag_message.format_message(transition.data, transition.by.label, fact=transition.marker),
                    )
                )
                for transition in steps
            ]
            crash_point("tags written")
            changes = [
                RefChange(f"refs/tags/{transition.tag}", sha, None) for transition, sha in zip(steps, shas, strict=True)
            ]
            if main is not None:
                # git moves them one after another. If that is cut off by a power cut, recovery sees `approved` on the
                # commit that main is at, and deploys it again.
                changes.insert(0, RefChange(MAIN, main.new, main.old))
            repository.update(changes)
        return shas

    def _send_notifications(self, transition: Transition) -> None:
        data = transition.data
        told = {"agent": data.agent, "number": data.number, "kind": data.kind, "state": data.state.value}
        text = data.outcome or data.note
        self._events.publish("proposal.changed", {**told, "by": transition.by.label, "note": text[:_SHOWN_NOTE]})
        _log.info("proposal", tag=transition.tag, commit=transition.commit, by=transition.by.actor, agent=data.agent)


def _check_open(repository: Repository, steps: Sequence[Transition]) -> None:
    """Nothing comes after a terminal tag, whatever the index says. Raises `ref_moved`."""
    for number in dict.fromkeys(transition.data.number for transition in steps):
        for state in sorted(TERMINAL):
            tag = tag_of(state, number)
            if repository.resolve(f"refs/tags/{tag}") is not None:
                agent = steps[0].data.agent
                raise conflict("ref_moved", f"{agent}/{number} is {state} already", "look at it as it is now")


def person(principal: Principal) -> Person:
    """How tags and commits name a party."""
    return Person(principal.label, f"{re.sub('[^a-z0-9]', '', principal.name)}@hive")


def crash_point(name: str) -> None:
    """A step is done. Nothing happens here: tests put a function in its place that ends the daemon."""
