"""The status of repositories for callers."""

from __future__ import annotations

import base64
import binascii
import hashlib

from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.infra.database.database import to_datetime
from hive_core.infra.git.maintenance import packed_bytes
from hive_core.protocol import HostKey, RepositoryRef, RepositoryStatus
from hive_core.work.repositories.mirror import BranchRelation, relate
from hive_core.work.repositories.refs import HEADS, TAGS, UPSTREAM, upstream_refs
from hive_core.work.repositories.registry import Repositories
from hive_core.work.repositories.store import RepositoryRecord


def host_key_of(line: str) -> HostKey:
    """Return the key of a line of known_hosts(5), with the fingerprint that ssh shows."""
    parts = line.split()
    kind, text = (parts[1], parts[2]) if len(parts) > 2 else ("", "")
    try:
        digest = hashlib.sha256(base64.b64decode(text, validate=True)).digest()
    except (binascii.Error, ValueError):
        digest = b""
    return HostKey(type=kind, fingerprint=f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}", line=line)


class RepositoryViews:
    """Answers questions about repositories. How a branch relates to upstream's is computed once for two commits."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._relations: dict[str, BranchRelation] = {}

    async def status(self, record: RepositoryRecord) -> RepositoryStatus:
        """Return the status of a repository."""
        mirror = self._repositories.mirror(record.name)
        relation = await REPOSITORIES.run(relate, mirror, record.branch, self._relations.get(record.name))
        self._relations[record.name] = relation
        return RepositoryStatus(
            name=record.name,
            source=record.source,
            path=record.path,
            branch=record.branch,
            push=record.push,
            merges=record.merges,
            review=record.review,
            instructions=record.instructions,
            checks=list(record.checks),
            check_hosts=list(record.check_hosts),
            credential=record.credential,
            host_keys=[host_key_of(line) for line in record.host_keys],
            state=relation.state,
            commit=relation.commit,
            upstream=relation.upstream,
            problem=record.facts.problem,
            advice=record.facts.advice,
            created_at=to_datetime(record.created_at),
            fetched_at=None if record.fetched_at is None else to_datetime(record.fetched_at),
            activity=self._repositories.activity(record.name),
            refs=record.facts.refs,
            refs_left_out=record.facts.refs_left_out,
            bytes=await REPOSITORIES.run(packed_bytes, mirror),
            lfs=record.facts.lfs,
            submodules=record.facts.submodules,
            agents=list(self._repositories.users(record.name)),
        )

    async def refs(self, record: RepositoryRecord) -> list[RepositoryRef]:
        """Return upstream's refs in the mirror, by their names upstream."""
        found = await REPOSITORIES.run(upstream_refs, self._repositories.mirror(record.name))
        return [RepositoryRef(name=_upstream_name(name), id=value) for name, value in found.items()]


def _upstream_name(name: str) -> str:
    return name if name.startswith(TAGS) else HEADS + name.removeprefix(UPSTREAM)
