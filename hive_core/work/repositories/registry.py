"""The repositories that the operator has registered: their records, and what moves their mirrors.

Records are changed on `host.sock` only, never by an agent. Every change is in the audit table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import structlog

from hive_core.errors import HiveError, bad_request, conflict
from hive_core.infra.concurrency.places import Holder
from hive_core.infra.concurrency.tasks import KeyedLocks, finish_detached
from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.infra.database.database import Database, milliseconds
from hive_core.infra.git.names import check_ref, check_sha
from hive_core.layout import Layout
from hive_core.protocol import AddRepositoryRequest, SetRepositoryRequest
from hive_core.protocol.names import is_repository_name
from hive_core.text import shown
from hive_core.work.repositories import store
from hive_core.work.repositories.fetch import FetchResult, MirrorFetcher, Stream, follow_merged
from hive_core.work.repositories.mirror import contains, create_mirror, kept_ref, remove_mirror
from hive_core.work.repositories.push_rules import check_push
from hive_core.work.repositories.store import RecordTable, RepositoryRecord
from hive_core.work.repositories.upstream.access import UpstreamAccess
from hive_core.work.repositories.upstream.credentials import Credentials, credential_name, read_credential
from hive_core.work.repositories.upstream.places import TransferPlaces
from hive_core.work.repositories.upstream.program import UpstreamProgram, run_program
from hive_core.work.repositories.upstream.source import Source, parse_source
from hive_core.work.repositories.upstream.transfer import Upstreams
from hive_core.work.repository_proposals import RepositoryProposals

_log = structlog.get_logger(__name__)
SYSTEM_ACTOR = "system"


class Repositories:
    """All registered repositories by name.

    Whoever moves refs of a mirror holds `lock(name)`; `fetch` takes it itself, so its caller must not hold it.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        database: Database,
        credentials: Credentials,
        upstreams: Upstreams,
        fetcher: MirrorFetcher,
        review: str,
        users: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        """`review` is that of the settings; `users` returns the agents whose configuration names a repository."""
        self.users = users
        self.proposals: RepositoryProposals | None = None
        """The work for repositories, which ends when one is removed."""
        self._layout = layout
        self._credentials = credentials
        self._upstreams = upstreams
        self._fetcher = fetcher
        self._table = RecordTable(database, review)
        self._locks = KeyedLocks()
        self._changes = KeyedLocks()
        self._running: dict[str, asyncio.Task[FetchResult]] = {}
        self._places = TransferPlaces()
        self._activity: dict[str, str] = {}

    async def open(self) -> None:
        """Read the records, and restore a mirror that is missing (its next fetch fills it)."""
        await self._table.open()
        for record in self._table.all():
            try:
                await REPOSITORIES.run(create_mirror, self.mirror(record.name))
            except HiveError as error:
                _log.error("a mirror cannot be used", repository=record.name, code=error.code, error=error.message)

    async def close(self) -> None:
        """Cancel the fetches that are under way."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())

    # --- what is known --------------------------------------------------------------------------------------

    def records(self) -> list[RepositoryRecord]:
        """Return all repositories by name."""
        return self._table.all()

    def record(self, name: str) -> RepositoryRecord:
        """Return a repository. Raises HiveError `unknown_repository`."""
        return self._table.get(name)

    def mirror(self, name: str) -> Path:
        """Return the path of the mirror of a repository."""
        if not is_repository_name(name):
            raise ValueError(name)
        return self._layout.mirror(name)

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold the lock of a mirror's refs."""
        return self._locks.hold(("repository", name))

    def activity(self, name: str) -> str:
        """Return the progress of a fetch that is under way, empty if there is none."""
        return self._activity.get(name, "")

    # --- changes --------------------------------------------------------------------------------------------

    async def add(self, request: AddRepositoryRequest, actor: str) -> RepositoryRecord:
        """Register a repository, whose mirror is empty until the first fetch.

        Raises HiveError `repository_exists`, `bad_source`, `bad_credential`, `host_key_unknown`, `no_upstream`,
        `no_pull_requests`.
        """
        name = request.name
        source = parse_source(request.source) if request.source else None
        kind, secret = read_credential(source, request.token, request.ssh_key)
        if source is not None:
            UpstreamAccess(source, kind, secret, tuple(request.host_keys)).check()
        elif not request.path:
            raise HiveError("bad_source", "neither a URL nor a path is given", hint="give one of them")
        check_push(request.push, source, kind)
        async with self._changes.hold(("repository", name)):
            if self._table.find(name) is not None:
                hint = f"choose another name, or remove it first: hive-c0re repo remove {name}"
                raise conflict("repository_exists", f"there is a repository {name} already", hint)
            if secret is not None:
                await self._credentials.put(credential_name(name), secret)
            await REPOSITORIES.run(create_mirror, self.mirror(name))
            values = {
                "source": request.source,
                "path": request.path,
                "branch": request.branch or "",
                "push": request.push,
                "merges": request.merges,
                "review": request.review,
                "instructions": request.instructions,
                "checks": request.checks,
                "check_hosts": request.check_hosts,
                "credential": kind,
                "host_keys": request.host_keys,
            }
            detail = {**store.audited(values), "source": request.source, "path": request.path}
            await self._table.write(name, lambda db: store.insert(db, name, values), actor, "repository_add", detail)
            return self.record(name)

    async def set(self, name: str, request: SetRepositoryRequest, actor: str) -> RepositoryRecord:
        """Change a repository. Raises HiveError as `add` does, and `unknown_repository`."""
        async with self._changes.hold(("repository", name)):
            record = self.record(name)
            source = parse_source(record.source) if record.source else None
            given = request.model_dump(exclude_unset=True, exclude_none=True)
            values = {key: getattr(request, key) for key in given if key in _SETTABLE}
            kind, secret = read_credential(source, request.token, request.ssh_key)
            if request.forget_credential and secret is not None:
                raise bad_request("a credential is given and to be forgotten", "choose one of the two")
            if secret is not None:
                values["credential"] = kind
            elif request.forget_credential:
                values["credential"] = "none"
            if not values:
                return record
            if values.keys() & {"push", "credential"}:
                check_push(values.get("push", record.push), source, values.get("credential", record.credential))
            if secret is not None:
                await self._credentials.put(credential_name(name), secret)
            await self._table.write(
                name, lambda db: store.update(db, name, values), actor, "repository_set", store.audited(values)
            )
            if values.get("credential") == "none":
                await self._credentials.delete(credential_name(name))
        if self.proposals is not None:
            await self.proposals.repository_changed(name)
        return self.record(name)

    async def remove(self, name: str, actor: str, *, force: bool = False) -> None:
        """Forget a repository, and delete its mirror and its credential.

        Raises HiveError `unknown_repository`, and `repository_in_use` without `force` if agents use it, whose clones
        lose the objects that they borrow, or if work for it is open.
        """
        self.record(name)
        using = self.users(name)
        if using and not force:
            why = f"{', '.join(using)} would lose what their clones borrow from {name}"
            hint = f"take it out of `repos` in their agent.toml first, or hive-c0re repo remove {name} --force"
            raise conflict("repository_in_use", why, hint)
        opened = [] if self.proposals is None else await self.proposals.open_work(name)
        if opened and not force:
            why = f"{', '.join(opened)} would be withdrawn"
            raise conflict("repository_in_use", why, f"decide on it first, or hive-c0re repo remove {name} --force")
        await self._stop_fetch(name)
        async with self._changes.hold(("repository", name)), self.lock(name):
            detail = {"agents": list(using)}
            await self._table.write(name, lambda db: store.delete(db, name), actor, "repository_remove", detail)
            # One may have begun meanwhile, and would write into a repository that gets the name next.
            await self._stop_fetch(name)
            await self._credentials.delete(credential_name(name))
            if self.proposals is not None:
                await self.proposals.forget_repository(name)
            await REPOSITORIES.run(remove_mirror, self.mirror(name), self._layout.scratch)

    # --- traffic --------------------------------------------------------------------------------------------

    async def fetch(self, name: str, actor: str = SYSTEM_ACTOR, *, take_upstream: bool = False) -> FetchResult:
        """Fetch from upstream, or join the fetch that is under way.

        The branch follows by fast-forward; with `take_upstream` it moves to upstream's in every case, and its commit
        before stays below `refs/landed/`. A failure is also kept in the record. Raises HiveError `unknown_repository`,
        `no_upstream`, and those of the transfer.
        """
        record = self.record(name)
        if not record.source:
            why = f"{name} was read from {shown(record.path) or 'a path'}, and the daemon reads none"
            raise _no_upstream(why)
        running = self._running.get(name)
        if running is not None and take_upstream:
            await asyncio.wait([running])
            running = self._running.get(name)
        if running is None:
            running = self._start(name, self._fetch(name, actor, take_upstream=take_upstream))
        return await finish_detached(running)

    async def receive(self, name: str, stream: Stream, actor: str, *, take_upstream: bool = False) -> FetchResult:
        """Take in what the command line has read from a repository on this host, as `fetch` does.

        Raises HiveError `fetch_under_way`, `has_upstream`.
        """
        record = self.record(name)
        if record.source:
            hint = f"hive-c0re repo fetch {name}"
            raise conflict("has_upstream", f"{name} is fetched from {record.source}", hint)
        if name in self._running:
            raise conflict("fetch_under_way", f"{name} is being fetched", "try again when that has ended")
        task = self._start(name, self._receive(name, stream, actor, take_upstream=take_upstream))
        return await task

    def _start(self, name: str, work: Any) -> asyncio.Task[FetchResult]:
        task: asyncio.Task[FetchResult] = asyncio.create_task(work, name=f"fetch {name}")
        self._running[name] = task

        def ended(_: object) -> None:
            self._running.pop(name, None)
            self._activity.pop(name, None)

        task.add_done_callback(ended)
        return task

    async def _stop_fetch(self, name: str) -> None:
        if (task := self._running.get(name)) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _fetch(self, name: str, actor: str, *, take_upstream: bool) -> FetchResult:
        def say(text: str) -> None:
            self._activity[name] = text

        keep = kept_ref() if take_upstream else None
        try:
            async with self._places.hold(name, say) as place:
                say("asking upstream for its branches and tags")
                access = await self._access(self.record(name), place)
                fetching = self._fetcher.fetch(
                    self.record(name), self.mirror(name), access, self.lock(name), say, keep=keep
                )
                result = await fetching
        except HiveError as error:
            await self._note_failure(name, error)
            raise
        result = await self._follow_merged(name, result)
        return await self._note(name, result, actor, take_upstream=take_upstream)

    async def _follow_merged(self, name: str, result: FetchResult) -> FetchResult:
        """Let a branch follow upstream's that has taken its commits in another form, by merging a pull request."""
        if self.proposals is None or result.state != "diverged" or self.record(name).push != "pull-request":
            return result
        try:
            request = await self.proposals.pull_request_of(name, str(result.commit))
        except HiveError as error:
            _log.info("a pull request was not asked for", repository=name, code=error.code, error=error.message)
            return result
        if request is None:
            return result
        return await follow_merged(self.mirror(name), result, request, self.lock(name), kept_ref())

    async def _receive(self, name: str, stream: Stream, actor: str, *, take_upstream: bool) -> FetchResult:
        def say(text: str) -> None:
            self._activity[name] = text

        say("receiving")
        keep = kept_ref() if take_upstream else None
        result = await self._fetcher.receive(
            self.record(name), self.mirror(name), stream, self.lock(name), say, keep=keep
        )
        return await self._note(name, result, actor, take_upstream=take_upstream)

    async def _note(self, name: str, result: FetchResult, actor: str, *, take_upstream: bool) -> FetchResult:
        """Store what a fetch has found. A fetch that changed nothing has no row in the audit table."""
        values = {"fetched_at": milliseconds(), "facts": result.facts, "branch": result.branch}
        detail = {"before": result.before, "commit": result.commit, "state": result.state, "refs": result.refs_changed}
        if result.merged:
            detail["merged"] = result.merged
        told = result.refs_changed or result.before != result.commit or take_upstream
        action = "repository_fetch" if told else None
        await self._table.write(name, lambda db: store.update(db, name, values), actor, action, detail)
        return result

    async def _note_failure(self, name: str, error: HiveError) -> None:
        record = self._table.find(name)
        if record is None:
            return
        facts = replace(record.facts, problem=error.message, advice=error.hint, code=error.code)
        if facts == record.facts:
            return
        _log.warning("fetch failed", repository=name, code=error.code, error=error.message)
        await self._table.write(name, lambda db: store.update(db, name, {"facts": facts}), SYSTEM_ACTOR, None, {})

    async def push(
        self,
        name: str,
        commit: str,
        ref: str,
        *,
        repository: Path | None = None,
        expected: str | Literal["any"] | None = "any",
        actor: str = SYSTEM_ACTOR,
    ) -> None:
        """Push a commit to `ref` of upstream, never with force; do nothing if the ref has it already.

        `repository` has the commit, by default the mirror; it may borrow the mirror's objects. With `expected`, the ref
        must hold that commit (None: must not exist). Raises HiveError `upstream_moved`, `push_refused`, `no_upstream`
        and those of the transfer.
        """
        record = self.record(name)
        check_sha(commit)
        check_ref(ref)
        if not record.source:
            raise _no_upstream("nothing can be pushed to a path")
        async with self._places.hold(name) as place:
            access = await self._access(record, place)
            now = await self._upstreams.ref_value(access, ref)
            mirror = self.mirror(name)
            if now == commit or (expected == "any" and await REPOSITORIES.run(contains, mirror, now, commit)):
                return
            if expected != "any" and now != expected:
                why = f"{ref} upstream holds {now or 'nothing'}, expected was {expected or 'nothing'}"
                raise conflict("upstream_moved", why, "fetch, look at what came, and push again")
            await self._upstreams.push(access, mirror, repository or mirror, commit, ref, lambda _: None)
            detail = {"ref": ref, "commit": commit, "before": now}
            await self._table.write(name, lambda _: None, actor, "repository_push", detail)

    async def run_program(self, name: str, program: UpstreamProgram) -> bytes:
        """Run a program with network and the credential of a repository, confined as a transfer; returns its output.

        Raises HiveError `unknown_repository`, `bad_credential`, `upstream_slow`, `transfer_failed`.
        """
        async with self._places.hold(name) as place:
            access = await self._access(self.record(name), place)
            access.check()
            return await run_program(self._upstreams.confinement, access, program)

    async def host_keys(self, url: str) -> tuple[Source, list[str]]:
        """Return the keys that the SSH server of a URL shows now, as lines of known_hosts(5).

        Raises HiveError `bad_source`, `no_host_keys`, `upstream_unreachable`.
        """
        source = parse_source(url)
        if source.scheme != "ssh":
            hint = "https servers are known by their certificates"
            raise HiveError("no_host_keys", f"{shown(url)} is not reached over ssh", hint=hint)
        async with self._places.hold(f"the server {source.host}"):
            return source, await self._upstreams.scan_host_keys(UpstreamAccess(source))

    # --- helpers --------------------------------------------------------------------------------------------

    async def _access(self, record: RepositoryRecord, place: Holder) -> UpstreamAccess:
        secret = None if record.credential == "none" else await self._credentials.get(credential_name(record.name))
        return UpstreamAccess(parse_source(record.source), record.credential, secret, record.host_keys, place.add)


_SETTABLE = ("branch", "push", "merges", "review", "instructions", "checks", "check_hosts", "host_keys")


def _no_upstream(why: str, hint: str = "register it by its URL") -> HiveError:
    return conflict("no_upstream", why, hint)
