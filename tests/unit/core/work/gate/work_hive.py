"""A hive with the real gate of work: real git, database and messages; checks, merges and publication are stand-ins.

Agents are ada, bob and the manager; the repository is `web`, whose mirror has one commit on the branch `main`. Each
agent has a clone that borrows from the mirror, as real ones do.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hive_core.errors import HiveError, not_found
from hive_core.gate.policy import Principal
from hive_core.infra.concurrency.tasks import log_failure
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.git.repository import Repository
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.messaging.directory import Member
from hive_core.protocol import (
    ApproveWork,
    CommentOnWork,
    DenyWork,
    ProposalQuery,
    RetryWork,
    SubmitWork,
    WithdrawWork,
    WorkDetail,
    WorkProposal,
)
from hive_core.settings import Settings
from hive_core.work.gate.gate import WorkGate
from hive_core.work.gate.intake.import_work import WorkImporter, WorkLimits
from hive_core.work.gate.interfaces import CheckResult, MergedWork, ReviewedRepository
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow

ADA = Principal("ada", "agent", "ada")
BOB = Principal("bob", "agent", "bob")
MANAGER = Principal("hm1nd", "manager", "hm1nd")
OPERATOR = Principal("operator", "operator", "operator:alice")
ENDED = ("deployed", "failed", "denied", "withdrawn")
PATIENCE = 30.0
"""The longest wait in seconds; only a test that fails waits so long."""
_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "PATH": os.environ["PATH"],
    "HOME": "/",
    **{
        f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in (("NAME", "A"), ("EMAIL", "a@b"))
    },
}


def git(place: Path, *arguments: str, feed: str | None = None) -> str:
    """Run git as an agent would."""
    done = subprocess.run(
        ["git", *arguments], cwd=place, env=_GIT, input=feed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class FakeCheck:
    """A check of the fake checker, which knows only its name."""

    name: str


@dataclass(frozen=True)
class FakeRecord:
    """The settings of a repository."""

    name: str = "web"
    source: str = ""
    branch: str = "main"
    push: str = "none"
    merges: bool = False
    review: str = "manager"
    checks: Sequence[FakeCheck] = ()
    check_hosts: Sequence[str] = ()


@dataclass
class FakeMirrors:
    """A registry with real mirrors."""

    layout: Layout
    found: dict[str, FakeRecord] = field(default_factory=dict)
    fetches: list[str] = field(default_factory=list)
    on_fetch: Callable[[], None] = lambda: None

    def records(self) -> Sequence[ReviewedRepository]:
        return list(self.found.values())

    def record(self, name: str) -> ReviewedRepository:
        if name not in self.found:
            raise not_found("unknown_repository", f"there is no repository {name}")
        return self.found[name]

    def mirror(self, name: str) -> Path:
        return self.layout.mirror(name)

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def users(self, name: str) -> Sequence[str]:
        return ["ada", "bob", "hm1nd"]

    async def fetch(self, name: str) -> object:
        self.fetches.append(name)
        self.on_fetch()
        return None


@dataclass
class FakeOutside:
    """Checks and merges. A tree with a file `BROKEN` fails its checks."""

    layout: Layout
    checked: list[tuple[int, str]] = field(default_factory=list)
    may_check: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    async def check(
        self, record: ReviewedRepository, row: WorkRow, tree: str, say: Callable[[str], None]
    ) -> CheckResult:
        self.waiting += 1
        await self.may_check.wait()
        self.waiting -= 1
        self.checked.append((row.number, tree))
        say("running")
        names = git(self.layout.work_repository(row.repo), "ls-tree", "--name-only", tree).split("\n")
        if "BROKEN" in names:
            say("it is broken")
            return CheckResult(["test: exit code 1"], "the check test failed: exit code 1")
        return CheckResult(["test: passed in 0.1 s"])

    async def merge(self, row: WorkRow, branch: str) -> MergedWork:
        """Merge as git does."""
        return await asyncio.to_thread(self._merge, row, branch)

    def _merge(self, row: WorkRow, branch: str) -> MergedWork:
        work = self.layout.work_repository(row.repo)
        done = subprocess.run(
            ["git", "merge-tree", "--write-tree", "--name-only", "--no-messages", branch, row.commit],
            cwd=work, env=_GIT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        tree, *paths = done.stdout.strip().split("\n")
        if done.returncode:
            return MergedWork(conflicts=paths)
        commit = git(work, "commit-tree", "-p", branch, "-p", row.commit, "-m", f"Merge {row.name}", tree)
        return MergedWork(commit=commit, tree=tree)


@dataclass
class FakePublisher:
    """Publication as the real one does it: what fails is repeated when `try_again` is called."""

    unpublishable: list[HiveError] = field(default_factory=list)
    published: list[tuple[int, str | None]] = field(default_factory=list)
    merges: dict[str, str] = field(default_factory=dict)
    problems: dict[tuple[str, int], HiveError] = field(default_factory=dict)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, record: ReviewedRepository, row: WorkRow) -> str:
        while self.unpublishable:
            self.again.clear()
            self.problems[row.repo, row.number] = self.unpublishable.pop(0)
            self.failed.set()
            await self.again.wait()
        self.problems.pop((row.repo, row.number), None)
        self.published.append((row.number, row.landed))
        return f"https://forge.example/{row.repo}/pulls/{row.number}"

    async def merge_of(self, work: WorkRow) -> str:
        return self.merges.get(work.link, "")

    def problem(self, repo: str, number: int) -> HiveError | None:
        return self.problems.get((repo, number))

    def try_again(self) -> None:
        self.again.set()


@dataclass
class WorkHive:
    """One run of a daemon, with the parts that concern work."""

    layout: Layout
    database: Database
    broker: Broker
    directory: Directory
    gate: WorkGate
    mirrors: FakeMirrors
    outside: FakeOutside
    publisher: FakePublisher

    def set(self, **changes: object) -> None:
        """Change the settings of the repository."""
        self.mirrors.found["web"] = FakeRecord(**changes)  # type: ignore[arg-type]

    def clone(self, agent: str = "ada") -> Path:
        return self.layout.agent(agent).code / "web"

    def tip(self) -> str:
        return git(self.layout.mirror("web"), "rev-parse", "refs/heads/main")

    def commit(
        self, files: Mapping[str, str | bytes], agent: str = "ada", *, on: str | None = None, message: str = "A change"
    ) -> str:
        """Make a commit in the agent's clone, on top of `on` or of the branch."""
        place = self.clone(agent)
        git(place, "fetch", "--quiet", str(self.layout.mirror("web")), "main")
        git(place, "checkout", "--quiet", "--force", "--detach", on or "FETCH_HEAD")
        for path, data in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(data.encode() if isinstance(data, str) else data)
        git(place, "add", "--all", "--force")
        git(place, "commit", "--quiet", "--allow-empty", "--message", message)
        return git(place, "rev-parse", "HEAD")

    def land_elsewhere(self, files: Mapping[str, str]) -> str:
        """Move the branch as a fetch from upstream does."""
        sha = self.commit(files, "bob")
        mirror = self.layout.mirror("web")
        git(self.clone("bob"), "push", "--quiet", str(mirror), f"{sha}:refs/heads/main")
        return sha

    async def submit(self, sha: str, principal: Principal = ADA, title: str = "Mend it") -> WorkProposal:
        request = SubmitWork(repo="web", commit=sha, title=title, description="It took 3 turns.")
        return await self.gate.submissions.submit(request, principal)

    async def built(self, files: Mapping[str, str | bytes], principal: Principal = ADA) -> WorkDetail:
        """Submit a change, and wait until it waits for its decision."""
        sha = await asyncio.to_thread(self.commit, files, principal.name)
        return await self.until((await self.submit(sha, principal)).number, "built")

    async def approve(self, number: int, principal: Principal = MANAGER) -> WorkProposal:
        request = ApproveWork(expect="built", note="fine")
        return await self.gate.decisions.approve("web", number, request, principal)

    async def deny(self, number: int, principal: Principal = MANAGER) -> WorkProposal:
        return await self.gate.decisions.deny("web", number, DenyWork(expect="built", note="no"), principal)

    async def withdraw(self, number: int, principal: Principal = ADA) -> WorkProposal:
        return await self.gate.decisions.withdraw("web", number, WithdrawWork(), principal)

    async def retry(self, number: int, principal: Principal = OPERATOR) -> WorkProposal:
        return await self.gate.submissions.retry("web", number, RetryWork(), principal)

    async def comment(self, number: int, text: str, principal: Principal = MANAGER, **place: object) -> None:
        request = CommentOnWork(text=text, **place)  # type: ignore[arg-type]
        await self.gate.decisions.comment("web", number, request, principal)

    async def show(self, number: int, principal: Principal = OPERATOR) -> WorkDetail:
        return await self.gate.queries.show("web", number, principal)

    async def until(self, number: int, *states: str) -> WorkDetail:
        """Wait until the work is in one of the states; it must not end in another one."""
        async with asyncio.timeout(PATIENCE):
            detail = await self.show(number)
            while detail.state not in states:
                assert detail.state not in ENDED, (detail.state, detail.outcome)
                query = ProposalQuery(unlike=detail.state, wait_seconds=PATIENCE)
                await self.gate.queries.wait_for_change("web", number, query, OPERATOR)
                detail = await self.show(number)
            return detail

    async def settled(self) -> None:
        """Wait until no work is being checked or landed."""
        for row in await self.rows():
            if row.state not in ("built", *ENDED):
                await self.until(row.number, "built", *ENDED)

    async def published(self, number: int) -> WorkDetail:
        """Wait until landed work is published."""
        ended = self.gate._context.background.ended
        async with asyncio.timeout(PATIENCE):
            while not (detail := await self.show(number)).link:
                await ended.wait()
                ended.clear()
        return detail

    async def rows(self) -> list[WorkRow]:
        return await self.database.read(partial(index.of_repo, repo="web"))

    def work(self) -> Repository:
        return Repository.open(self.layout.work_repository("web"))

    async def messages(self, name: str) -> list[str]:
        """Return the hive's messages to an agent or the operator, the oldest first."""
        query = """SELECT body FROM messages JOIN deliveries ON message = id
            WHERE sender = 'system' AND deliveries.recipient = ? ORDER BY id"""
        found = await self.database.read(lambda db: db.execute(query, (name,)).fetchall())
        return [body for (body,) in found]

    async def check(self) -> None:
        """Check that tags, index, audit table and the branch agree. Nothing may be in progress."""
        assert await self.database.read(audit.first_broken_row) is None
        if not self.layout.work_repository("web").exists():
            assert await self.rows() == []
            return
        rows = index.rows_of_repository(self.work())
        assert await self.rows() == rows
        names = self.work().tags()
        listed = git(self.layout.mirror("web"), "rev-list", "--parents", "refs/heads/main").split("\n")
        parents = {commit: rest for commit, *rest in (line.split() for line in listed)}
        merged = [commit for rest in parents.values() for commit in rest[1:]]
        assert len(merged) == len(set(merged)), "work has landed twice"
        everything = parents.keys()
        for row in rows:
            assert row.state in ("built", *ENDED)
            assert sum(f"{state}/{row.number}" in names for state in ENDED) == (row.state in ENDED)
            assert (row.landed is not None) == (row.state == "deployed")
            if row.landed is not None:
                assert row.landed in everything and row.commit in everything
                assert row.landed == row.commit or row.commit in parents[row.landed][1:]
            else:
                assert row.commit not in everything, f"{row.name} is {row.state} and has landed"
        objects = (
            "SELECT count(*), count(DISTINCT json_extract(detail, '$.object')) FROM audit WHERE action LIKE 'work.%'"
        )
        count, distinct = await self.database.read(lambda db: db.execute(objects).fetchone())
        assert count == distinct, "a tag has two audit rows"
        assert not list((self.work().path / "refs/landing").glob("*"))
        git(self.layout.mirror("web"), "fsck", "--full", "--strict")


