"""Recovery of work after a start: what a killed daemon was at is finished or undone, and announced.

The tags are the truth. First the database is made to agree with them; then every open proposal goes on from its state.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from hive_core.gate.policy import SYSTEM, principal_of_label
from hive_core.gate.records.index import states_from_tags
from hive_core.gate.records.states import ENDORSED, State, parse_tag_name, tag_name
from hive_core.gate.records.transitions import Notification
from hive_core.gate.subject.background import is_temporary
from hive_core.gate.subject.pruning import audited_objects
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.pipeline.check import WorkCheckStep
from hive_core.work.gate.pipeline.land import LANDING, LandStep
from hive_core.work.gate.pipeline.prune import WorkPruning
from hive_core.work.gate.pipeline.publish import PublishStep
from hive_core.work.gate.records import index, work_tag
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import PUBLISHED, WorkChange

_WORDS = [word for state in State for word in ((state.value, ENDORSED) if state is State.BUILT else (state.value,))]
_ORDER = [*_WORDS, PUBLISHED]
_AT_ONCE = 8

log = structlog.get_logger(__name__)


class WorkRecovery:
    """Recovers the work for all repositories."""

    def __init__(
        self,
        context: WorkContext,
        check_step: WorkCheckStep,
        land_step: LandStep,
        publish_step: PublishStep,
        pruning: WorkPruning,
    ) -> None:
        self._context = context
        self._check_step = check_step
        self._land_step = land_step
        self._publish_step = publish_step
        self._pruning = pruning

    async def run(self) -> None:
        """Recover every repository that has a work repository. One that is damaged is logged; the others go on."""
        context = self._context
        found = {path.name.removesuffix(".git") for path in context.layout.work.glob("*.git")}
        for repo in sorted(await context.database.read(index.repos) - found):
            await context.database.write(partial(index.delete_rows, repo=repo))
        turns = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._recover_in_turn(repo, turns) for repo in sorted(found)))
        for row in await context.database.read(index.unpublished):
            self._publish_step.start(row.repo, row.number)

    def recover_later(self, repo: str) -> None:
        """Recover a repository in the background, as soon as possible; requests about it are refused until then."""

        async def recover() -> None:
            await self._recover(repo)

        self._context.hold_back(repo, recover)

    async def catch_up(self, repo: str) -> None:
        """Make the index agree with the tags of a repository, while the daemon runs."""
        async with self._context.locks[repo]:
            await self._align(repo)

    async def end_all(self, repo: str, why: str) -> None:
        """End all open work for a repository that is removed. The repository's lock must not be held."""
        context = self._context
        # Also publications: those of another repository that gets the name begin anew, with the same numbers.
        await context.background.cancel_all_of(repo)
        async with context.locks[repo]:
            for row in await context.database.read(lambda db: index.open_of(db, repo)):
                await self._end(row, why)

    async def _recover_in_turn(self, repo: str, turns: asyncio.Semaphore) -> None:
        try:
            async with turns, self._context.locks[repo]:
                await self._recover(repo)
        except Exception as error:  # Whatever one repository holds, the others go on.
            if is_temporary(error):
                log.warning("work is recovered later", repo=repo, error=str(error))
                self.recover_later(repo)
            else:
                log.error("work not recovered", repo=repo, error=str(error), exc_info=error)

    async def _recover(self, repo: str) -> None:
        """Finish or undo what was under way. The repository's lock must be held."""
        context = self._context
        await self._align(repo)
        known = context.find_record(repo) is not None
        for row in sorted(await context.database.read(lambda db: index.open_of(db, repo)), key=_age):
            if context.background.is_under_way(repo, row.number):
                continue
            if not known:
                await self._end(row, policy.REPOSITORY_REMOVED)
            elif row.state in (State.PROPOSAL, State.BUILDING):
                self._check_step.begin(repo, row.number)
            elif row.state is State.APPROVED:
                self._land_step.start(repo, row.number)
            else:
                continue
            log.info("work taken up again", repo=repo, number=row.number, state=row.state.value)

    async def _end(self, row: WorkRow, why: str) -> None:
        state = State.WITHDRAWN if row.state in (State.PROPOSAL, State.BUILT) else State.FAILED
        change = WorkChange(row.tag(state, outcome=why, waits_for=None), row.commit, SYSTEM)
        await self._context.work_log.record(row.repo, [change])

    async def _align(self, repo: str) -> None:
        """Remove what killed processes of git have left, and make the index agree with the tags."""
        context = self._context
        await context.in_repository(repo, lambda repository: repository.repair())
        await self._pruning.finish(repo)
        indexed = {row.number: row for row in await context.database.read(lambda db: index.of_repo(db, repo))}
        numbers, tags = await context.in_repository(repo, lambda work: _differing_tags(work, indexed), READS)
        if tags:
            log.warning("index of work differs from the tags", repo=repo, tags=[tag.name for tag in tags])
            await self._update_index(repo, tags)
        if without_tags := indexed.keys() - numbers:
            log.warning("work without tags is forgotten", repo=repo, numbers=sorted(without_tags))
            await context.database.write(lambda db: index.delete_rows(db, repo, without_tags))
        open_numbers = {row.number for row in await context.database.read(lambda db: index.open_of(db, repo))}
        await context.in_repository(repo, lambda work: _forget_plans(work, open_numbers))

    async def _update_index(self, repo: str, tags: list[Tag]) -> None:
        """Bring the index and the audit table up to date with the tags."""
        context = self._context
        audited = await context.database.read(lambda db: audited_objects(db, repo, "work"))
        written = [(_change_of(tag), tag.sha) for tag in tags if tag.sha not in audited]
        not_announced = {change.tag: change for change, _ in written}
        notifications: list[Notification] = []
        names = {tag.name for tag in tags}
        rows = index.rows_from_tags(tags)
        for row in rows:
            states = {state for state in State if tag_name(state, row.number) in names}
            change = not_announced.get(index.last_name(names, row.number, states))
            # Messages are stored together with the audit rows, so those about tags without audit rows are missing.
            if change is not None:
                asked = [tag for tag in tags if tag.name in (f"built/{row.number}", f"{ENDORSED}/{row.number}")]
                was_asked = next((work_tag.parse_message(tag.message).waits_for for tag in reversed(asked)), None)
                notifications += await context.work_log.notifications_for(change, was_asked=was_asked)
        await context.work_log.write_index(repo, rows, written, notifications)


