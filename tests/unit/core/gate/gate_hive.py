"""A hive with the real gate, repositories, database, files, intake and builds, and with fake processes.

The `prompt.md` of an agent sets the behaviour of its harness: `SILENT` never reports in, `CRASHES` ends at once,
`STALE` reports in with another deployment's number; all others become healthy. `FETCHES URL` is a fetch that the build
needs (`tests.helpers.fake_fetches`). Builds wait while `may_build` is clear.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

from hive_core.agents.grants.limits import LimitPolicy
from hive_core.agents.health import HarnessReports
from hive_core.errors import HiveError
from hive_core.gate.gate import Gate
from hive_core.gate.intake.import_commit import CommitImporter, IntakeLimits
from hive_core.gate.policy import Principal
from hive_core.gate.records import index
from hive_core.gate.records.compared import was_compared
from hive_core.gate.records.index import ProposalRow
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.git.repository import Repository
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout, closure_path
from hive_core.protocol import (
    AgentConfig,
    AllowFetchesRequest,
    ApproveRequest,
    DenyRequest,
    InboxQuery,
    Proposal,
    ProposalDetail,
    ProposalQuery,
    ProposalState,
    ProposeRequest,
    RebuildRequest,
    SpawnRequest,
    WithdrawRequest,
)
from hive_core.runtimes.base import AgentSpec, BuildOrder, UnitState
from hive_core.runtimes.local import config_check
from hive_core.runtimes.local.builder import Builder, LocalClosures
from hive_core.runtimes.local.config_check import unconfined
from hive_core.settings import Approval, Settings
from tests.helpers.fake_fetches import check_fake_fetches, needed_fetches
from tests.unit.core.agents import builders

ADA = Principal("ada", "agent", "ada")
BOB = Principal("bob", "agent", "bob")
MANAGER = Principal("hm1nd", "manager", "hm1nd")
OPERATOR = Principal("operator", "operator", "operator:alice")
TERMINAL: tuple[ProposalState, ...] = ("deployed", "failed", "denied", "withdrawn")
WAITING: tuple[ProposalState, ...] = ("built", *TERMINAL)
"""The states that a proposal leaves only by a decision, or never."""
NOT_BUILDABLE: Mapping[str, str] = {"agent.nix": "#" * (config_check.LARGEST + 1)}
"""Files that pass the intake and fail the local runtime's build, whether Nix is installed or not."""
PATIENCE = 30.0
"""The longest wait in seconds; only a test that fails waits so long."""
_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"]}


