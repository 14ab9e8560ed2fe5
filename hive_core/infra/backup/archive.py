"""The format of a backup: a tar archive, compressed with gzip, of the members `MANIFEST`, the files, and `END`.

The checksum of gzip covers the whole content, and `END` tells an archive that is whole from one that was cut off.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from hive_core.errors import HiveError
from hive_core.infra.backup.tree_reader import UnexpectedMember, check_member, content

FORMAT = 1
MANIFEST = "hyperhive-backup.json"
END = "hyperhive-end.json"
DATABASE = "hive.sqlite"
DIRECTORIES = ("applied", "closures", "repos", "work", "agents", "credentials", "logs")
"""The parts of a state directory that a backup has, in the order in which they are read.

Not there: `flakes`, `deployed` and `gcroots`, which are made anew, and `scratch` and `trash`, which nothing needs.
"""
_MANIFEST_BYTES = 16 * 1024 * 1024
_LEVEL = 1
_CHUNK = 1024 * 1024


class Manifest(BaseModel):
    """The first member of a backup. `schema_number` is that of the database, `state_dir` the directory it is of."""

    model_config = ConfigDict(extra="ignore")

    format: int
    version: str
    schema_number: int
    state_dir: str
    created_at: str
    agents: list[str]


@contextmanager
def opened_for_writing(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Open an archive to be written to `file`; it is complete when the block ends."""
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
    ):
        yield archive


def add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    """Add a member with a text of the hive's own."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(text.encode()), 0o600
    archive.addfile(member, io.BytesIO(text.encode()))


@contextmanager
def opened_for_reading(file: IO[bytes], name: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive from its beginning. Errors of its content are raised as HiveError `backup_damaged`."""
    file.seek(0)
    try:
        with (
            gzip.GzipFile(mode="rb", fileobj=file) as packed,
            tarfile.open(mode="r|", fileobj=packed, errorlevel=2) as archive,
        ):
            yield archive
            while packed.read(_CHUNK):  # The checksum is compared at the end.
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(name, str(error)) from None
    except UnexpectedMember as error:
        raise _damaged(name, str(error)) from None


def read_manifest(archive: tarfile.TarFile, name: Path) -> Manifest:
    """Read the first member. Raises `backup_damaged`, `backup_too_new`."""
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > _MANIFEST_BYTES:
        raise _damaged(name, "it does not begin as a backup of hyperhive does")
    try:
        manifest = Manifest.model_validate_json(_text(archive, first))
    except ValidationError:
        raise _damaged(name, "its first part cannot be read") from None
    if manifest.format > FORMAT:
        why = f"{name} was made by hyperhive {manifest.version}, in a format that this program does not know"
        raise HiveError("backup_too_new", why, hint="restore it with the hyperhive that made it, or a newer one")
    return manifest


def members(archive: tarfile.TarFile, name: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members after the manifest, and check that the archive is whole when the last was read.

    Raises HiveError `backup_damaged`.
    """
    count = 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # Otherwise all of them would be kept in memory.
        if member.name == END:
            if not member.isreg() or member.size > _MANIFEST_BYTES or _text(archive, member) != end_text(count):
                raise _damaged(name, "it has not as many files as it says")
            return
        parts = check_member(member)
        if parts[0] not in DIRECTORIES and member.name != DATABASE:
            raise _damaged(name, f"{member.name!r} is no part of a hive")
        yield member
        count += 1
    raise _damaged(name, "its end is missing")


def end_text(count: int) -> str:
    """Return the content of the last member of an archive with `count` files."""
    return json.dumps({"members": count})


def check(archive: tarfile.TarFile, name: Path) -> None:
    """Read all members after the manifest. Raises HiveError `backup_damaged`."""
    for member in members(archive, name):
        if member.isreg():
            for _ in content(archive, member):
                pass


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    return b"".join(part for _, part in content(archive, member)).decode(errors="replace")


def _damaged(name: Path, why: str) -> HiveError:
    return HiveError(
        "backup_damaged", f"{name} is damaged, or no backup of hyperhive: {why}", hint="restore another backup"
    )
