"""Copies that the daemon makes of its own database."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.database.copies import DatabaseCopies
from hive_core.infra.database.database import Database
from hive_core.infra.database.snapshot import check_copy
from tests.helpers.disks.btrfs_file import mounted_btrfs, why_no_btrfs
from tests.helpers.disks.small_disks import small_disk


@pytest.fixture
def copies(tmp_path: Path) -> DatabaseCopies:
    (tmp_path / "scratch").mkdir()
    return DatabaseCopies(tmp_path / "hive.sqlite", tmp_path / "scratch")


async def fill(database: Database, bodies: int, size: int = 4_000) -> None:
    """Write messages of `size` characters."""
    await database.write(
        lambda db: db.executemany(
            "INSERT INTO messages (sender, recipient, body, sent_at) VALUES ('operator', 'ada', ?, 1)",
            [("x" * size,)] * bodies,
        )
    )


def count(file: Path) -> int:
    """Count the messages of a copy that was checked."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM messages").fetchone()[0])


@contextmanager
def overlaid(point: Path) -> Iterator[Path]:
    """Mount an overlay whose files are stored in `point`."""
    for name in ("lower", "upper", "work", "merged"):
        (point / name).mkdir()
    options = f"lowerdir={point}/lower,upperdir={point}/upper,workdir={point}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, point / "merged"], check=True)
    try:
        yield point / "merged"
    finally:
        subprocess.run(["umount", point / "merged"], check=True)


async def test_copies_are_whole_while_the_database_is_written(copies: DatabaseCopies, tmp_path: Path) -> None:
    """A copy is one moment of a database that is written meanwhile, needs no file beside it, and is its owner's only.

    The next copy removes it, and there is one at a time.
    """
    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    await fill(database, 2_000)
    making = asyncio.create_task(copies.make())
    written = 0
    while not making.done():
        await fill(database, 3)
        written += 3
        if written == 3 and not making.done():
            with pytest.raises(HiveError) as refused:
                await copies.make()
            assert refused.value.code == "backup_under_way"
    file = tmp_path / "scratch" / making.result()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    check_copy(file, tmp_path / "hive.sqlite")
    assert (count(file) - 2_000) in range(0, written + 1, 3)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    again = await copies.make()
    assert [path.name for path in file.parent.iterdir()] == [again] != [file.name]
    database.finish()
    await writing
    await database.close()


async def test_a_stop_of_the_daemon_ends_a_copy(copies: DatabaseCopies, tmp_path: Path) -> None:
    """A copy that is under way does not delay a stop, and leaves nothing."""
    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    await fill(database, 2_000)
    copies.close()
    with pytest.raises(HiveError) as refused:
        await copies.make()
    assert refused.value.code == "stopping"
    assert not list((tmp_path / "scratch").iterdir())
    database.finish()
    await writing
    await database.close()


async def test_a_copy_does_not_take_the_last_room(tmp_path: Path) -> None:
    """On a disk without room for a copy it is refused, and the daemon can write on."""
    with small_disk("tmpfs", tmp_path / "disk") as disk:
        (disk.path / "scratch").mkdir()
        database = await Database.open(disk.path / "hive.sqlite")
        writing = asyncio.create_task(database.run())
        await fill(database, 200)
        taken = shutil.disk_usage(disk.path).free - 400_000
        (disk.path / "ballast").write_bytes(bytes(taken))
        with pytest.raises(HiveError) as refused:
            await DatabaseCopies(disk.path / "hive.sqlite", disk.path / "scratch").make()
        assert refused.value.code == "disk_full"
        assert not list((disk.path / "scratch").iterdir())
        await fill(database, 1)
        database.finish()
        await writing
        await database.close()


@pytest.mark.skipif(bool(why_no_btrfs()), reason=why_no_btrfs() or "it works")
@pytest.mark.parametrize("overlay", [False, True])
async def test_nothing_is_mapped_on_btrfs(overlay: bool) -> None:
    """On btrfs, also below an overlay, SQLite has no mapped file, and a copy can be made."""
    with mounted_btrfs(quotas=False) as point, overlaid(point) if overlay else nullcontext(point) as home:
        (home / "scratch").mkdir()
        database = await Database.open(home / "hive.sqlite")
        writing = asyncio.create_task(database.run())
        await fill(database, 10)
        copies = DatabaseCopies(home / "hive.sqlite", home / "scratch")
        copy = home / "scratch" / await copies.make()
        check_copy(copy, home / "hive.sqlite")
        assert count(copy) == 10
        assert not list(home.rglob("*-shm"))
        database.finish()
        await writing
        await database.close()