def prepare(layout: Layout) -> None:
    """Make the mirror, and the clones of all agents."""
    mirror = layout.mirror("web")
    mirror.mkdir(parents=True)
    git(mirror, "init", "--quiet", "--bare", "--initial-branch=main")
    for agent in ("ada", "bob", "hm1nd"):
        place = layout.agent(agent).code / "web"
        place.mkdir(parents=True)
        git(place, "init", "--quiet", "--initial-branch=mine")
        # Inside an agent this is the mirror; on the host there is nothing.
        (place / ".git/objects/info/alternates").write_text("/repos/web.git/objects\n")
    first = layout.agent("ada").code / "web"
    (first / "README").write_text("hello\n")
    (first / "app.py").write_text("def f():\n    return 1\n")
    git(first, "add", "--all")
    git(first, "commit", "--quiet", "--message", "Begin")
    git(first, "push", "--quiet", str(mirror), "HEAD:refs/heads/main")


@asynccontextmanager
async def opened(
    layout: Layout, record: FakeRecord | None = None, *, bwrap: str | None = None, **settings: object
) -> AsyncIterator[WorkHive]:
    """Open a hive whose gate of work has begun to recover."""
    database = await Database.open(layout.database)
    writing = asyncio.create_task(database.run())
    directory, events = Directory(), EventHub()
    for name in ("ada", "bob", "hm1nd"):
        directory.put(Member(name, "manager" if name == "hm1nd" else "agent", None))
    broker = Broker(database, directory, events, inbox_limit=1_000, lease_seconds=60)
    await broker.open()
    mirrors, outside = FakeMirrors(layout, {"web": record or FakeRecord()}), FakeOutside(layout)
    publisher = FakePublisher()
    outside.may_check.set()
    layout.work.mkdir(parents=True, exist_ok=True)
    configured = Settings(state_dir=layout.state_dir, run_dir=layout.run_dir, **settings)  # type: ignore[arg-type]
    gate = WorkGate(
        settings=configured,
        layout=layout,
        database=database,
        directory=directory,
        broker=broker,
        events=events,
        mirrors=mirrors,
        importer=WorkImporter(bwrap, layout.scratch, WorkLimits(configured.work_bytes, configured.work_files)),
        checker=outside.check,
        merger=outside.merge,
        publisher=publisher,
    )
    running = asyncio.create_task(gate.run())
    running.add_done_callback(log_failure)
    try:
        yield WorkHive(layout, database, broker, directory, gate, mirrors, outside, publisher)
    finally:
        await gate.close()
        running.cancel()
        await asyncio.wait([running])
        database.finish()
        await writing
        await database.close()
