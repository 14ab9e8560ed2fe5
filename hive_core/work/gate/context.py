"""The shared state of the gate of work, and the data of new proposals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hive_core.gate.policy import Principal, name_from_label
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import seconds
from hive_core.gate.subject.background import BackgroundWork
from hive_core.gate.subject.work import SubjectWork
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.database.database import Database
from hive_core.infra.git import refs
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.protocol import WorkProposal
from hive_core.settings import Settings
from hive_core.work.gate import policy
from hive_core.work.gate.interfaces import Mirrors, ReviewedRepository
from hive_core.work.gate.policy import Review, unknown_work
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkTag
from hive_core.work.gate.work_log import WorkLog

HEADS = "refs/heads/"


class WorkContext(SubjectWork):
    """The objects that the parts share. The subjects are repositories."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        database: Database,
        directory: Directory,
        broker: Broker,
        mirrors: Mirrors,
        work_log: WorkLog,
        background: BackgroundWork,
    ) -> None:
        super().__init__(work_log, background)
        self.settings = settings
        self.layout = layout
        self.database = database
        self.directory = directory
        self.broker = broker
        self.mirrors = mirrors
        self.work_log = work_log
        self.prunings: Counter[str] = Counter()
        """The number of times that work for a repository was pruned since the start: its contents have changed."""

    def repository(self, subject: str) -> Path:
        return self.layout.work_repository(subject)

    def to_protocol(self, row: WorkRow) -> WorkProposal:
        """Return work as callers see it, with the decider that it waits for in the hive of now."""
        waits_for = policy.shown_decider(row.waits_for, self.directory.names())
        return row.to_protocol().model_copy(update={"waits_for": waits_for})

    async def row(self, repo: str, number: int) -> WorkRow:
        """Return the row of a proposal. Raises `unknown_work`."""
        row = await self.database.read(lambda db: index.find(db, repo, number))
        if row is None:
            raise unknown_work(repo, number)
        return row

    def find_record(self, repo: str) -> ReviewedRepository | None:
        """Return the settings of a repository; None if the operator has removed it."""
        return next((record for record in self.mirrors.records() if record.name == repo), None)

    def review(self, row: WorkRow) -> Review:
        """Return what decides who approves work."""
        record = self.find_record(row.repo)
        rule = "operator" if record is None else record.review
        return Review(rule, name_from_label(row.by), self.directory.names())

    async def branch_tip(self, repo: str, branch: str) -> str | None:
        """Return the commit of a branch on which work lands, None if there is none; "" is no branch."""
        if not branch:
            return None
        return await GATE.run(refs.resolve, self.mirrors.mirror(repo), HEADS + branch)

    async def new_work(
        self,
        record: ReviewedRepository,
        principal_label: str,
        title: str,
        description: str,
        base: str,
        size: int = 0,
    ) -> WorkTag:
        """Create the data of a new proposal. The caller must hold the repository's lock until the tag is written."""
        repo = record.name
        return WorkTag(
            repo=repo,
            number=await self.database.read(lambda db: index.next_number(db, repo)),
            state=State.PROPOSAL,
            by=principal_label,
            title=title,
            branch=record.branch,
            base=base,
            size=size,
            description=description,
            expires_at=(seconds() + int(self.settings.proposal_days * 86_400)) * 1_000,
        )

    async def visible_row(self, repo: str, number: int, principal: Principal) -> WorkRow:
        """Return the row of a proposal that the party may see. Raises `unknown_work`."""
        row = await self.row(repo, number)
        record = self.find_record(repo)
        if not policy.can_see(principal, row.by, "" if record is None else record.review):
            raise unknown_work(repo, number)
        return row
