"""One fetch: from upstream's list of refs, or from a stream of the command line, to the refs of the mirror.

    refs of upstream ─▶ transfer (network) ─▶ pack ─▶ check (no network) ─▶ mirror: objects ─▶ refs ─▶ branch

A kill between any two steps leaves a mirror that is right as it is, and that the next fetch brings up to date.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.protocol import RepositoryState
from hive_core.work.repositories.intake import MirrorImporter
from hive_core.work.repositories.mirror import (
    BranchRelation,
    contains,
    find_extensions,
    follow_upstream,
    relate,
    set_default_branch,
)
from hive_core.work.repositories.refs import (
    UPSTREAM,
    OfferedRefs,
    kinds_of,
    replace_upstream_refs,
    upstream_refs,
)
from hive_core.work.repositories.store import FetchFacts, RepositoryRecord
from hive_core.work.repositories.upstream.access import UpstreamAccess
from hive_core.work.repositories.upstream.output import Report
from hive_core.work.repositories.upstream.transfer import Upstreams
from hive_core.work.repository_proposals import PullRequest

_ATTEMPTS = 3


@dataclass(frozen=True)
class FetchResult:
    """The branch after a fetch, its commit before, and the number of refs of upstream that have changed."""

    branch: str
    state: RepositoryState
    before: str | None
    commit: str | None
    upstream: str | None
    refs_changed: int
    facts: FetchFacts
    merged: str = ""
    """The work whose merge by upstream has made the branch follow it, "" if none has."""


@dataclass(frozen=True)
class Stream:
    """What the command line sends: refs, and the bytes of a pack of all that the mirror may lack (none: no pack)."""

    offered: OfferedRefs
    feed: Callable[[int], Awaitable[None]] | None
    """Writes the pack to a descriptor."""


class MirrorFetcher:
    """Brings mirrors up to date. `most` is the largest pack in bytes."""

    def __init__(self, upstreams: Upstreams, importer: MirrorImporter, most: int) -> None:
        self._upstreams = upstreams
        self._importer = importer
        self._most = most

    async def fetch(
        self,
        record: RepositoryRecord,
        mirror: Path,
        access: UpstreamAccess,
        lock: AbstractAsyncContextManager[None],
        report: Report,
        keep: str | None = None,
    ) -> FetchResult:
        """Fetch from upstream. Raises HiveError: those of the transfer and of the import, `no_branch`."""
        for _ in range(_ATTEMPTS):
            offered = await self._upstreams.list_refs(access)
            branch = _branch(record, offered)
            now = await REPOSITORIES.run(upstream_refs, mirror)
            if dict(offered.refs) == now:
                return await _finish(record, mirror, offered, {}, branch, lock, keep)
            report(f"fetching {len(offered.refs)} branches and tags")
            kinds = await REPOSITORIES.run(kinds_of, mirror, offered.refs.values())
            wanted = sorted({value for value in offered.refs.values() if value not in kinds})
            if wanted:
                try:
                    await self._transfer(mirror, access, wanted, report)
                except HiveError as error:
                    if error.code != "upstream_moves":
                        raise
                    continue
                kinds = await REPOSITORIES.run(kinds_of, mirror, offered.refs.values())
            if all(value in kinds for value in offered.refs.values()):
                return await _finish(record, mirror, offered, kinds, branch, lock, keep)
        hint = "try again when less is pushed to it"
        raise HiveError("upstream_moves", "upstream changed during each of 3 attempts to fetch", hint=hint, status=502)

    async def _transfer(self, mirror: Path, access: UpstreamAccess, wanted: Sequence[str], report: Report) -> None:
        async with self._upstreams.fetched_pack(access, mirror, wanted, report) as pack:
            if pack is not None:
                report("checking what has come")
                await self._importer.import_pack(mirror, pack, self._most)

    async def receive(
        self,
        record: RepositoryRecord,
        mirror: Path,
        stream: Stream,
        lock: AbstractAsyncContextManager[None],
        report: Report,
        keep: str | None = None,
    ) -> FetchResult:
        """Take in what the command line sends. Raises HiveError: those of the import, `no_branch`, `bad_upstream`."""
        branch = _branch(record, stream.offered)
        if stream.feed is not None:
            report("checking what comes")
            await self._importer.import_stream(mirror, stream.feed, self._most)
        kinds = await REPOSITORIES.run(kinds_of, mirror, stream.offered.refs.values())
        missing = sum(value not in kinds for value in stream.offered.refs.values())
        if missing:
            why = f"the objects of {missing} branches and tags were not sent"
            raise HiveError("bad_upstream", why, hint="fetch again", status=400)
        return await _finish(record, mirror, stream.offered, kinds, branch, lock, keep)


def _branch(record: RepositoryRecord, offered: OfferedRefs) -> str:
    """Return the registered branch, or upstream's default one. Raises HiveError `no_branch`."""
    branch = record.branch or offered.default
    if not branch:
        hint = f"name one: hive-c0re repo set {record.name} --branch NAME"
        raise HiveError("no_branch", "upstream names no default branch", hint=hint, status=409)
    if UPSTREAM + branch not in offered.refs:
        names = sorted(name.removeprefix(UPSTREAM) for name in offered.refs if name.startswith(UPSTREAM))
        seen = f"it has {', '.join(names[:10])}" if names else "it is empty: push a first commit"
        why = f"upstream has no branch {branch}"
        raise HiveError("no_branch", why, hint=f"{seen}; hive-c0re repo set {record.name} --branch NAME", status=409)
    return branch