@dataclass
class FakeHarnesses(builders.FakeProcesses):
    """A fake runtime with real builds; its harnesses behave as their prompts say."""

    builder: Builder | None = None
    closures: Path | None = None
    reports: HarnessReports | None = None
    may_build: asyncio.Event = field(default_factory=asyncio.Event)
    orders: asyncio.Queue[BuildOrder] = field(default_factory=asyncio.Queue)
    activated: list[tuple[str, int]] = field(default_factory=list)
    unable: HiveError | None = None
    """The error of all builds, while the host cannot build anything."""
    hyperhive: str = ""
    """The name of the hyperhive. If it changes, the same commit has another closure, and older ones are outdated."""

    @property
    def _builder(self) -> Builder:
        assert self.builder is not None
        return self.builder

    async def check_can_build(self) -> None:
        if self.unable is not None:
            raise self.unable

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        self.orders.put_nowait(order)
        await self.may_build.wait()
        closure = await self._builder.build(order, say)
        check_fake_fetches(await asyncio.to_thread((self.locate(closure) / "prompt.md").read_text), order)
        if not self.hyperhive:
            return closure
        newer = closure + self._suffix
        await asyncio.to_thread(shutil.copytree, self.locate(closure), self.locate(newer), dirs_exist_ok=True)
        return newer

    def locate(self, closure: str) -> Path:
        """The path of a closure."""
        assert self.closures is not None
        return closure_path(self.closures, closure)

    @property
    def _suffix(self) -> str:
        return self.hyperhive.encode().hex()

    def missing_programs(self, packages: Sequence[str]) -> list[str]:
        return []

    async def outdated(self, closure: str) -> bool:
        return bool(self.hyperhive) and not closure.endswith(self._suffix)

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Name the files that differ, as the NixOS runtime names packages; the local one names nothing."""
        await self._builder.compare(old, new)
        return await asyncio.to_thread(_changed_files, self.locate(old) if old else None, self.locate(new))

    async def has(self, closure: str) -> bool:
        return await self._builder.has(closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        running = {self.specs[name].closure} if name in self.running else set()
        await self._builder.keep(name, {*closures, *running})

    async def activate(self, spec: AgentSpec) -> None:
        await self._builder.need(spec.name, spec.closure)
        self.activated.append((spec.name, spec.deployment))
        await self.stop(spec.name)
        self.failed.pop(spec.name, None)
        await self.start(spec)

    async def start(self, spec: AgentSpec) -> None:
        if spec.name in self.running:
            return
        await super().start(spec)
        assert self.reports is not None
        role = await asyncio.to_thread((self.locate(spec.closure) / "prompt.md").read_text)
        if "CRASHES" in role:
            self.fail(UnitState(spec.name, "failed", exit_cause="exit code 7"))
        elif "SILENT" not in role:
            await self.reports.hello(spec.name, spec.deployment - 1 if "STALE" in role else spec.deployment)
            await self.reports.harness(spec.name, "idle", "")

    async def read_log(self, *_: object) -> tuple[list[str], str]:
        return ["its last words"], ""


@dataclass
class GateHive:
    """One run of a daemon, with the parts that concern the gate."""

    layout: Layout
    hive: builders.AgentHive
    gate: Gate
    runtime: FakeHarnesses
    events: EventHub
    settings: Settings

    @property
    def database(self) -> Database:
        return self.hive.database

    async def spawn(self, *names: str) -> None:
        """Spawn agents as the operator."""
        for name in names:
            await self.gate.agent_submissions.spawn(SpawnRequest(name=name), OPERATOR)

    def commit(self, agent: str, files: Mapping[str, str | bytes] | None = None, *, on: str | None = None) -> str:
        """Make a commit in the agent's own repository as the agent, on top of `on` or of its last commit."""
        place = self.layout.agent(agent).config
        if on is not None:
            git(place, "checkout", "--quiet", "-B", "work", on)
        for path, data in (files or {}).items():
            os.makedirs((place / path).parent, exist_ok=True)  # noqa: PTH103 - the agent's disk is never full
            (place / path).write_bytes(data.encode() if isinstance(data, str) else data)
        git(place, "add", "--all")
        git(place, "commit", "--quiet", "--allow-empty", "--message", "A change")
        return git(place, "rev-parse", "HEAD")

    async def propose(self, agent: str, role: str = "You help.", principal: Principal | None = None) -> Proposal:
        """Propose another role for the agent, as `principal` or as the agent itself."""
        sha = await asyncio.to_thread(self.commit, agent, {"prompt.md": f"{role}\n"}, on=self.main(agent))
        request = ProposeRequest(commit=sha, note=f"because: {role}", agent=agent)
        return await self.gate.config_submissions.propose(request, principal or Principal(agent, "agent", agent))

    async def built(self, agent: str, role: str = "You help.", principal: Principal | None = None) -> ProposalDetail:
        """Propose another role, and wait until the proposal is built."""
        proposal = await self.propose(agent, role, principal)
        return await self.until(agent, proposal.number, "built")

    async def approve(self, agent: str, number: int, principal: Principal = MANAGER, note: str = "fine") -> Proposal:
        return await self.gate.decisions.approve(agent, number, ApproveRequest(expect="built", note=note), principal)

    async def withdraw(self, agent: str, number: int, principal: Principal) -> Proposal:
        return await self.gate.decisions.withdraw(agent, number, WithdrawRequest(), principal)

    async def rebuild(self, agent: str, principal: Principal = OPERATOR) -> Proposal:
        return await self.gate.rebuild_submissions.rebuild(agent, RebuildRequest(note="newer"), principal)

    async def deny(self, agent: str, number: int, principal: Principal = MANAGER, note: str = "too risky") -> Proposal:
        return await self.gate.decisions.deny(agent, number, DenyRequest(expect="built", note=note), principal)

    async def deploy(self, agent: str, role: str = "You help.") -> ProposalDetail:
        """Propose another role, approve it, and wait until it is deployed."""
        proposal = await self.built(agent, role)
        await self.approve(agent, proposal.number)
        return await self.until(agent, proposal.number, "deployed")

    async def fail_for(self, agent: str, *fetches: str, principal: Principal | None = None) -> ProposalDetail:
        """Propose a role whose build needs these fetches, and wait until it has failed for want of them."""
        role = "\n".join(f"FETCHES {fetch}" for fetch in fetches)
        proposal = await self.propose(agent, role, principal)
        return await self.until(agent, proposal.number, "failed")

    async def allow_fetches(self, agent: str, number: int, principal: Principal = OPERATOR) -> Proposal:
        """Allow the fetches of a failed proposal."""
        request = AllowFetchesRequest(commit=(await self.show(agent, number)).commit)
        return await self.gate.fetch_permissions.allow(agent, number, request, principal)

    async def show(self, agent: str, number: int) -> ProposalDetail:
        return await self.gate.queries.show(agent, number, OPERATOR)

    async def until(self, agent: str, number: int, *states: ProposalState) -> ProposalDetail:
        """Wait until the proposal is in one of the states; it must not end in another one."""
        async with asyncio.timeout(PATIENCE):
            detail = await self.show(agent, number)
            while detail.state not in states:
                assert detail.state not in TERMINAL, (detail.state, detail.outcome)
                query = ProposalQuery(unlike=detail.state, wait_seconds=PATIENCE)
                await self.gate.queries.wait_for_change(agent, number, query, OPERATOR)
                detail = await self.show(agent, number)
            return detail

    async def settled(self) -> None:
        """Wait until no proposal is being built or deployed."""
        for row in await self.rows():
            if row.state not in WAITING:
                try:
                    await self.until(row.agent, row.number, *WAITING)
                except HiveError as error:
                    assert error.code == "unknown_proposal"  # It was a purge.

    async def rows(self, agent: str | None = None) -> list[ProposalRow]:
        """Return the rows of the index."""
        agents = [agent] if agent else sorted(await self.database.read(index.agents))
        return [row for name in agents for row in await self.database.read(partial(index.of_agent, agent=name))]

    def repository(self, agent: str) -> Repository:
        return Repository.open(self.layout.applied_repository(agent))

    def tags(self, agent: str) -> set[str]:
        return set(self.repository(agent).tags())

    def main(self, agent: str) -> str | None:
        return self.repository(agent).main()

    async def notified(self, name: str) -> list[str]:
        """Return the first lines of the hive's messages to an agent or the operator, the oldest first."""
        return [body.partition("\n")[0] for body in await self.messages(name)]

    async def messages(self, name: str) -> list[str]:
        """Return the hive's messages to an agent or the operator, the oldest first."""
        query = """SELECT body FROM messages JOIN deliveries ON message = id
            WHERE sender = 'system' AND deliveries.recipient = ? ORDER BY id"""
        found = await self.database.read(lambda db: db.execute(query, (name,)).fetchall())
        return [body for (body,) in found]

    async def inbox(self) -> list[str]:
        return [message.body for message in (await self.hive.broker.inbox(InboxQuery(limit=200))).messages]

    async def actions(self, agent: str) -> list[str]:
        """Return the successful actions about an agent in the audit table, the oldest first."""
        query = "SELECT action FROM audit WHERE subject = ? AND outcome = 'ok' ORDER BY id"
        return [action for (action,) in await self.database.read(lambda db: db.execute(query, (agent,)).fetchall())]

    async def check(self) -> None:
        """Check that tags, index, audit table, main and running agents agree. Nothing may be in progress."""
        assert await self.database.read(audit.first_broken_row) is None
        for agent in sorted(index.agents_with_repository(self.layout.applied)):
            await self._check_agent(agent)
        verification = await self.gate.verification.verify()
        assert verification.ok, verification.problems
        # Within one second a purged agent and its successor may have equal tags, so equal objects.
        query = """SELECT count(*), count(DISTINCT json_extract(detail, '$.object') || (
                SELECT count(*) FROM audit AS earlier
                WHERE earlier.id < audit.id AND earlier.action = 'destroy' AND earlier.subject = audit.subject))
            FROM audit WHERE action LIKE 'gate.%'"""
        rows, objects = await self.database.read(lambda db: db.execute(query).fetchone())
        assert rows == objects, "a tag has two audit rows"

    async def _check_agent(self, agent: str) -> None:
        repository = self.repository(agent)
        rows = index.rows_of_repository(repository)
        assert await self.rows(agent) == rows
        for row in rows:
            assert row.state in WAITING
            ends = [state for state in TERMINAL if f"{state}/{row.number}" in repository.tags()]
            assert len(ends) == (row.state in TERMINAL)
            await self._check_fetches(row)
            assert row.state != "built" or was_compared(repository, row)
        deployed = [row for row in rows if row.state == "deployed" and row.kind != "destroy"]
        for row in rows:
            if row.closure and await self.runtime.has(row.closure):
                built = await asyncio.to_thread(_files_on_disk, self.runtime.locate(row.closure))
                try:
                    committed = await asyncio.to_thread(_files_of_commit, repository.path, row.commit)
                except subprocess.CalledProcessError:
                    # It was pruned, and another proposal has the same closure.
                    assert row.state in ("failed", "denied", "withdrawn")
                    continue
                assert built == committed
        newest = max(deployed, key=lambda row: row.number, default=None)
        assert repository.main() == (None if newest is None else newest.commit)
        if not self.hive.agents.exists(agent):
            assert all(row.kind == "spawn" for row in rows if row.open)
            return
        assert newest is not None
        record = self.hive.agents.record(agent)
        assert (record.deployment, record.closure) == (newest.number, newest.closure)
        if record.desired == "running":
            spec = self.runtime.specs[agent]
            assert spec.deployment == newest.number
            assert self.layout.is_same_closure(spec.closure, newest.closure)
            assert await self.runtime.has(spec.closure)

    async def _check_fetches(self, row: ProposalRow) -> None:
        """Check that nothing was built without an operator's permission for every fetch, which is audited once."""
        allowed = frozenset() if row.allowed_fetches is None else row.allowed_fetches.derivations
        if row.closure is not None:
            prompt = (self.repository(row.agent).read(row.commit, "prompt.md", 10_000) or b"").decode()
            assert {fetch.derivation for fetch in needed_fetches(prompt)} <= allowed, row
        if row.allowed_fetches is None:
            return
        query = """SELECT actor, json_extract(detail, '$.derivations') FROM audit
            WHERE action = 'allow_fetches' AND subject = :agent AND json_extract(detail, '$.number') = :number
            AND id > ifnull((SELECT max(id) FROM audit WHERE action = 'destroy' AND subject = :agent
                AND json_extract(detail, '$.purge')), 0)"""
        values = {"agent": row.agent, "number": row.allowed_fetches.number}
        audited = await self.database.read(lambda db: db.execute(query, values).fetchall())
        assert [(actor, frozenset(json.loads(paths))) for actor, paths in audited] == [(OPERATOR.label, allowed)]


