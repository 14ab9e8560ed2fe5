"""An applied repository: the record of one agent's proposals, which only the daemon writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hive_core.errors import HiveError
from hive_core.infra.git import cat_file, create, maintenance, objects, refs, trees
from hive_core.infra.git.command import SECONDS
from hive_core.infra.git.comparison import whole_diff
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.names import MAIN, TAGS, check_ref, check_sha, is_ref
from hive_core.infra.git.objects import Person, Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.trees import Entry, FileView

__all__ = ["Entry", "FileView", "RefChange", "Repository"]

_MAX_SINGLE_LOOKUPS = 20
"""Number of tags up to which each is looked up by name, instead of listing all tags."""


class Repository:
    """A bare repository. Every method blocks, so it is called in a thread. Several may be open on one path.

    Any method that runs git may raise HiveError `git_failed`, `git_slow` or `git_missing`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def init(cls, path: Path) -> Repository:
        """Open the repository, and create it if it does not exist. Raises `repository_damaged`, `disk_full`."""
        create.create_bare(path.absolute())
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Repository:
        """Open an existing repository. Raises HiveError `repository_missing` or `repository_damaged`."""
        create.check(path)
        return cls(path.absolute())

    def close(self) -> None:
        """Do nothing: no resources are held between calls. Callers close it so that they do not depend on that."""

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Refs

    def main(self) -> str | None:
        """Return the deployed commit; None before the first deployment."""
        return self.resolve(MAIN)

    def resolve(self, ref: str) -> str | None:
        """Return the object id that a ref holds, without a process; None if the ref does not exist."""
        return refs.resolve(self.path, check_ref(ref))

    def tags(self) -> dict[str, str]:
        """Return all tag names with the ids of their tag objects, without a process and without reading objects."""
        return refs.tags(self.path)

    def update(self, changes: Sequence[RefChange]) -> None:
        """Change all of the refs or none; see `refs.update_refs`. Raises HiveError `ref_moved` (409)."""
        refs.update_refs(self.path, changes)

    def revert(self, changes: Sequence[RefChange]) -> None:
        """Undo changes as far as they were made; see `refs.revert_refs`."""
        refs.revert_refs(self.path, changes)

    # Tags

    def write_tag(self, tag: Tag) -> str:
        """Store a tag object durably, without a process and without a ref, and return its id."""
        return objects.write_object(self.path / "objects", "tag", objects.tag_bytes(tag))

    def read_tags(self, names: Iterable[str] | None = None) -> list[Tag]:
        """Read the tags of `names` in that order, without those that do not exist; None: all tags, sorted by name."""
        return list(self.each_tag(names))

    def each_tag(self, names: Iterable[str] | None = None) -> Iterator[Tag]:
        """Yield the tags of `names` with one process, one in memory at a time. Exhaust or close the iterator.

        Tags that are not annotated or whose target is no commit are left out: the daemon creates none. Raises HiveError
        `repository_damaged` for a tag object of another name.
        """
        requested = None if names is None else list(names)
        ids = self.tags() if requested is None or len(requested) > _MAX_SINGLE_LOOKUPS else self._find_tags(requested)
        existing = [name for name in (sorted(ids) if requested is None else requested) if name in ids]
        if not existing:
            return
        with cat_file.read_batch(self.path, [ids[name] for name in existing]) as process:
            for name in existing:
                header = process.header()
                if header is None:
                    raise HiveError("repository_damaged", f"the object of tag {name} is missing", status=500)
                if header.kind != "tag":
                    for _ in process.content(header):
                        pass
                    continue
                tag = objects.parse_tag(name, header.sha, process.read(header, objects.MOST_TAG_BYTES))
                if tag is not None:
                    yield tag

    def _find_tags(self, names: Sequence[str]) -> dict[str, str]:
        found = {name: self.resolve(TAGS + name) for name in names if is_ref(TAGS + name)}
        return {name: sha for name, sha in found.items() if sha is not None}

    # Commits and what is in them

    def write_commit(
        self,
        files: Mapping[str, bytes],
        *,
        parents: Sequence[str],
        author: Person,
        when: int,
        message: str,
        executables: Collection[str] = (),
    ) -> str:
        """Store a commit of plain files (path to content) durably, and return its id. Raises `bad_tree`."""
        store = self.path / "objects"
        tree = trees.write_tree(store, files, executables)
        return objects.write_object(store, "commit", objects.commit_bytes(tree, parents, author, when, message))

    def author(self, commit: str) -> str:
        """Return the name of a commit's author."""
        return objects.author_of(self.path, commit)

    def tree(self, commit: str) -> str:
        """Return the id of a commit's tree. Raises HiveError `no_such_commit`."""
        return objects.tree_of(self.path, commit)

    def entries(self, commit: str, most: int) -> list[Entry]:
        """List the files of a commit; see `trees.entries`. Raises HiveError `too_many_files`, `bad_tree`."""
        return trees.entries(self.path, commit, most)

    def read(self, commit: str, path: str, limit: int) -> bytes | None:
        """Read a file of a commit; None if it does not exist. Raises HiveError `too_large` beyond `limit` bytes."""
        return cat_file.read_file(self.path, check_sha(commit), path, limit)

    def descends(self, commit: str, ancestor: str) -> bool:
        """Return True if `ancestor` is `commit` or one of its ancestors."""
        return objects.descends(self.path, commit, ancestor)

    def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor of two commits, None if they have none."""
        return objects.merge_base(self.path, one, other)

    def changed_paths(self, old: str | None, new: str) -> list[str]:
        """Return the paths of the files that differ; with `old` None, all files of `new`."""
        return trees.changed_paths(self.path, old, new)

    def diff(
        self, old: str | None, new: str, limit: int, *, binary: bool = False, view: FileView | None = None
    ) -> ShownDiff:
        """Return the diff, cut after `limit` bytes, with all changed files or that of `view`; see `trees.diff`."""
        return trees.diff(self.path, old, new, limit, binary=binary, view=view)

    def whole_diff(
        self, old: str | None, new: str, limit: int, seconds: float = SECONDS, path: str | None = None
    ) -> ShownDiff:
        """Return a diff as `diff` does, in whole blocks and in little time; see `whole_diff.whole_diff`."""
        return whole_diff.whole_diff(self.path, old, new, limit, seconds, path)

    # Copies and maintenance

    def clone_to(self, path: Path, commit: str | None = None) -> None:
        """Clone into `path` with `commit` as `main` (None: the current `main`); see `create.clone`."""
        create.clone(self.path, path.absolute(), commit)

    def extract(self, commit: str, into: Path) -> None:
        """Write a commit's files below the new directory `into`; see `trees.extract`."""
        trees.extract(self.path, commit, into)

    def repair(self) -> list[str]:
        """Remove leftovers of a kill at the daemon's start, and return their paths; see `maintenance.repair`."""
        return maintenance.repair(self.path)

    def packed_bytes(self) -> int:
        """Return the size of all imported proposals; see `maintenance.packed_bytes`."""
        return maintenance.packed_bytes(self.path)

    def reachable_commits(self, commits: Sequence[str], among: Iterable[str], but: Sequence[str] = ()) -> set[str]:
        """Return those of `among` that are in `commits` or their ancestors; see `maintenance.reachable_commits`."""
        return maintenance.reachable_commits(self.path, commits, among, but)

    def bytes_of(self, commits: Sequence[str], but: Sequence[str]) -> int:
        """Return the size on the disk of what `commits` reach and the commits `but` do not."""
        return maintenance.bytes_of(self.path, commits, but)

    def collect_garbage(self, keep: Sequence[str], elsewhere: Sequence[str] = ()) -> None:
        """Remove what neither a ref nor a commit of `keep` reaches; see `maintenance.collect_garbage`."""
        maintenance.collect_garbage(self.path, keep, elsewhere)

    def tidy(self) -> bool:
        """Pack refs and objects if there are many; return True if any were packed. See `maintenance.tidy`."""
        return maintenance.tidy(self.path)