def _age(row: WorkRow) -> tuple[int, int]:
    """Return the key by which work is taken up again: what was approved first lands first."""
    return row.changed_at, row.number


def _differing_tags(work: Repository, indexed: dict[int, WorkRow]) -> tuple[set[int], list[Tag]]:
    """Return the numbers of all proposals, and the tags of those whose row differs, in order."""
    names = work.tags()
    states = states_from_tags(name for name in names if not index.is_published(name))
    differing = {
        number for number, reached in states.items() if _word(names, number, reached) != _row_word(indexed.get(number))
    }
    wanted = sorted((name for name in names if _number(name) in differing), key=_order)
    return set(states), work.read_tags(wanted)


def _word(names: dict[str, str], number: int, states: set[State]) -> str:
    return index.last_name(names, number, states).partition("/")[0]


def _row_word(row: WorkRow | None) -> str:
    if row is None:
        return ""
    if row.state is State.BUILT and row.approvals:
        return ENDORSED
    return PUBLISHED if row.state is State.DEPLOYED and row.link else row.state.value


def _forget_plans(work: Repository, opened: set[int]) -> None:
    """Remove the refs of landings of work that has ended."""
    for path in (work.path / LANDING).glob("*"):
        name = path.name
        if name.isdigit() and int(name) not in opened and (planned := work.resolve(LANDING + name)) is not None:
            work.revert([RefChange(LANDING + name, planned, None)])


def _number(name: str) -> int:
    return int(name.partition("/")[2])


def _order(name: str) -> tuple[int, int]:
    return _number(name), _ORDER.index(name.partition("/")[0])


def _change_of(tag: Tag) -> WorkChange:
    label = tag.tagger.name
    parsed = parse_tag_name(tag.name)
    marker = tag.name.partition("/")[0] if parsed is None or parsed[0] is None else ""
    data = work_tag.parse_message(tag.message)
    return WorkChange(data, data.pruned or tag.target, principal_of_label(label), marker)
