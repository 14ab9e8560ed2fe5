"""A mirror: its creation, its branch, and what its files tell."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git import cat_file, objects, refs
from hive_core.infra.git.command import checked
from hive_core.infra.git.create import check, complete_directory
from hive_core.infra.git.names import check_ref
from hive_core.infra.git.refs import RefChange
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import sync
from hive_core.protocol import RepositoryState
from hive_core.work.repositories.refs import HEADS, UPSTREAM, kinds_of

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
\thooksPath = /dev/null
\tfsmonitor = false
\tfsync = all
\tfilesRefLockTimeout = 1000
\tpackedRefsTimeout = 5000
\tsharedRepository = 0644
[attr]
\ttree = 4b825dc642cb6eb9a060e54bf8d69288fbee4904
[transfer]
\tfsckObjects = true
[receive]
\tdenyUpdates = true
[gc]
\tauto = 0
\tautoDetach = false
\tpruneExpire = never
[maintenance]
\tauto = false
"""
"""Configuration of a mirror. Agents' git reads it too: in containers with user namespaces they are none of its users,
so everybody can read its files, whatever the daemon's umask is.
"""
_DIRECTORY = 0o755
_FILE = 0o644
_TEXT_BYTES = 256 * 1024


@dataclass(frozen=True)
class BranchRelation:
    """The registered branch of a mirror and upstream's, as of the last fetch."""

    state: RepositoryState
    commit: str | None
    upstream: str | None


def create_mirror(path: Path) -> None:
    """Create a mirror if it does not exist. After a kill at any moment it is complete or absent.

    Raises HiveError `repository_damaged`, `disk_full`.
    """
    with disk_full_as_error(f"make {path.name}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            check(path)
            return
        with complete_directory(path) as new:
            checked(new, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            (new / "config").write_text(CONFIG)
            (new / "objects/pack").mkdir(exist_ok=True)
            open_to_readers(new)


def open_to_readers(top: Path) -> None:
    """Let everybody read the files of a new directory, and nobody but the daemon write them."""
    top.chmod(_DIRECTORY)
    for directory, directories, files in os.walk(top):
        for name in directories:
            Path(directory, name).chmod(_DIRECTORY)
        for name in files:
            Path(directory, name).chmod(_FILE)


def set_default_branch(mirror: Path, branch: str) -> None:
    """Make `branch` the one that a clone of the mirror checks out."""
    text = f"ref: {check_ref(HEADS + branch)}\n"
    head = mirror / "HEAD"
    if head.read_text() == text:
        return
    new = mirror / "HEAD.new"
    new.write_text(text)
    new.chmod(_FILE)
    sync(new)
    new.replace(head)
    sync(mirror)


def relate(mirror: Path, branch: str, known: BranchRelation | None = None) -> BranchRelation:
    """Compare the branch with upstream's; `known` is an earlier result, which still holds for the same commits."""
    commit = refs.resolve(mirror, check_ref(HEADS + branch)) if branch else None
    upstream = refs.resolve(mirror, UPSTREAM + branch) if branch else None
    if commit is None:
        return BranchRelation("new", None, upstream)
    if upstream is None or commit == upstream:
        # Without a branch upstream there is nothing that the landed commits could contradict.
        return BranchRelation("current" if upstream else "ahead", commit, upstream)
    if known is not None and (known.commit, known.upstream) == (commit, upstream):
        return known
    if objects.descends(mirror, commit, upstream):
        return BranchRelation("ahead", commit, upstream)
    return BranchRelation("behind" if objects.descends(mirror, upstream, commit) else "diverged", commit, upstream)


def contains(mirror: Path, commit: str | None, ancestor: str) -> bool:
    """Return True if the mirror has both commits, and `ancestor` is in the history of `commit`."""
    if commit is None or len(kinds_of(mirror, {commit, ancestor})) < len({commit, ancestor}):
        return False
    return objects.descends(mirror, commit, ancestor)


def follow_upstream(mirror: Path, branch: str, *, keep: str | None = None) -> BranchRelation:
    """Move the branch to upstream's if that is a fast-forward, and return how the two are then.

    With `keep`, the full name of a new ref, the branch moves in every case, and its commit before gets that ref. The
    caller must hold the repository's lock. Raises HiveError `ref_moved`, `disk_full`.
    """
    found = relate(mirror, branch)
    if found.upstream is None or found.state in ("current", "ahead"):
        return found
    head = HEADS + branch
    if found.commit is None:
        refs.update_refs(mirror, [RefChange(head, found.upstream)])
    elif found.state == "behind":
        refs.update_refs(mirror, [RefChange(head, found.upstream, found.commit)])
    elif keep is not None:
        changes = [RefChange(keep, found.commit), RefChange(head, found.upstream, found.commit)]
        refs.update_refs(mirror, changes)
    else:
        return found
    return BranchRelation("current", found.upstream, found.upstream)


def find_extensions(mirror: Path, commit: str) -> tuple[bool, bool]:
    """Return whether the files of a commit use LFS and submodules, as far as its top directory tells."""
    try:
        attributes = cat_file.read_file(mirror, commit, ".gitattributes", _TEXT_BYTES)
    except HiveError:  # Larger than any that people write.
        attributes = None
    try:
        submodules = cat_file.read_file(mirror, commit, ".gitmodules", _TEXT_BYTES) is not None
    except HiveError:
        submodules = True
    return attributes is not None and b"filter=lfs" in attributes, submodules


def kept_ref() -> str:
    """Return the name of a new ref for a commit that a branch gives up."""
    return f"refs/landed/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 1_000_000:06}"


def remove_mirror(mirror: Path, scratch: Path) -> None:
    """Delete a mirror: it is gone at once. What a kill leaves of it is in `scratch`, which is emptied at a start."""
    trash = scratch / f"mirror-{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):
        mirror.rename(trash)
        sync(mirror.parent)
        shutil.rmtree(trash, ignore_errors=True)
