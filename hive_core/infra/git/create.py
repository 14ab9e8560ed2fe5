"""Creation of applied repositories and of agents' clones, each complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.infra.git.command import checked
from hive_core.infra.git.names import MAIN, check_sha
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import sync, sync_all

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
[attr]
\ttree = 4b825dc642cb6eb9a060e54bf8d69288fbee4904
[transfer]
\tfsckObjects = true
[uploadpack]
\tallowAnySHA1InWant = true
[gc]
\tauto = 0
\tautoDetach = false
\tpruneExpire = 2.weeks.ago
"""
"""Configuration of an applied repository.

There are no reflogs, because the tags are the history. `attr.tree` is the empty tree: otherwise git may read attributes
from HEAD, and an agent could use them to hide changes from reviewers.
"""

_PARTS = ("HEAD", "config", "objects", "refs")


def check(path: Path) -> None:
    """Raise HiveError `repository_missing` or `repository_damaged` unless `path` is a repository."""
    if not path.is_dir():
        hint = "an agent that was never deployed has none; else restore it from a backup"
        raise HiveError("repository_missing", f"there is no repository {path.name}", hint=hint, status=404)
    missing = [part for part in _PARTS if not (path / part).exists()]
    if missing:
        why = f"{path.name} is not a git repository: {', '.join(missing)} is missing"
        raise HiveError("repository_damaged", why, hint="restore it from a backup", status=500)


def create_bare(path: Path) -> None:
    """Create the repository if it does not exist, and restore its configuration.

    After a kill at any moment it is complete or absent. Concurrent calls for one path are not allowed. Raises HiveError
    `repository_damaged`, `disk_full`.
    """
    with disk_full_as_error(f"make {path.name}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and any(path.iterdir()):
            check(path)
            _set_config(path)
            return
        with complete_directory(path) as new:
            checked(new, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            (new / "config").write_text(CONFIG)


def clone(repository: Path, path: Path, commit: str | None) -> None:
    """Clone `repository` into the new or empty directory `path`, and check out its `main` at `commit`.

    The clone does not refer to its source: it has no remote, alternates, shared files or hooks, and only the objects
    that the commit reaches. `commit` None means the current `main`. After a kill at any moment the clone is complete or
    absent. Concurrent calls for one path are not allowed. Raises HiveError `clone_in_the_way` (409) if `path` exists
    and is not empty, `git_failed` if the commit does not exist, `disk_full`.
    """
    source = MAIN if commit is None else check_sha(commit)
    if path.is_symlink() or (path.exists() and not path.is_dir()) or (path.is_dir() and any(path.iterdir())):
        raise conflict("clone_in_the_way", f"{path.name} is there already and not empty", "move it away")
    with disk_full_as_error("copy a repository"), complete_directory(path) as new:
        git_dir = new / ".git"
        checked(git_dir, f"--work-tree={new}", "init", "--quiet", "--template=", "--initial-branch=main")
        only_files = ("-c", "protocol.allow=never", "-c", "protocol.file.allow=always")
        wanted = ("--quiet", "--no-tags", "--no-write-fetch-head", "--update-head-ok", "--no-auto-gc")
        checked(git_dir, *only_files, "fetch", *wanted, "--", str(repository.absolute()), f"{source}:{MAIN}")
        checked(git_dir, f"--work-tree={new}", "reset", "--hard", "--quiet", MAIN, "--")


def _set_config(path: Path) -> None:
    config = path / "config"
    if config.read_text(errors="replace") == CONFIG:
        return
    new = path / "config.new"
    new.write_text(CONFIG)
    sync(new)
    new.replace(config)
    sync(path)


@contextmanager
def complete_directory(path: Path) -> Iterator[Path]:
    """Create a directory that is renamed to `path` when the block succeeds, and deleted otherwise."""
    new = path.with_name(f".{path.name}.new")
    # A killed daemon may have left it.
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    try:
        yield new
        sync_all(new)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync(path.parent)
