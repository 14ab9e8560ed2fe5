"""The import of submitted commits: their objects, and what these may be.

The files of work may be of any kind: links, submodules, attributes, bytes that are no text. git itself refuses names
that are unsafe to write to a disk (`git fsck`). The limits count what is new against the branch, in all versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.gate.intake import source_check
from hive_core.gate.intake.object_import import Import, ObjectImporter, ObjectSource, Trusted, check_commit_id
from hive_core.gate.intake.tree_check import read_head
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.git.cat_file import ObjectReader
from hive_core.infra.git.quarantine import Quarantine
from hive_core.text import format_bytes
from hive_core.work.gate.intake.differing_paths import count_few_paths
from hive_core.work.gate.intake.pack_index import read_ids

_OBJECTS_PER_FILE = 20
"""A change of a file makes a file, a commit, and a tree for each directory above it."""
_PATHS_PER_FILE = 5
"""Files that are moved, copied or removed have a path and no new content, so more of them are taken."""
_LENDERS = re.compile(r"/repos/[a-z0-9-]{1,32}\.git/objects/?")
"""The paths of mirrors inside agents: clones borrow from these. On the host there is nothing."""


@dataclass(frozen=True)
class WorkLimits:
    """Limits of an import; as `IntakeLimits`, but for what work adds to its branch.

    `bytes` limits the pack, each new file, and the sum of all new files; `files` their number.
    """

    bytes: int
    files: int
    seconds: float = 60.0
    memory: int = 1024 * 1024 * 1024


@dataclass(frozen=True)
class SubmittedCommit:
    """A commit in the clone of an agent: `code` is the directory of all clones, and `repo` the name of this one."""

    code: Path
    repo: str
    commit: str


@dataclass(frozen=True)
class ImportedWork:
    """The commit of the branch that imported work begins at, and the bytes that its objects take on the disk."""

    base: str
    size: int


class WorkImporter:
    """Imports submitted commits into work repositories; see `ObjectImporter`."""

    def __init__(self, bwrap: str | None, scratch: Path, most: WorkLimits) -> None:
        self._most = most
        self._importer = ObjectImporter(bwrap, scratch, most)

    async def import_commit(self, submitted: SubmittedCommit, mirror: Path, into: Path, tip: str) -> ImportedWork:
        """Store the objects of a commit durably in the repository `into`, without a ref.

        Only objects of the agent's clone and of the mirror are read, so that nobody gets at those of other proposals.
        `tip` is the newest commit of the branch. Raises HiveError as `ObjectImporter.importing`, and `no_repository`,
        `bad_repository`, `not_descended`, `nothing_changed`, `too_many_files`.
        """
        check_commit_id(submitted.commit)
        start = f"git clone it: git clone --shared /repos/{submitted.repo}.git /code/{submitted.repo}"
        check = partial(source_check.check, submitted.code, submitted.repo, start=start, lenders=_LENDERS)
        await GATE.run(check)
        # The directory of all clones is mounted, because the agent can replace each of them with a link.
        source = ObjectSource(submitted.code, Path(submitted.repo) / source_check.OBJECTS)
        async with self._importer.importing(source, Trusted(mirror, into)) as taking, taking.reader() as objects:
            await taking.transfer(submitted.commit, [tip])
            head = await read_head(objects, submitted.commit)
            # Most work is one commit on top of the branch, for which git need not be started.
            base = tip if tip in head.parents else await self._find_base(taking, submitted, tip)
            await self._check_sizes(taking, objects)
            await self._check_paths(taking, objects, base, submitted.commit)
            size = await GATE.run(_size, taking.quarantine)
            await taking.accept()
            return ImportedWork(base, size)

    async def _find_base(self, taking: Import, submitted: SubmittedCommit, tip: str) -> str:
        base = await taking.merge_base(tip, submitted.commit)
        if base is None:
            why = f"{submitted.commit} has no commit in common with the branch, which is at {tip}"
            hint = "make the change on a branch that was begun at origin's: git switch -c NAME origin/HEAD"
            raise conflict("not_descended", why, hint)
        if base == submitted.commit:
            raise conflict("nothing_changed", f"the branch has {submitted.commit} already", "commit a change first")
        return base

    async def _check_paths(self, taking: Import, objects: ObjectReader, base: str, commit: str) -> None:
        """Check that readers can be shown every path: a few trees that name one another can make any number of them."""
        most = _PATHS_PER_FILE * self._most.files
        trees = [(await read_head(objects, each)).tree for each in (base, commit)]
        found = await count_few_paths(objects, *trees)
        if found is None:
            found = await taking.count_differing_paths(base, commit, most)
        if found > most:
            why = f"the work differs from the branch in more than {most:,} paths"
            raise HiveError("too_many_files", why, hint="submit a part first, such as some of the moved directories")

    async def _check_sizes(self, taking: Import, objects: ObjectReader) -> None:
        most = self._most
        ids = await GATE.run(
            read_ids, taking.quarantine.pack_indexes, _OBJECTS_PER_FILE * most.files + _OBJECTS_PER_FILE
        )
        sizes = [header.size for header in await objects.headers(ids) if header is not None and header.kind == "blob"]
        if len(sizes) > most.files:
            why = f"the work adds {len(sizes):,} versions of files to the branch, at most {most.files:,} are taken"
            raise HiveError("too_many_files", why, hint="keep generated files out, or submit a part first")
        if sum(sizes) > most.bytes:
            why = (
                f"the work adds {format_bytes(sum(sizes))} to the branch, at most {format_bytes(most.bytes)} are taken"
            )
            hint = "keep large files out, and out of the commits before (git rebase)"
            raise HiveError("too_large", why, hint=hint)


def _size(quarantine: Quarantine) -> int:
    packs = (index.with_suffix(".pack") for index in quarantine.pack_indexes)
    return sum(pack.stat().st_size for pack in packs) + sum(index.stat().st_size for index in quarantine.pack_indexes)
