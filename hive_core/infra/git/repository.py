"""An applied repository: what was proposed for one agent, and what became of it. Only the daemon writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hive_core.errors import HiveError
from hive_core.infra.git import cat_file, create, maintenance, objects, refs, trees
from hive_core.infra.git.names import MAIN, TAGS, check_ref, check_sha, is_ref
from hive_core.infra.git.objects import Person, Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.trees import Entry

__all__ = ["Entry", "RefChange", "Repository"]

_FEW = 20
"""So many tags are looked up one by one, rather than reading the names of all."""


class Repository:
    """A bare repository. Every method blocks: call it from a thread. Several may be open on one path.

    Any method that runs git may raise HiveError `git_failed`, `git_slow` or `git_missing`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def init(cls, path: Path) -> Repository:
        """Open the repository, which is made if it is not there. Raises `repository_damaged`, `disk_full`."""
        create.create_bare(path.absolute())
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Repository:
        """Open what is there. Raises HiveError `repository_missing` or `repository_damaged`."""
        create.check(path)
        return cls(path.absolute())

    def close(self) -> None:
        """Nothing is held between calls; here so that callers need not rely on that."""

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Refs

    def main(self) -> str | None:
        """The commit that is deployed; None before the first deployment."""
        return self.resolve(MAIN)

    def resolve(self, ref: str) -> str | None:
        """What a full ref name holds (for a tag: the tag object's sha), without a process; None if it is not there."""
        return refs.resolve(self.path, check_ref(ref))

    def tags(self) -> dict[str, str]:
        """Every tag's name and its object's sha, without a process and without reading objects."""
        return refs.tags(self.path)

    def update(self, changes: Sequence[RefChange]) -> None:
        """Change refs, all or none; see `refs.update_refs`. Raises HiveError `ref_moved` (409)."""
        refs.update_refs(self.path, changes)

    # Tags

    def write_tag(self, tag: Tag) -> str:
        """Store a tag object, durably and without a process: its sha. No ref points at it yet."""
        return objects.write_object(self.path / "objects", "tag", objects.tag_bytes(tag))

    def read_tags(self, names: Iterable[str] | None = None) -> list[Tag]:
        """Tags with their texts, in the order asked for; None: all, by name. Names that do not exist are left out."""
        return list(self.each_tag(names))

    def each_tag(self, names: Iterable[str] | None = None) -> Iterator[Tag]:
        """The same, one after another: one process, and one text in memory. Use it to the end or close it.

        Raises HiveError `repository_damaged` for a tag that is not what its name says. Tags that are not annotated, or
        not of a commit, are left out: the hive makes none.
        """
        asked = None if names is None else list(names)
        held = self.tags() if asked is None or len(asked) > _FEW else self._find_tags(asked)
        wanted = [name for name in (sorted(held) if asked is None else asked) if name in held]
        if not wanted:
            return
        with cat_file.read_batch(self.path, [held[name] for name in wanted]) as found:
            for name in wanted:
                header = found.header()
                if header is None:
                    raise HiveError("repository_damaged", f"the object of tag {name} is missing", status=500)
                if header.kind != "tag":
                    for _ in found.content(header):
                        pass
                    continue
                tag = objects.parse_tag(name, header.sha, found.read(header, objects.MOST_TAG_BYTES))
                if tag is not None:
                    yield tag

    def _find_tags(self, names: Sequence[str]) -> dict[str, str]:
        found = {name: self.resolve(TAGS + name) for name in names if is_ref(TAGS + name)}
        return {name: sha for name, sha in found.items() if sha is not None}

    # Commits and what is in them

    def write_commit(
        self, files: Mapping[str, bytes], *, parents: Sequence[str], author: Person, when: int, message: str
    ) -> str:
        """Store a commit of plain files (path to content), durably, without a process: its sha. Raises `bad_tree`."""
        store = self.path / "objects"
        tree = trees.write_tree(store, files)
        return objects.write_object(store, "commit", objects.commit_bytes(tree, parents, author, when, message))

    def tree(self, commit: str) -> str:
        """The sha of a commit's tree. Raises HiveError `no_such_commit`."""
        return objects.tree_of(self.path, commit)

    def entries(self, commit: str, most: int) -> list[Entry]:
        """Every file of a commit; see `trees.entries`. Raises HiveError `too_many_files`, `bad_tree`."""
        return trees.entries(self.path, commit, most)

    def read(self, commit: str, path: str, limit: int) -> bytes | None:
        """A file of a commit; None if it has none of that path. Raises HiveError `too_large` beyond `limit` bytes."""
        return cat_file.read_file(self.path, check_sha(commit), path, limit)

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is `commit` itself or one of those before it."""
        return objects.descends(self.path, commit, ancestor)

    def changed_paths(self, old: str | None, new: str) -> list[str]:
        """The paths of files that differ; `old` of None: all of `new`."""
        return trees.changed_paths(self.path, old, new)

    def diff(self, old: str | None, new: str, limit: int) -> tuple[str, int]:
        """The diff's text, cut after `limit` bytes, and the bytes of the whole; see `trees.diff`."""
        return trees.diff(self.path, old, new, limit)

    # Copies, and upkeep

    def clone_to(self, path: Path, commit: str | None = None) -> None:
        """Make `path` a repository of its own whose `main` is `commit` (None: `main` here); see `create.clone`."""
        create.clone(self.path, path.absolute(), commit)

    def extract(self, commit: str, into: Path) -> None:
        """Write a commit's files below the new directory `into`; see `trees.extract`."""
        trees.extract(self.path, commit, into)

    def repair(self) -> list[str]:
        """Remove what a kill left behind, and say what; see `maintenance.repair`.

        For the daemon's start, first of all.
        """
        return maintenance.repair(self.path)

    def tidy(self) -> bool:
        """Pack what is due; see `maintenance.tidy`. Whether anything was."""
        return maintenance.tidy(self.path)
