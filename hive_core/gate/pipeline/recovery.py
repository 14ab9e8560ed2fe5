"""Recovery of proposals after a start: the work of a killed daemon is finished or undone, and announced.

The tags are the truth. First the database is made to agree with them; then every open proposal goes on from its state.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.context import WHOLE_AGENT, GateContext
from hive_core.gate.pipeline.build import BuildStep
from hive_core.gate.pipeline.decide import Decisions
from hive_core.gate.pipeline.deploy import DeployStep
from hive_core.gate.pipeline.prune import Pruning
from hive_core.gate.policy import SYSTEM, principal_of_label
from hive_core.gate.records import index
from hive_core.gate.records.commit import read_config
from hive_core.gate.records.compared import NOT_COMPARED, was_compared
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import ENDORSED, State, tag_name
from hive_core.gate.records.tag_message import parse_message as read_text
from hive_core.gate.records.transitions import MAIN, Notification, Transition
from hive_core.gate.subject.background import is_temporary
from hive_core.gate.subject.pruning import audited_objects
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.text import Quoted

_ORDER = [word for state in State for word in ((state.value, ENDORSED) if state is State.BUILT else (state.value,))]
_SHOWN_ERROR = 300
_STARTED = "The hive was started again; proposals that were under way go on."
_ROOM_AGAIN = "The disk has room again; proposals that were under way go on."
_AT_ONCE = 8
"""Agents that are recovered side by side: each step waits for a thread or for the database."""
_CUT_OFF = "cut off when the hive stopped: ask for it again"

log = structlog.get_logger(__name__)


class Recovery:
    """Recovers the open proposals of all agents."""

    def __init__(
        self,
        context: GateContext,
        build_step: BuildStep,
        deploy_step: DeployStep,
        decisions: Decisions,
        pruning: Pruning,
    ) -> None:
        self._pruning = pruning
        self._context = context
        self._build_step = build_step
        self._deploy_step = deploy_step
        self._decisions = decisions

    async def run(self) -> None:
        """Recover every agent that has an applied repository. One that is damaged is logged; the others go on."""
        context = self._context
        names = index.agents_with_repository(context.layout.applied)
        for agent in sorted(await context.database.read(index.agents) - names):
            if not context.agents.exists(agent):  # The agent was purged.
                await context.end(agent, WHOLE_AGENT, partial(self._forget_rows, agent))
        turns = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(*(self._recover_in_turn(agent, turns) for agent in sorted(names)))
        await self._announce([line for lines in found for line in lines])

    async def _recover_in_turn(self, agent: str, turns: asyncio.Semaphore) -> list[str]:
        try:
            async with turns, self._context.locks[agent]:
                return await self._recover(agent)
        except Exception as error:  # Whatever one agent's repository holds, the others go on.
            if is_temporary(error):
                log.warning("applied repository is recovered later", agent=agent, error=str(error))
                self.recover_later(agent)
                return []
            log.error("applied repository not recovered", agent=agent, error=str(error), exc_info=error)
            return [f"{agent}: its applied repository cannot be read: {Quoted(str(error)).line(_SHOWN_ERROR)}"]

    async def _forget_rows(self, agent: str) -> None:
        """Remove the rows of an agent without a repository; by now there may be one again."""
        context = self._context
        if not context.layout.applied_repository(agent).exists():
            await context.database.write(partial(index.forget, agent=agent))

    def recover_later(self, agent: str) -> None:
        """Recover an agent in the background, as soon as that is possible; requests about it are refused until then."""

        async def recover() -> None:
            await self._announce(await self._recover(agent), _ROOM_AGAIN)

        self._context.hold_back(agent, recover)

    async def catch_up(self, agent: str) -> None:
        """Make the index of an agent agree with its tags, while the daemon runs."""
        async with self._context.locks[agent]:
            await self._align(agent)

    async def _announce(self, lines: list[str], heading: str = _STARTED) -> None:
        if not lines:
            return
        try:
            await self._context.end(SYSTEM.name, WHOLE_AGENT, partial(self._notify, lines, heading))
        except HiveError as error:
            log.warning("recovery not announced", code=error.code)

    async def _recover(self, agent: str) -> list[str]:
        """Finish or undo what was under way. Returns what was done, for a message. The agent's lock must be held."""
        context = self._context
        await self._align(agent)
        await self._settle_network(agent)
        notifications = []
        for row in await context.database.read(lambda db: index.open_of(db, agent)):
            if context.background.is_under_way(agent, row.number):
                continue
            action = await self._resume(row)
            if action:
                log.info("proposal taken up again", agent=agent, number=row.number, state=row.state.value, what=action)
                notifications.append(f"{agent}/{row.number} was {row.state.value}: {action}")
        if await context.database.read(lambda db: index.deployment_in_progress(db, agent)) is None:
            why = await self._deploy_step.restore_deployed(agent)
            notifications += [f"{agent}: {why.strip()}"] if why else []
        return notifications

    async def _settle_network(self, agent: str) -> None:
        """Find out, once after an update, whether what the agent runs on names its network."""
        context, record = self._context, self._context.agents.find(agent)
        if record is None or record.network_implied is not None:
            return
        row = await context.database.read(lambda db: index.find(db, agent, record.deployment))
        if row is None:
            return
        try:
            config = await context.in_repository(agent, lambda repository: read_config(repository, row.commit))
        except HiveError as error:
            if is_temporary(error):
                raise
            log.warning("not known whether the network is named", agent=agent, error=error.message)
            return
        implied = record.config.network == "host" and not config.names_network
        await context.deployments.settle_network(record, row.commit, implied=implied)

    async def _align(self, agent: str) -> None:
        """Remove what killed processes of git have left, and make the index agree with the tags."""
        context = self._context
        await context.in_repository(agent, lambda repository: repository.repair())
        await self._pruning.finish(agent)
        indexed = {row.number: row for row in await context.database.read(lambda db: index.of_agent(db, agent))}
        incomplete = await context.database.read(lambda db: index.numbers_to_complete(db, agent))
        numbers, tags = await context.in_repository(
            agent, lambda repository: _differing_tags(repository, indexed, incomplete)
        )
        if tags:
            log.warning("index differs from the tags", agent=agent, tags=[tag.name for tag in tags])
            await self._repair_main(agent, tags)
            await self._update_index(agent, tags)
        if without_tags := indexed.keys() - numbers:
            log.warning("proposals without tags are forgotten", agent=agent, numbers=sorted(without_tags))
            await context.database.write(lambda db: index.delete_rows(db, agent, without_tags))

    async def _repair_main(self, agent: str, tags: list[Tag]) -> None:
        """Finish moving main: a power cut can leave `deployed/N` without it."""
        context = self._context
        known = await context.database.read(lambda db: index.last_deployed(db, agent))
        rows = [row for row in index.rows_from_tags(tags) if row.state is State.DEPLOYED and row.kind != "destroy"]
        newest = max(rows, key=lambda row: row.number, default=None)
        if newest is None or (known is not None and known.number > newest.number):
            return

        def work(repository: Repository) -> None:
            if (main := repository.main()) != newest.commit:
                repository.update([RefChange(MAIN, newest.commit, main)])

        await context.in_repository(agent, work)

    async def _update_index(self, agent: str, tags: list[Tag]) -> None:
        """Bring the index and the audit table up to date with the tags."""
        context = self._context
        audited = await context.database.read(lambda db: audited_objects(db, agent))
        written = [(_transition_of(tag), tag.sha) for tag in tags if tag.sha not in audited]
        rows = index.rows_from_tags(tags)
        # Messages are stored together with the audit rows, so those about tags without audit rows are missing.
        not_announced = {transition.tag: transition for transition, _ in written}
        notifications: list[Notification] = []
        for row in rows:
            notifications += await self._missing_notifications(row, tags, not_announced)
        await context.transition_log.write_index(agent, rows, written, notifications)

    async def _missing_notifications(
        self, row: ProposalRow, tags: list[Tag], not_announced: dict[str, Transition]
    ) -> list[Notification]:
        """Return the messages about the last transition of a proposal that were not sent; none about earlier ones."""
        transition = not_announced.get(tag_name(row.state, row.number))
        if row.state is State.BUILT:
            transition = not_announced.get(tag_name(ENDORSED, row.number), transition if not row.approvals else None)
        if transition is None:
            return []
        asking = [tag for tag in tags if tag.name in (tag_name("built", row.number), tag_name(ENDORSED, row.number))]
        was_asked = next((read_text(tag.message).waits_for for tag in reversed(asking)), None)
        return await self._context.transition_log.notifications_for(transition, was_asked=was_asked)

    async def _resume(self, row: ProposalRow) -> str:
        """Go on with an open proposal. Returns a description of that in words; empty if the proposal just waits."""
        context = self._context
        if row.kind in ("config", "rollback", "rebuild") and not context.agents.exists(row.agent):
            await self._end(row, "the agent is gone")
            return "ended, as the agent is gone"
        if row.state is State.BUILT:
            if row.kind == "config" and await context.in_repository(row.agent, Repository.main) != row.base:
                await self._decisions.take_back(row, policy.MAIN_MOVED, SYSTEM)
                return "withdrawn, as something else was deployed"
            newest = await context.database.read(lambda db: index.last_deployed(db, row.agent))
            if row.kind == "config" and newest is not None and newest.number > row.number:
                await self._decisions.take_back(row, policy.SUPERSEDED, SYSTEM)
                return "withdrawn, as what is deployed was built anew"
            if row.waits_for is None:
                await self._end(row, _CUT_OFF)
                return "withdrawn, as it was cut off"
            if not await context.in_repository(row.agent, lambda repository: was_compared(repository, row)):
                await self._decisions.take_back(row, NOT_COMPARED, SYSTEM)
                return "withdrawn, as an older hive has built it"
            return ""
        if row.state is State.APPROVED:
            if not await context.in_repository(row.agent, lambda repository: _may_deploy(repository, row)):
                await self._deploy_step.fail(row, NOT_COMPARED)
                return "ended, as an older hive has built it"
            self._deploy_step.start(row.agent, row.number)
            return "is deployed now"
        if row.kind in ("rollback", "destroy"):
            # These kinds are not built, so all tags up to the decision are written at once. This one was cut off.
            await self._end(row, _CUT_OFF)
            return "ended, as it was cut off"
        self._build_step.begin(row.agent, row.number)
        return "is built now"

    async def _end(self, row: ProposalRow, why: str) -> None:
        state = State.WITHDRAWN if row.state in (State.PROPOSAL, State.BUILT) else State.FAILED
        transition = Transition(row.tag(state, outcome=why, waits_for=None), row.commit, SYSTEM)
        # The message of `_notify` names this proposal.
        await self._context.transition_log.record(row.agent, [transition], notify=False)

    async def _notify(self, lines: list[str], heading: str) -> None:
        to = MANAGER if self._context.has_manager else OPERATOR
        text = "\n".join([heading, "", *lines])
        await self._context.transition_log.notify((to, text))


