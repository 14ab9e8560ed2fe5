"""Questions and reminders against a model: whatever happens in whatever order, each ends once and is told once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hive_core.errors import HiveError
from hive_core.protocol import AnswerRequest, QuestionsQuery, RemindersQuery
from tests.helpers.memory import MEMORY
from tests.unit.core.messaging.messaging_hive import QuestionHive

T = TypeVar("T")
AGENTS = ("ada", "cleo")

agents = st.sampled_from(AGENTS)
keys = st.sampled_from((None, None, "k1", "k2"))
seconds = st.sampled_from((1, 5, 60))
answers = st.sampled_from(("yes", "no"))


@dataclass
class Asked:
    """A question as the model knows it; `ended` is its answer, or `expired`."""

    agent: str
    expires_at: int | None
    ended: str | None = None


@dataclass
class Reminded:
    """A reminder as the model knows it."""

    agent: str
    due_at: int
    ended: bool = False
    cancelled: bool = False


@dataclass
class Model:
    """What was asked, and who is there."""

    questions: dict[int, Asked] = field(default_factory=dict)
    reminders: dict[int, Reminded] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """By what, whose and which key: the number, and the seconds that were asked for."""
    gone: set[str] = field(default_factory=set)


class AskingMachine(RuleBasedStateMachine):
    """Any sequence of questions, answers, reminders, time, agents that come and go, and restarts of the daemon."""

    @initialize()
    def open_hive(self) -> None:
        self.runner = asyncio.Runner()
        self.path = Path(tempfile.mkdtemp(prefix="hive-", dir=MEMORY))
        self.model = Model()
        self.hive = QuestionHive(self.path)
        self.hive.agents = list(AGENTS)
        self.run(self.hive.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self.everything_ends()
        finally:
            self.run(self.hive.close())
            self.runner.close()
            shutil.rmtree(self.path)

    def everything_ends(self) -> None:
        for name in AGENTS:
            self.come(name)
        self.time_passes(10_000_000)
        self.time_brings()
        self.everything_is_told_once()
        assert all(asked.ended for asked in self.model.questions.values() if asked.expires_at is not None)
        assert all(reminded.ended for reminded in self.model.reminders.values())

    # --- agents ---------------------------------------------------------------------------------------------

    @rule(agent=agents, lasts=st.one_of(st.none(), seconds), key=keys)
    def ask(self, agent: str, lasts: int | None, key: str | None) -> None:
        given: dict[str, Any] = {
            "options": ["yes", "no"],
            "free_text": False,
            "expires_in": lasts,
            "idempotency_key": key,
        }
        earlier = self.model.keys.get(("ask", agent, key)) if key else None
        try:
            asked = self.run(self.hive.ask(agent=agent, **given))
        except HiveError as error:
            assert error.code in self.refusals(agent, earlier, lasts or 0), error.code
            return
        if earlier:
            assert earlier == (asked.id, lasts or 0)
            return
        assert agent not in self.model.gone
        assert asked.id not in self.model.questions
        expires_at = None if lasts is None else self.hive.now + lasts * 1_000
        self.model.questions[asked.id] = Asked(agent, expires_at)
        if key:
            self.model.keys["ask", agent, key] = (asked.id, lasts or 0)

    @rule(agent=agents, after=seconds, key=keys)
    def remind(self, agent: str, after: int, key: str | None) -> None:
        earlier = self.model.keys.get(("remind", agent, key)) if key else None
        try:
            made = self.run(self.hive.remind(agent=agent, after=after, idempotency_key=key))
        except HiveError as error:
            assert error.code in self.refusals(agent, earlier, after), error.code
            return
        if earlier:
            assert earlier == (made.id, after)
            return
        assert agent not in self.model.gone
        assert made.id not in self.model.reminders
        self.model.reminders[made.id] = Reminded(agent, self.hive.now + after * 1_000)
        if key:
            self.model.keys["remind", agent, key] = (made.id, after)

    def refusals(self, agent: str, earlier: tuple[int, int] | None, wanted: int) -> set[str]:
        """With which codes asking may be refused now."""
        if earlier:
            return {"idempotency_conflict"} if earlier[1] != wanted else set()
        return {"unknown_agent"} if agent in self.model.gone else {"too_many_questions"}

    @rule(agent=agents, place=st.integers(0, 5))
    def cancel(self, agent: str, place: int) -> None:
        number = place + 1
        found = self.model.reminders.get(number)
        try:
            self.run(self.hive.reminders.cancel(agent, number))
        except HiveError as error:
            assert error.code == "unknown_reminder"
            assert found is None or found.agent != agent or found.ended
            return
        assert found is not None and found.agent == agent and not found.ended
        found.ended = found.cancelled = True

    # --- the operator ---------------------------------------------------------------------------------------

    @rule(place=st.integers(0, 7), text=answers)
    def answer(self, place: int, text: str) -> None:
        number = self.numbered(place)
        asked = self.model.questions.get(number)
        try:
            self.run(self.answering(number, text))
        except HiveError as error:
            assert error.code in self.answer_refusals(asked)
            return
        assert asked is not None and asked.ended in (None, text)
        asked.ended = text

    @rule(place=st.integers(0, 7))
    def answer_while_time_is_up(self, place: int) -> None:
        """Two answers, and time, at once: the question ends one way, which both the list and the agent are told."""
        number = self.numbered(place)
        asked = self.model.questions.get(number)
        before = asked.ended if asked else None

        async def at_once() -> list[Any]:
            given = (self.answering(number, "yes"), self.hive.scheduler.run_due(), self.answering(number, "no"))
            return list(await asyncio.gather(*given, return_exceptions=True))

        results = self.run(at_once())
        taken = [text for text, result in zip(("yes", "", "no"), results, strict=True) if isinstance(result, str)]
        assert all(isinstance(result, (str, float, HiveError)) for result in results), results
        if asked is not None and before is None:
            assert len(taken) <= 1
            asked.ended = taken[0] if taken else None
        self.note_what_is_due()

    async def answering(self, number: int, text: str) -> str:
        await self.hive.questions.answer(number, AnswerRequest(text=text), "operator")
        return text

    def numbered(self, place: int) -> int:
        return [*self.model.questions, 9_999][min(place, len(self.model.questions))]

    def answer_refusals(self, asked: Asked | None) -> set[str]:
        if asked is None:
            return {"unknown_question"}
        if asked.ended is not None:
            return {"question_ended"}
        return {"unknown_recipient"} if asked.agent in self.model.gone else set()

    # --- time, agents, the daemon ---------------------------------------------------------------------------

    @rule(length=st.sampled_from((500, 1_000, 4_000, 60_000)))
    def time_passes(self, length: int) -> None:
        self.hive.now += length

    @rule(length=st.sampled_from((1_000, 50_000)))
    def clock_is_set_back(self, length: int) -> None:
        self.hive.now -= length

    @rule()
    def time_brings(self) -> None:
        self.run(self.hive.scheduler.run_due())
        self.note_what_is_due()

    def note_what_is_due(self) -> None:
        for asked in self.model.questions.values():
            if asked.ended is None and asked.agent not in self.model.gone:
                asked.ended = "expired" if (asked.expires_at or 2**62) <= self.hive.now else None
        for reminded in self.model.reminders.values():
            if reminded.agent not in self.model.gone:
                reminded.ended |= reminded.due_at <= self.hive.now

    @rule(name=agents)
    def go(self, name: str) -> None:
        self.run(self.hive.remove(name))
        self.model.gone.add(name)
        self.hive.agents = [agent for agent in AGENTS if agent not in self.model.gone]

    @rule(name=agents)
    def come(self, name: str) -> None:
        self.run(self.hive.add(name))
        self.model.gone.discard(name)
        self.hive.agents = [agent for agent in AGENTS if agent not in self.model.gone]

    @rule()
    def restart(self) -> None:
        self.run(self.hive.restart())

    @rule(steps=st.integers(0, 12))
    def restart_while_time_brings(self, steps: int) -> None:
        """The daemon ends in the middle of it; the next one does what is left."""

        async def broken_off() -> None:
            bringing = asyncio.create_task(self.hive.scheduler.run_due())
            for _ in range(steps):
                await asyncio.sleep(0)
            bringing.cancel()
            with suppress(asyncio.CancelledError):
                await bringing
            await self.hive.restart()
            await self.hive.scheduler.run_due()

        self.run(broken_off())
        self.note_what_is_due()

    # --- what is promised -----------------------------------------------------------------------------------

    @invariant()
    def everything_is_told_once(self) -> None:
        if not hasattr(self, "scene"):
            return
        told = self.run(self.hive.told())
        for number, asked in self.model.questions.items():
            ends = [(sender, to, body) for sender, to, body, reply_to in told if reply_to == number]
            if asked.ended is None:
                assert ends == []
                continue
            [(sender, to, body)] = ends
            assert to == asked.agent
            assert sender == ("system" if asked.ended == "expired" else "operator")
            assert asked.ended == "expired" or body.endswith(f"\n\n{asked.ended}")
        for number, reminded in self.model.reminders.items():
            came = [to for sender, to, body, _ in told if sender == to and body.startswith(f"Reminder {number}, ")]
            assert came == ([reminded.agent] if reminded.ended and not reminded.cancelled else [])

    @invariant()
    def lists_agree(self) -> None:
        if not hasattr(self, "scene"):
            return
        listed = self.run(self.hive.questions.listing(QuestionsQuery(limit=1_000)))
        assert [one.id for one in listed.questions] == [n for n, a in self.model.questions.items() if a.ended is None]
        to_come = self.run(self.hive.reminders.listing(RemindersQuery(limit=1_000)))
        assert {one.id for one in to_come.reminders} == {n for n, r in self.model.reminders.items() if not r.ended}


AskingMachine.TestCase.settings = settings(max_examples=max(12, settings().max_examples // 4), stateful_step_count=25)
TestAsking = AskingMachine.TestCase
