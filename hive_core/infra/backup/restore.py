"""Restoring of a backup into a new state directory, which may have another path than the hive had before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hive_core.errors import HiveError, conflict
from hive_core.infra.backup import archive as archives
from hive_core.infra.backup.archive import DATABASE, DIRECTORIES, Manifest
from hive_core.infra.backup.tree_reader import TreeReader
from hive_core.infra.database.migrations import check_number
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.file_lock import check_state_unlocked, lock_state
from hive_core.infra.storage.files import open_directory
from hive_core.layout import Layout

_UNFINISHED = ".restoring"


@dataclass(frozen=True)
class Restored:
    """A finished restore: the manifest, the number of files, and of those that got another owner than they had."""

    manifest: Manifest
    members: int
    other_owners: int


def restore_backup(layout: Layout, file: Path, report: Callable[[str], None]) -> Restored:
    """Write the content of a backup to the state directory, which must be empty or missing.

    The whole archive is checked before anything is written. The database appears last, so a restore that was
    interrupted is no hive. `report` gets the progress.

    Raises:
        HiveError: `no_backup`, `backup_damaged`, `backup_too_new`, `schema_too_new`, `state_in_use`,
            `state_dir_not_empty`, `no_directory`, `disk_full`.
    """
    directory = layout.state_dir
    try:
        opened = file.open("rb")
    except OSError as error:
        raise HiveError("no_backup", f"cannot read {file}: {error.strerror}", hint="name another file") from None
    with opened as source:
        _check_empty(layout)
        report(f"checking {file}")
        with archives.opened_for_reading(source, file) as archive:
            manifest = archives.read_manifest(archive, file)
            check_number(manifest.schema_number)
            archives.check(archive, file)
        with _refusals(directory), disk_full_as_error(f"write to {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = lock_state(layout)
            try:
                return _write(layout, source, file, manifest, report)
            except BaseException:
                shutil.rmtree(directory / _UNFINISHED, ignore_errors=True)
                layout.lock.unlink(missing_ok=True)
                raise
            finally:
                lock.release()


def _check_empty(layout: Layout) -> None:
    directory = layout.state_dir
    check_state_unlocked(layout)
    if directory.is_dir():
        try:
            found = sorted(path.name for path in directory.iterdir())
        except PermissionError:
            why = f"no permission to use {directory}"
            raise HiveError("no_permission", why, hint="run the command as root, or as the daemon's user") from None
        if found:
            what = f"{directory} is not empty: it has {', '.join(found[:3])}" + (", ..." if len(found) > 3 else "")
            raise conflict("state_dir_not_empty", what, "move it aside, or name another directory with --state-dir")


def _write(
    layout: Layout, source: IO[bytes], file: Path, manifest: Manifest, report: Callable[[str], None]
) -> Restored:
    unfinished = layout.state_dir / _UNFINISHED
    unfinished.mkdir(mode=0o700)
    count, shown = 0, ""
    with (
        archives.opened_for_reading(source, file) as archive,
        open_directory(unfinished) as top,
        TreeReader(top) as reader,
    ):
        for part in DIRECTORIES:
            os.mkdir(part, 0o700, dir_fd=top)
        archives.read_manifest(archive, file)
        for member in archives.members(archive, file):
            part = "/".join(member.name.split("/")[:2])
            if part != shown:
                shown = part
                report(part)
            reader.write(archive, member)
            count += 1
        reader.finish()
        os.sync()
        for part in (*DIRECTORIES, DATABASE):
            (unfinished / part).rename(layout.state_dir / part)
    unfinished.rmdir()
    return Restored(manifest, count, reader.other_owners)


@contextmanager
def _refusals(directory: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        why = f"cannot restore to {directory}: {error.strerror}"
        raise HiveError("no_directory", why, hint="run the command as root, or choose another --state-dir") from None