def _differing_tags(
    repository: Repository, indexed: dict[int, ProposalRow], incomplete: set[int]
) -> tuple[set[int], list[Tag]]:
    """Return the numbers of all proposals, and the tags of those whose row differs or is incomplete, in order."""
    names = repository.tags()
    differing = set()
    states = index.states_from_tags(names)
    for number, reached_states in states.items():
        word = index.last_tag(names, number, reached_states).partition("/")[0]
        row = indexed.get(number)
        state = None if row is None else row.state.value
        if word == ENDORSED:
            agrees = row is not None and state == State.BUILT.value and bool(row.approvals)
        else:
            agrees = state == word
        if not agrees or number in incomplete:
            differing.add(number)
    wanted = sorted((name for name in names if _number(name) in differing), key=_order)
    return set(states), repository.read_tags(wanted)


def _may_deploy(repository: Repository, row: ProposalRow) -> bool:
    """Return True unless an older daemon has built the approved proposal and has not deployed it yet."""
    # Main is moved first of all refs, so a configuration that main is at was deployed and found healthy.
    deployed = row.kind != "rebuild" and repository.main() == row.commit
    return deployed or was_compared(repository, row)


def _number(name: str) -> int:
    return int(name.partition("/")[2])


def _order(name: str) -> tuple[int, int]:
    word = name.partition("/")[0]
    return _number(name), _ORDER.index(word)


def _transition_of(tag: Tag) -> Transition:
    label = tag.tagger.name
    marker = ENDORSED if tag.name.startswith(f"{ENDORSED}/") else ""
    data = read_text(tag.message)
    return Transition(data, data.pruned or tag.target, principal_of_label(label), marker)