def _files_on_disk(directory: Path) -> dict[str, str]:
    """The mode and the blob's id of each file below a directory, by path."""
    found = {}
    for path in directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            mode = "100755" if path.stat().st_mode & 0o100 else "100644"
            sha = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            found[path.relative_to(directory).as_posix()] = f"{mode} blob {sha}"
    return found


def _files_of_commit(repository: Path, commit: str) -> dict[str, str]:
    """The same of a commit, as git lists it."""
    lines = git(repository, "ls-tree", "-r", "-z", "--full-tree", commit).rstrip("\0").split("\0")
    return {path: entry for entry, _, path in (line.partition("\t") for line in lines)}


def git(place: Path, *arguments: str) -> str:
    """Run git as the agent does. Returns its output."""
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@hive", "-c", "gc.auto=0")
    done = subprocess.run(["git", *identity, *arguments], cwd=place, env=_GIT, check=True, capture_output=True)
    return done.stdout.decode().strip()


def layout_in(directory: Path) -> Layout:
    return Layout(state_dir=directory / "hive", run_dir=directory / "run")


def quick(layout: Layout, approval: Approval | None = None, **changes: object) -> Settings:
    """Return settings with a very short `health_timeout`."""
    values = {"state_dir": layout.state_dir, "health_timeout": 0.05, "approval": approval or Approval(), **changes}
    return Settings.model_validate(values)


