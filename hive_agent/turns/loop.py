"""The turn loop: select messages, run a turn, react to its outcome, wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hive_agent.backends.base import Failed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import EntrySink
from hive_agent.client import fetched_messages
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.turns.attempts.followed import FollowedAttempt
from hive_agent.turns.attempts.operator_pause import OperatorPause
from hive_agent.turns.attempts.retry_pause import FIRST_LOGIN_CHECK, LONGEST_LOGIN_CHECK, RetryPause
from hive_agent.turns.attempts.runner import RepeatReporter, TurnStopper
from hive_agent.turns.conversation.check import NEW_SESSION, ConversationCheck, Verdict
from hive_agent.turns.conversation.conversation import Conversation
from hive_agent.turns.failure_policy import (
    MOST_HELD,
    REACTIONS,
    TOO_MANY_HELD,
    USELESS_SESSION,
    Kind,
    Reaction,
    kind_of,
)
from hive_agent.turns.inbox import LeasedInbox
from hive_agent.turns.operator_controls import PendingRequests
from hive_agent.turns.records import TurnRecord
from hive_agent.turns.selection import BatchSelector, TurnBatch, TurnSelection
from hive_agent.turns.turn_log import TurnLog
from hive_core.protocol import Delivery, HarnessState
from hive_core.protocol.base import PAUSED_BY_OPERATOR

log = logging.getLogger(__name__)


class Say(Protocol):
    """Reports the state of the harness to the daemon and the page, and a notice to the operator."""

    async def __call__(
        self,
        state: HarnessState,
        detail: str,
        notice: str = "",
        goes_on_at: float | None = None,
        turn: int | None = None,
    ) -> None: ...


Pause = Callable[[Reaction, int, float | None], float]
"""Length of the pause after a failure; see `failure_policy.pause`."""


class TurnLoop:
    """Runs turn after turn. All methods raise `superseded` (CoreError) and StuckBackend, and nothing else."""

    def __init__(
        self,
        *,
        state: Path,
        instance: str,
        client: CoreClient,
        inbox: LeasedInbox,
        turn_log: TurnLog,
        conversation: Conversation,
        requests: PendingRequests,
        say: Say,
        pause: Pause,
        operator_pause: OperatorPause,
    ) -> None:
        self._state = state
        self._instance = instance
        self._client = client
        self._inbox = inbox
        self._turn_log = turn_log
        self._conversation = conversation
        self._requests = requests
        self._say = say
        self._pause = pause
        self._operator_pause = operator_pause
        self._selector = BatchSelector()
        self._selection = TurnSelection(inbox, turn_log, self._selector, requests, operator_pause)
        self._check = ConversationCheck(conversation)
        self._retry_pause: RetryPause | None = None
        self._in_a_row = 0
        self._idle_with: int | None = None
        """Number of held turns in the last report if the harness waited for messages then, else None."""
        self._troubled = asyncio.Event()
        """Set while the last report of a waiting harness is that no turn can work."""
        self._noted_before: frozenset[int] = frozenset()
        """Ids in the file of fetched messages from before the turn, if that file cannot be removed."""
        self.stopper: TurnStopper | None = None
        """Stops the running turn."""
        self.settling: asyncio.Task[None] | None = None
        """Acknowledges the messages of a turn that succeeded."""

    @property
    def paused_for(self) -> Kind | None:
        """The failure after which the harness pauses now; None if it does not."""
        return None if self._retry_pause is None else self._retry_pause.kind

    async def run_step(self) -> None:
        """Serve requests of the operator, then run the next turn, or wait."""
        woken = self._requests.take_wakeup()
        try:
            await self._serve_requests()
            if self._operator_pause.on:
                await self._wait_paused(woken)
                return
            if self._retry_pause is not None:
                if woken:
                    await self._settle_skipped()
                if await self._retry_pause.wait(self._requests, self._conversation.logged_in):
                    self._retry_pause = None
                return
            if self._selection.patient and self._idle_with != len(self._turn_log.held()):
                await self.report_idle()
            batch = await self._selection.next_batch()
            if batch is not None and self._operator_pause.on:  # Paused while the messages came.
                await self._inbox.release([delivery.id for delivery in batch.deliveries])
            elif batch is not None:
                await self._run_turn(batch)
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("the hive refused a call of the harness: %s", error)
            await self._pause_after(Failed("core", str(error)), REACTIONS["core"])

    async def _wait_paused(self, woken: bool) -> None:
        """Report that the operator has paused the agent, and wait for the operator's next request."""
        if woken:
            await self._settle_skipped()
        self._idle_with = None
        self._troubled.clear()
        await self._say("paused", PAUSED_BY_OPERATOR)
        await self._requests.wait()

    # --- between turns ----------------------------------------------------------------------------------------

    async def _serve_requests(self) -> None:
        requests = self._requests
        if requests.go_on and self._troubled.is_set():
            self._idle_with = None  # Reported again: the request may have removed the problem.
        if requests.go_on:
            requests.go_on, self._retry_pause = False, None
        if requests.reopen:
            requests.reopen = False
            await self._conversation.reopen()
        if requests.new_session:
            requests.new_session = requests.compact = False
            await self._conversation.start_new_session()
        if requests.compact or (self._retry_pause is None and self._conversation.full):
            requests.compact = False
            if (last := self._turn_log.last) is not None:
                await self._compact(last, notes=True)

    async def _compact(self, record: TurnRecord, *, notes: bool) -> TurnOutcome:
        """Compact the conversation; its entries become part of the transcript of `record`."""
        self._idle_with = None
        await self._say("thinking", "compacts its conversation", turn=record.id)
        emit = await self._turn_log.entry_sink(record)
        try:
            return await self._conversation.compact(emit, self._inbox.keep_leases, notes=notes)
        except CoreError as error:
            if error.code == "superseded":
                raise
            return Failed("core", str(error))
        finally:
            await self._turn_log.changed(record)

    async def _settle_skipped(self) -> None:
        """Acknowledge the messages of skipped turns during a pause after a failure."""
        if any(not record.settled for record in self._turn_log.unfinished()):
            free = await self._selection.fetch(wait=False)
            await self._inbox.release([delivery.id for delivery in free])

    async def start(self) -> None:
        """Hold turns that have ended the harness again and again, and report that it waits for messages."""
        limit = REACTIONS["interrupted"].held_after or 0
        for record in self._turn_log.waiting():
            # A turn of several messages is split first: from their third attempt on each has a turn of its own.
            if record.interrupted >= limit and len(record.messages) == 1:
                why = f"the harness ended in {record.interrupted} attempts of the turn, and the hive had not stopped it"
                outcome = Failed("interrupted", why)
                if len(self._turn_log.held()) < MOST_HELD:
                    await self._hold(record, outcome, ())
                else:
                    await self._pause_after(outcome, TOO_MANY_HELD)
                    return
        await self.report_idle()

    async def report_idle(self) -> None:
        """Report that the harness waits for messages and the number of held turns, or why no turn can work now."""
        await self._report_idle(await self._conversation.find_problem())

    async def keep_checking(self) -> None:
        """Check again and again whether the reported problem of the backend still exists, until cancelled."""
        while True:
            await self._troubled.wait()
            pause = FIRST_LOGIN_CHECK
            while self._troubled.is_set():
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_LOGIN_CHECK)
                if self._idle_with is not None and not self._conversation.busy:
                    problem = await self._conversation.find_problem()
                    if self._idle_with is not None:  # Else a turn has begun, which reports by itself.
                        await self._report_idle(problem)

    async def _report_idle(self, problem: Failed | NeedsLogin | None) -> None:
        self._idle_with = held = len(self._turn_log.held())
        if problem is not None:
            self._troubled.set()
            await self._say(REACTIONS[kind_of(problem)].state, problem.detail)
            return
        self._troubled.clear()
        await self._say("idle", f"{held} turn{'s wait' if held > 1 else ' waits'} for the operator" if held else "")

    # --- a turn -------------------------------------------------------------------------------------------------

    async def _run_turn(self, batch: TurnBatch) -> None:
        started = time.monotonic()
        self._requests.first = None
        record = await self._turn_log.begin(batch.record, batch.deliveries)
        taken = list(batch.deliveries)
        try:
            outcome = await self._attempt(record, batch, taken)
        except CoreError as error:
            if error.code == "superseded":
                self._turn_log.interrupt(record)
                raise
            outcome = Failed("core", str(error))
        except BaseException:  # the harness is being stopped
            self._turn_log.interrupt(record)
            raise
        finally:
            self.stopper = None
        how = "ok" if isinstance(outcome, Ok) else f"{kind_of(outcome)}: {outcome.detail}"
        seconds = time.monotonic() - started
        log.info("turn %d, attempt %d, ended after %.2f s: %s", record.id, record.attempt, seconds, how)
        ids = {delivery.id for delivery in taken}
        fetched = set(fetched_messages.read(self._state, self._instance)) - self._noted_before
        if isinstance(outcome, Ok):
            self._selector.record_success(taken)
            self._check.record_success()
            self._in_a_row = 0
            await self._finish(record, ids, fetched - ids)
        else:
            await self._react(record, TurnBatch(record, taken), outcome, ids | fetched)

    async def _attempt(self, record: TurnRecord, batch: TurnBatch, taken: list[Delivery]) -> TurnOutcome:
        fetched_messages.clear(self._state, self._instance)
        self._noted_before = frozenset(fetched_messages.read(self._state, self._instance))
        count = len(batch.deliveries)
        self._idle_with = None
        self.stopper = TurnStopper()
        doing = f"{count} message{'s' if count > 1 else ''}"
        await self._say("thinking", doing, turn=record.id)
        emit = await self._turn_log.entry_sink(record)
        attempt = await self._follow(record, batch, emit)
        fetch = self._selection.fetcher(record, taken)
        turn = Turn(tuple(batch.deliveries), record.id, record.attempt, attempt.fetching(fetch))
        repeats = RepeatReporter(lambda detail: self._say("thinking", detail, turn=record.id), doing)
        watch = repeats.watch(attempt.record)
        try:
            outcome = await self._conversation.run(turn, watch, self._inbox.keep_leases, self.stopper)
        finally:
            await repeats.close()
        return await attempt.finish(outcome, self._client, self._inbox.keep_leases, self.stopper)

    async def _follow(self, record: TurnRecord, batch: TurnBatch, emit: EntrySink) -> FollowedAttempt:
        attempt = FollowedAttempt(batch.deliveries, emit, answers=self._conversation.has_model)
        if record.attempt > 1:
            attempt.answers.replay(await self._turn_log.entries(record.id))
        return attempt

    async def _finish(self, record: TurnRecord, ids: Collection[int], fetched: Collection[int]) -> None:
        """Acknowledge the turn's messages, and those that the model `fetched` with the recv tool."""
        await self._turn_log.end(record, "ok")
        self.settling = asyncio.create_task(self._acknowledge(ids, fetched))
        try:
            await asyncio.shield(self.settling)
        finally:
            self.settling = None
        await self._turn_log.settle(record)
        await self._report_idle(None)  # It has just worked.

    async def _acknowledge(self, ids: Collection[int], fetched: Collection[int]) -> None:
        await self._inbox.acknowledge(ids)
        await self._inbox.acknowledge_fetched(fetched)

    # --- failures -----------------------------------------------------------------------------------------------

    async def _react(
        self, record: TurnRecord, batch: TurnBatch, outcome: Failed | NeedsLogin, ids: Collection[int]
    ) -> None:
        reaction = REACTIONS[kind_of(outcome)]
        if reaction.compact and not record.compacted:
            record.compacted = True
            compacted = await self._compact(record, notes=False)
            if isinstance(compacted, Ok):
                await self._schedule_retry(record, outcome, ids, 0.0)
                self._requests.first = record.id
                return
            outcome, reaction = compacted, REACTIONS[kind_of(compacted)]
        failures = self._selector.record_failure(batch.deliveries) if reaction.suspect else 0
        if reaction.restart:
            await self._conversation.reopen()
        renewed_before = self._check.has_renewed_for(record.id)
        verdict = await self._check_conversation(record, reaction)
        is_alone = len(batch.deliveries) == 1
        if verdict == "useless":
            reason = f"a new conversation fails, too, and no message is the cause: {outcome.detail}"
            outcome, reaction = replace(outcome, detail=reason), USELESS_SESSION
        elif verdict == "renewed" and not (renewed_before and is_alone):
            await self._schedule_retry(record, outcome, ids, 0.0)
            self._requests.first = record.id
            await self._say("thinking", "begins a new conversation", NEW_SESSION.format(outcome.detail))
            return
        elif reaction.held_after == 0 or (is_alone and reaction.holds(failures, in_new_session=renewed_before)):
            if len(self._turn_log.held()) < MOST_HELD:
                await self._hold(record, outcome, ids)
                return
            reaction = TOO_MANY_HELD
        seconds = await self._pause_after(outcome, reaction)
        await self._schedule_retry(record, outcome, ids, seconds)

    async def _check_conversation(self, record: TurnRecord, reaction: Reaction) -> Verdict:
        """Check the conversation if the reaction says so; the check's entries go into the transcript of `record`."""
        if reaction.checked_after is None:
            return "unchecked"
        self._idle_with = None
        emit = await self._turn_log.entry_sink(record)
        try:
            return await self._check.judge(record.id, reaction.checked_after, emit, self._inbox.keep_leases)
        except CoreError as error:
            if error.code == "superseded":
                raise
            return "unchecked"
        finally:
            await self._turn_log.changed(record)

    async def _hold(self, record: TurnRecord, outcome: Failed | NeedsLogin, ids: Collection[int]) -> None:
        """Hold the turn for the operator; its messages stay leased, so that `receive` returns others."""
        mine = {ref.id for ref in record.messages}
        self._inbox.keep(mine)
        await self._inbox.release(set(ids) - mine)
        await self._turn_log.end(record, "held", failure=kind_of(outcome), detail=outcome.detail)
        if kind_of(outcome) != "cancelled":  # the operator cancelled it and needs no report
            await self._say("paused", f"turn {record.id} waits for the operator, others continue: {outcome.detail}")
        await self.report_idle()

    async def _schedule_retry(
        self, record: TurnRecord, outcome: Failed | NeedsLogin, ids: Collection[int], seconds: float
    ) -> None:
        """Release the turn's messages; they are received again for its next attempt."""
        await self._inbox.release(ids)
        at = time.time() + seconds
        await self._turn_log.end(record, "waiting", failure=kind_of(outcome), detail=outcome.detail, next_try_at=at)

    async def _pause_after(self, outcome: Failed | NeedsLogin, reaction: Reaction) -> float:
        """Report the failure and start the pause before the next attempt; returns its length in seconds."""
        self._in_a_row += 1
        retry_after = outcome.retry_after if isinstance(outcome, Failed) else None
        seconds = self._pause(reaction, self._in_a_row, retry_after)
        log.warning("next attempt in %g s", seconds)
        # Credentials that existed before the failure are no reason to retry.
        await_login = reaction.login and not await self._conversation.logged_in()
        self._idle_with = None
        # The pause comes first: the daemon may end it as soon as it hears of the state.
        self._retry_pause = RetryPause(seconds, kind_of(outcome), until_login=await_login)
        await self._say(reaction.state, outcome.detail, goes_on_at=time.time() + seconds)
        return seconds
