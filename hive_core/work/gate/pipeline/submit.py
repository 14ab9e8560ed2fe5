"""Submission of work, and its repetition."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.errors import HiveError, bad_request, conflict, forbidden
from hive_core.gate.policy import SYSTEM, Principal, name_from_label
from hive_core.gate.records.states import OPEN, State
from hive_core.gate.records.transitions import seconds
from hive_core.gate.subject.decision import describe_state
from hive_core.gate.subject.work import as_request
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.git.repository import Repository
from hive_core.protocol import RetryWork, SubmitWork, WorkProposal
from hive_core.protocol.names import WORK_WORDS
from hive_core.text import format_bytes, shown
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.intake.import_work import ImportedWork, SubmittedCommit, WorkImporter
from hive_core.work.gate.intake.work_repository import prepare
from hive_core.work.gate.interfaces import ReviewedRepository
from hive_core.work.gate.pipeline.check import WorkCheckStep
from hive_core.work.gate.pipeline.prune import WorkPruning
from hive_core.work.gate.pipeline.publish import PublishStep
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkChange

_MAX_OPEN = 20
"""Number of open proposals that a party may have for a repository."""
_MAX_PER_HOUR = 60
"""Number of proposals that an agent may make in an hour."""
_PRUNED_DAYS = 1.0
"""Days after which ended proposals are pruned when their repository has no space for another."""


@dataclass(frozen=True)
class _Share:
    """The bytes that all work for a repository and that of one agent take up, and what the agent may always have."""

    used: int
    own: int
    most: int


class Submissions:
    """Takes in work."""

    def __init__(
        self,
        context: WorkContext,
        importer: WorkImporter,
        check_step: WorkCheckStep,
        publish_step: PublishStep,
        pruning: WorkPruning,
    ) -> None:
        self._context = context
        self._importer = importer
        self._check_step = check_step
        self._publish_step = publish_step
        self._pruning = pruning

    @as_request
    async def submit(self, request: SubmitWork, principal: Principal) -> WorkProposal:
        """Import a commit of the caller's clone, and propose it; it is checked in the background.

        Raises what the import raises, `unknown_repository`, `not_yours`, `repository_empty`, `already_proposed`,
        `too_many_proposals`, `proposal_space_full`.
        """
        if principal.role == "operator":
            raise bad_request("the operator has no clone to submit from", "commit and push upstream, then fetch")
        repo = request.repo
        record = self._context.mirrors.record(repo)
        self._check_uses(repo, principal)
        await self._check_space(repo, principal)
        with self._pruning.taking_in(repo, request.commit):
            taken = await self._take_in(record, request.commit, principal)
            async with self._context.locks[repo]:
                self._context.mirrors.record(repo)
                await self._check_limits(repo, request.commit, principal)
                data = await self._context.new_work(
                    record, principal.label, request.title, request.description, taken.base, taken.size
                )
                change = WorkChange(data, request.commit, principal)
                (row,) = await self._context.work_log.record(repo, [change])
        self._check_step.begin(repo, row.number)
        return row.to_protocol()

    @as_request
    async def retry(self, repo: str, number: int, _: RetryWork, principal: Principal) -> WorkProposal:
        """Propose the commit of failed or withdrawn work again, in the name of who submitted it.

        Of landed work, the operator has the publication tried again now.
        Raises `not_yours`, `stale_state`, `files_pruned`, `nothing_changed`, `not_rebased`,
        `already_proposed`, `too_many_proposals`.
        """
        context = self._context
        record = context.mirrors.record(repo)
        row = await context.visible_row(repo, number, principal)
        if not policy.sees_all(principal) and principal.name != name_from_label(row.by):
            raise forbidden("not_yours", f"{row.name} was submitted by {row.by}", "ask who submitted it")
        if row.state is State.DEPLOYED and principal.role == "operator":
            self._publish_step.try_again(row)
            return row.to_protocol()
        if row.state not in (State.FAILED, State.WITHDRAWN):
            hint = "wait until it has ended" if row.state in OPEN else "submit a changed commit"
            raise conflict(
                "stale_state", f"{row.name} {describe_state(row, WORK_WORDS)}, not failed or withdrawn", hint
            )
        with self._pruning.taking_in(repo, row.commit):
            if await context.in_repository(repo, lambda repository: _is_pruned(repository, row)):
                raise conflict("files_pruned", f"the files of {row.name} were removed", "submit the commit again")
            tip = await self._tip(record)
            base = await context.in_repository(repo, lambda repository: repository.merge_base(tip, row.commit))
            if base is None or base == row.commit:
                raise conflict("nothing_changed", f"the branch has {row.commit} already", "nothing is to be done")
            if not record.merges and base != tip:
                why = f"{row.name} cannot land: the branch {shown(record.branch)} has gone on to {tip}"
                hint = (
                    f"have {name_from_label(row.by)} rebase it (git fetch origin && git rebase FETCH_HEAD) and submit"
                )
                raise conflict("not_rebased", why, f"{hint} the new commit; or allow merges (repo set {repo} --merges)")
            async with context.locks[repo]:
                await self._check_limits(repo, row.commit, principal, by=row.by)
                data = await context.new_work(record, row.by, row.title, row.description, base)
                (new,) = await context.work_log.record(repo, [WorkChange(data, row.commit, principal)])
        self._check_step.begin(repo, new.number)
        return new.to_protocol()

    async def _take_in(self, record: ReviewedRepository, commit: str, principal: Principal) -> ImportedWork:
        context, repo = self._context, record.name
        # The repository's lock is not held, so that a clone that is slow to read does not delay decisions.
        async with self._pruning.slot(principal.name):
            await self._check_limits(repo, commit, principal)
            tip = await self._tip(record)
            mirror, into = context.mirrors.mirror(repo), context.repository(repo)
            async with context.locks[repo]:
                await GATE.run(prepare, into, mirror)
            submitted = SubmittedCommit(context.layout.agent(principal.name).code, repo, commit)
            return await self._importer.import_commit(submitted, mirror, into, tip)

    async def _tip(self, record: ReviewedRepository) -> str:
        tip = await self._context.branch_tip(record.name, record.branch)
        if tip is None:
            why = f"{record.name} has no branch to land on yet"
            raise conflict("repository_empty", why, "the operator fetches it: hive-c0re repo fetch " + record.name)
        return tip

    def _check_uses(self, repo: str, principal: Principal) -> None:
        if principal.name not in self._context.mirrors.users(repo):
            why = f"the configuration of {principal.name} does not name the repository {repo}"
            raise forbidden("not_yours", why, f'propose `repos = ["{repo}"]` in agent.toml first')

    async def _check_limits(self, repo: str, commit: str, principal: Principal, *, by: str = "") -> None:
        """Raise `already_proposed` or `too_many_proposals`. Imported objects stay on the disk, so they are limited."""
        opened = await self._context.database.read(lambda db: index.open_of(db, repo))
        label = by or principal.label
        for row in opened:
            if row.commit == commit:
                why = f"{row.name} has the same commit and {describe_state(row, WORK_WORDS)}"
                raise conflict("already_proposed", why, "wait for its decision, or withdraw it")
        if sum(row.by == label for row in opened) >= _MAX_OPEN:
            why = f"{_MAX_OPEN} proposals of {label} for {repo} are open already"
            raise HiveError("too_many_proposals", why, hint="withdraw those that are not needed", status=429)
        if principal.role == "agent":
            since = (seconds() - 3_600) * 1_000
            count = await self._context.database.read(lambda db: index.count_since(db, label, since))
            if count >= _MAX_PER_HOUR:
                why = f"{label} has submitted {count} times within an hour"
                raise HiveError("too_many_proposals", why, hint="wait; submit what is finished", status=429)

    async def _check_space(self, repo: str, principal: Principal) -> None:
        """Raise `proposal_space_full` if there is no space, also after the work that ended long ago is pruned.

        The first half of the space is for everybody. Of the other half each agent that uses the repository has an equal
        share, counted from its first byte, so that none can take up what the others need.
        """
        context, most = self._context, self._context.settings.work_space
        if not context.repository(repo).is_dir():
            return
        if await context.in_repository(repo, Repository.packed_bytes) < most // 2:
            return
        async with self._pruning.slot(principal.name):  # An agent that asks all the time is measured once at a time.
            share = await self._share(repo, principal)
            if share.own >= share.most or share.used >= most:
                await self._pruning.prune_older(repo, _PRUNED_DAYS, SYSTEM)
                share = await self._share(repo, principal)
        if share.used >= most // 2 and share.own >= share.most:
            why = (
                f"the work of {principal.name} for {repo} takes up {format_bytes(share.own)}, of the "
                f"{format_bytes(share.most)} that are its share while that of all takes up {format_bytes(share.used)}"
            )
            hint = "withdraw what is not needed, which is removed a day later; or ask the operator to raise work_space"
            raise HiveError("proposal_space_full", why, hint=hint, status=429)

    async def _share(self, repo: str, principal: Principal) -> _Share:
        context = self._context
        used = await context.in_repository(repo, Repository.packed_bytes)
        users = {*context.mirrors.users(repo), principal.name}
        own = await self._pruning.size_of(repo, principal.label)
        return _Share(used, own, context.settings.work_space // 2 // len(users))


def _is_pruned(repository: Repository, row: WorkRow) -> bool:
    return repository.resolve(f"refs/tags/{row.state}/{row.number}") is not None and any(
        tag.target != row.commit for tag in repository.read_tags([f"{row.state}/{row.number}"])
    )