def config(**settings: object) -> AgentConfig:
    return AgentConfig.model_validate({"backend": "scripted", **settings})


@asynccontextmanager
async def opened(
    layout: Layout,
    settings: Settings | None = None,
    *,
    born: Callable[[GateHive], None] = lambda _: None,
    hyperhive: str = "",
) -> AsyncIterator[GateHive]:
    """Open a hive whose gate has begun to recover. `born` is called before that."""
    settings = settings or quick(layout)
    builder = Builder(LocalClosures(layout.closures, layout.scratch), unconfined)
    runtime = FakeHarnesses(builder=builder, closures=layout.closures)
    runtime.held.set()
    runtime.may_build.set()
    runtime.hyperhive = hyperhive
    layout.applied.mkdir(parents=True, exist_ok=True)
    # The runtime's tests have agent.nix parsed by Nix, which takes most of a second.
    with patch.object(config_check, "find_nix", lambda: None):
        async with _opened(layout, settings, runtime, born) as gate_hive:
            yield gate_hive


@asynccontextmanager
async def _opened(
    layout: Layout, settings: Settings, runtime: FakeHarnesses, born: Callable[[GateHive], None]
) -> AsyncIterator[GateHive]:
    async with builders.opened(layout, runtime, LimitPolicy(settings.limits, settings.ceilings)) as hive:
        runtime.reports = hive.reports
        events = EventHub()
        gate = Gate(
            settings=settings,
            layout=layout,
            database=hive.database,
            directory=hive.directory,
            broker=hive.broker,
            events=events,
            agents=hive.agents,
            deployments=hive.deployments,
            lifecycle=hive.lifecycle,
            runtime=runtime,
            importer=CommitImporter(
                None,
                layout.scratch,
                IntakeLimits(
                    settings.proposal_bytes,
                    settings.proposal_files,
                    ceilings=settings.ceilings,
                    check_settings=runtime.check_settings,
                ),
            ),
        )
        gate_hive = GateHive(layout, hive, gate, runtime, events, settings)
        born(gate_hive)
        await hive.lifecycle.start_wanted()
        running = asyncio.create_task(gate.run())
        try:
            yield gate_hive
        finally:
            await gate.close()
            running.cancel()
            await asyncio.wait([running])


def _changed_files(old: Path | None, new: Path) -> list[str]:
    before, after = ({path.name: path.read_bytes() for path in Path(at or os.devnull).glob("*")} for at in (old, new))
    return [f"{name} changed" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
