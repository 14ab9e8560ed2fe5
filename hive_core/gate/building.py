"""From `proposal/N` to `built/N` or `failed/N`: builds run in the background, a few at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hive_core.errors import HiveError
from hive_core.gate import index, policy, rules, words
from hive_core.gate.buildlogs import BuildLogs
from hive_core.gate.contents import read_config, shown_diff
from hive_core.gate.deploying import Deploying, why_failed
from hive_core.gate.index import Row
from hive_core.gate.ledger import Notice, Step
from hive_core.gate.parties import SYSTEM
from hive_core.gate.states import State
from hive_core.gate.workplace import Workplace
from hive_core.git.repository import Repository
from hive_core.protocol import AgentConfig
from hive_core.runtimes.base import BuildFailed, BuildOrder

_AT_ONCE = 2
_UNDER_WAY = "another deployment was under way: propose again"
_TAIL_LINES = 40
SHOWN_DIFF = 16 * 1024
"""Bytes of a diff that go with the question for a decision."""


@dataclass(frozen=True)
class Built:
    """What a build gave. `rule` is the name of a rule that approves it, if there is one."""

    closure: str
    settings: list[str]
    closure_changes: list[str]
    rule: str | None


class Building:
    """Builds proposals and asks for their decision."""

    def __init__(self, place: Workplace, logs: BuildLogs, deploying: Deploying) -> None:
        self._place = place
        self._logs = logs
        self._deploying = deploying
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._one_each: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def begin(self, agent: str, number: int) -> None:
        """Build a proposal in the background."""
        self._place.begin(agent, number, self._build(agent, number))

    async def build(self, row: Row) -> Built:
        """Build a proposal's commit and see what changes with it; raises BuildFailed."""
        place, agent = self._place, row.agent
        kind = place.kind_of(agent)
        order = BuildOrder(agent, kind, row.number, place.layout.applied_repository(agent), row.sha)
        # One of each agent: what one proposes must not keep the others' waiting.
        async with self._one_each[agent], self._few, self._logs.writing(agent, row.number) as say:
            try:
                async with asyncio.timeout(place.settings.build_timeout):
                    closure = await place.runtime.build(order, say)
            except TimeoutError:
                raise BuildFailed(f"the build took longer than {place.settings.build_timeout:g} s") from None
            except BuildFailed as error:
                say(f"failed: {error}")
                raise
            say(f"built {closure}")
        old, new, paths = await place.with_repository(agent, lambda repository: _changes(repository, row))
        before = await place.read(lambda db: index.last_deployed(db, agent))
        closure_changes = await place.runtime.compare(before.closure if before is not None else None, closure)
        rule = None
        if row.kind == "config" and old is not None:
            rule = rules.automatic(place.settings.approval.rules, rules.Change(paths, old, new))
        return Built(closure, words.changes(old, new), closure_changes, rule)

    async def _build(self, agent: str, number: int) -> None:
        place = self._place
        async with place.locks[agent]:
            row = await place.row(agent, number)
            if row.state is State.PROPOSAL:
                await self._take(row, [Step(row.data(State.BUILDING), row.sha, SYSTEM)])
                row = await place.row(agent, number)
        if row.state is not State.BUILDING:
            return
        try:
            built = await self.build(row)
        except Exception as error:
            why = why_failed(error, "build", row)
            async with place.locks[agent]:
                await self._fail(row, why)
            return
        async with place.locks[agent]:
            try:
                approved = await self._settle(row, built)
            except HiveError as error:
                await self._fail(row, why_failed(error, "build", row))
                return
        if approved:
            await self._deploying.carry_out(agent, number)

    async def _settle(self, row: Row, built: Built) -> bool:
        """Plant `built/N` and ask for a decision; whether none is needed, and it is approved."""
        place = self._place
        data = row.data(
            State.BUILT,
            closure=built.closure,
            settings=built.settings,
            closure_changes=built.closure_changes,
        )
        newest = await place.read(lambda db: index.last_deployed(db, row.agent))
        overtaken = newest is not None and newest.number > row.number  # Main may be back where it was.
        if overtaken or await place.with_repository(row.agent, _main_of) != row.base:
            gone = Step(replace(data, state=State.WITHDRAWN, outcome=policy.MAIN_MOVED), row.sha, SYSTEM)
            await self._take(row, [Step(data, row.sha, SYSTEM), gone], place.told(gone))
            return False
        question = policy.question(row.kind, row.proposer, row.agent, has_manager=place.has_manager)
        decider = policy.next_decider(place.settings.approval, question, [])
        step = Step(replace(data, waits_for=decider), row.sha, SYSTEM)
        # Without a decider there is nobody but the operator, who proposed it.
        alone = f"rule: {built.rule}" if built.rule is not None else row.proposer if decider is None else None
        opened = await place.read(lambda db: index.open_of(db, row.agent))
        under_way = any(other.state is State.APPROVED for other in opened)
        if decider is None and under_way:
            gone = Step(replace(data, state=State.WITHDRAWN, outcome=_UNDER_WAY), row.sha, SYSTEM)
            await self._take(row, [Step(data, row.sha, SYSTEM), gone], place.told(gone))
            return False
        if alone is not None and not under_way:
            approved = replace(data, state=State.APPROVED, approvals=[alone])
            await self._take(row, [step, Step(approved, row.sha, SYSTEM)])
            return True
        diff = await place.with_repository(row.agent, lambda found: shown_diff(found, row, SHOWN_DIFF))
        await self._take(row, [step], place.told(step, diff=diff))
        return False

    async def _fail(self, row: Row, why: str) -> None:
        place = self._place
        tail = await self._logs.tail(row.agent, row.number, _TAIL_LINES)
        step = Step(row.data(State.FAILED, outcome=why, log_tail=tail), row.sha, SYSTEM)
        await self._take(row, [step], place.told(step))

    async def _take(self, row: Row, steps: Sequence[Step], told: Sequence[Notice] = ()) -> None:
        await self._place.ledger.enter(row.agent, steps, notices=told, created={row.number: row.created_at})
        await self._place.tell_changed()


def _main_of(repository: Repository) -> str | None:
    return repository.main()


def _changes(repository: Repository, row: Row) -> tuple[AgentConfig | None, AgentConfig, list[str]]:
    old = read_config(repository, row.base) if row.base is not None else None
    return old, read_config(repository, row.sha), repository.changed_paths(row.base, row.sha)
