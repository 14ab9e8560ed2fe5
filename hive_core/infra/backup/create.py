"""Creation of a backup, also of a hive whose daemon runs.

The database is copied first, then the repositories: the daemon writes tags before the database, so a backup
looks like a hive whose daemon was killed, and the recovery at the next start brings the index up to date. Agents that
are created after that are not read, and the backup begins anew if one was destroyed meanwhile.
"""

from __future__ import annotations

import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from hive_core import __version__
from hive_core.errors import HiveError, conflict
from hive_core.infra.backup import archive as archives
from hive_core.infra.backup.archive import DATABASE, DIRECTORIES, END, MANIFEST, Manifest
from hive_core.infra.backup.sources import DatabaseFile, DatabaseSource
from hive_core.infra.backup.tree_writer import TreeWriter
from hive_core.infra.database.snapshot import DatabaseFacts
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.file_lock import exclusive_repository_lock
from hive_core.infra.storage.files import open_directory
from hive_core.layout import Layout

_ATTEMPTS = 3
_REPOSITORIES = ("applied", "repos", "work")
"""Parts whose directories are git repositories, which are read while nobody changes their refs."""
_WITHOUT_AGENTS = ("credentials", "repos", "work")
"""Parts whose entries do not have the names of agents."""


@dataclass
class Created:
    """A finished backup: its manifest and size, and the files that are not in it, with reasons."""

    manifest: Manifest
    bytes: int = 0
    members: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def create_backup(
    layout: Layout, file: Path, report: Callable[[str], None], database: DatabaseSource | None = None
) -> Created:
    """Write a backup of the state directory to `file`, which appears when it is complete. `report` gets the progress.

    `database` is asked for the database; without it, the file is opened.

    Raises:
        HiveError: `file_exists`, `file_within_hive`, `no_directory`, `no_permission`, `disk_full`, `hive_changes`, and
            as `copy_database`.
    """
    file = file.absolute()
    database = database or DatabaseFile(layout.database)
    _check_target(layout, file)
    with _refusals(file), disk_full_as_error(f"write {file}"), open_directory(file.parent) as directory:
        temporary = f".{file.name}.{secrets.token_hex(4)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "w+b") as output:
                created = _write(layout, database, file, output, report)
                output.flush()
                os.fsync(output.fileno())
                created.bytes = output.tell()
            os.rename(temporary, file.name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        os.fsync(directory)
    return created


def _check_target(layout: Layout, file: Path) -> None:
    if os.path.lexists(file):
        raise conflict("file_exists", f"{file} exists already", "name another file, or remove this one")
    for directory in (layout.state_dir, layout.run_dir):
        if file.resolve().is_relative_to(directory.resolve()):
            why = f"{file} would be lost together with the hive: it is in {directory}"
            raise conflict("file_within_hive", why, "name a file elsewhere, best on another disk")


def _write(
    layout: Layout, database: DatabaseSource, file: Path, output: IO[bytes], report: Callable[[str], None]
) -> Created:
    """Write the archive, anew if an agent was destroyed meanwhile."""
    for _ in range(_ATTEMPTS):
        output.seek(0)
        output.truncate()
        names = {path.name for path in _entries(layout.agents)} | {path.stem for path in _entries(layout.applied)}
        copy = file.with_name(f".{file.name}.{secrets.token_hex(4)}.sqlite")
        copy.touch(mode=0o600, exist_ok=False)
        try:
            report("the database")
            facts = database.copy(copy)
            created = Created(_manifest(layout, facts))
            with archives.opened_for_writing(output) as archive:
                _add_all(layout, archive, copy, names | facts.names, created, report)
        finally:
            copy.unlink()
        if facts.agents <= database.agents():
            return created
        report("an agent was destroyed meanwhile: beginning anew")
    raise conflict("hive_changes", "agents were destroyed again and again while they were read", "try again later")


def _manifest(layout: Layout, facts: DatabaseFacts) -> Manifest:
    return Manifest(
        format=archives.FORMAT,
        version=__version__,
        schema_number=facts.schema,
        state_dir=str(layout.state_dir),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        agents=sorted(name for name, _ in facts.agents),
    )


def _add_all(
    layout: Layout,
    archive: tarfile.TarFile,
    database: Path,
    names: set[str],
    created: Created,
    report: Callable[[str], None],
) -> None:
    archives.add_text(archive, MANIFEST, created.manifest.model_dump_json())
    writer = TreeWriter(archive, lambda path, why: created.left_out.append((path, why)))
    with open_directory(database.parent) as within:
        writer.add(within, database.name, DATABASE)
    for part in DIRECTORIES:
        directory = layout.state_dir / part
        if not directory.is_dir():
            continue
        with open_directory(directory) as within:
            for entry in sorted(os.listdir(within)):  # noqa: PTH208 - it is a descriptor
                # The names of agents have no dot: `ada`, `ada.git`, `ada.log.1`, and the directory `builds` of logs.
                of_agent = entry.partition(".")[0] in names or entry == "builds"
                if not of_agent and part not in _WITHOUT_AGENTS:
                    continue
                report(f"{part}/{entry}")
                if part in _REPOSITORIES and (directory / entry / "objects").is_dir():
                    with exclusive_repository_lock(directory / entry):
                        writer.add(within, entry, f"{part}/{entry}")
                else:
                    writer.add(within, entry, f"{part}/{entry}")
    archives.add_text(archive, END, archives.end_text(writer.members))
    created.members = writer.members


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


@contextmanager
def _refusals(file: Path) -> Iterator[None]:
    """Raise HiveError for a directory that is missing or that this user may not use."""
    try:
        yield
    except PermissionError as error:
        why = f"no permission to use {error.filename or file.parent}"
        raise HiveError("no_permission", why, hint="run the command as root, or as the daemon's user") from None
    except (FileNotFoundError, NotADirectoryError) as error:
        why = f"there is no directory {error.filename or file.parent}"
        raise HiveError("no_directory", why, hint="create it, or name another file") from None