async def _finish(
    record: RepositoryRecord,
    mirror: Path,
    offered: OfferedRefs,
    kinds: Mapping[str, str],
    branch: str,
    lock: AbstractAsyncContextManager[None],
    keep: str | None,
) -> FetchResult:
    # A branch names a commit. What upstream calls one and is none would break every git that reads it.
    refs = {
        name: value
        for name, value in offered.refs.items()
        if not (name.startswith(UPSTREAM) and kinds.get(value, "commit") != "commit")
    }
    if UPSTREAM + branch not in refs:
        raise HiveError("bad_upstream", f"upstream's branch {branch} names no commit", status=502)
    async with lock:
        before = (await REPOSITORIES.run(relate, mirror, branch)).commit
        changed = await REPOSITORIES.run(replace_upstream_refs, mirror, refs)
        relation: BranchRelation = await REPOSITORIES.run(follow_upstream, mirror, branch, keep=keep)
        await REPOSITORIES.run(set_default_branch, mirror, branch)
    left_out = offered.left_out + len(offered.refs) - len(refs)
    commit = relation.commit or relation.upstream
    lfs, submodules = await REPOSITORIES.run(find_extensions, mirror, commit) if commit else (False, False)
    facts = FetchFacts(refs=len(refs), refs_left_out=left_out, lfs=lfs, submodules=submodules)
    if relation.state == "diverged":
        facts = replace(
            facts,
            problem=f"the branch {branch} has diverged: upstream's does not contain the commits here",
            advice="bring both together upstream and fetch again, or give up the commits here: "
            f"hive-c0re repo fetch {record.name} --take-upstream (they stay below refs/landed/)",
            code="diverged",
        )
    return FetchResult(branch, relation.state, before, relation.commit, relation.upstream, changed, facts)


async def follow_merged(
    mirror: Path, result: FetchResult, request: PullRequest, lock: AbstractAsyncContextManager[None], keep: str
) -> FetchResult:
    """Move a branch that has diverged to upstream's, if upstream has merged all that is on it, in whatever form.

    `request` is that of the commit that the branch is at, so it contains whatever has landed before. The branch that
    was fetched must have the commit of the merge. The commit before gets the ref `keep`.
    """
    if not request.merge:
        where = request.link or "which is not opened yet"
        advice = (
            f"the branch follows upstream's when the pull request of {request.work} is merged: {where}; "
            f"{result.facts.advice}"
        )
        return replace(result, facts=replace(result.facts, advice=advice))
    async with lock:
        now = await REPOSITORIES.run(relate, mirror, result.branch)
        if (now.commit, now.upstream) != (result.commit, result.upstream):
            return result
        if not await REPOSITORIES.run(contains, mirror, now.upstream, request.merge):
            return result
        relation = await REPOSITORIES.run(lambda: follow_upstream(mirror, result.branch, keep=keep))
    facts = replace(result.facts, problem="", advice="", code="")
    return replace(result, state=relation.state, commit=relation.commit, facts=facts, merged=request.work)
