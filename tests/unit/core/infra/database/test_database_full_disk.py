"""The database on a disk that is full, whatever makes it full: a file system, a quota or a limit of file sizes."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.database import Database
from hive_core.infra.database.failures import is_write_failure, lacks_space
from hive_core.infra.database.reserve import DiskReserve
from hive_core.infra.storage.file_lock import lock_state
from hive_core.layout import Layout
from tests.helpers.disks.small_disks import KINDS, SmallDisk, small_disk


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(request.param, tmp_path / "disk") as disk:
        yield disk


@asynccontextmanager
async def opened(disk: SmallDisk, reserve: DiskReserve | None = None) -> AsyncIterator[Database]:
    database = await Database.open(disk.path / "hive.sqlite", reserve=reserve)
    writing = asyncio.create_task(database.run())
    try:
        yield database
    finally:
        database.finish()
        await asyncio.wait([writing])
        await database.close()
    assert writing.exception() is None


def note(port: int, size: int = 30_000) -> Operation[None]:
    def operation(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO web_ports (name, port) VALUES (?, ?)", (f"{port:x<{size}}", port))

    return operation


def ports(db: sqlite3.Connection) -> list[int]:
    return [row[0] for row in db.execute("SELECT port FROM web_ports ORDER BY port")]


async def test_writes_are_refused_while_there_is_no_room(disk: SmallDisk) -> None:
    """Every writer hears `disk_full`, nothing of it is stored, reads work, and writes work again after that."""
    async with opened(disk) as database:
        await database.write(note(1))
        disk.fill()
        stored, refused = [1], 0
        for port in range(2, 400):
            try:
                await database.write(note(port))
                stored.append(port)
            except HiveError as error:
                assert (error.code, error.status) == ("disk_full", 507)
                refused += 1
                if refused == 3:
                    break
        crowd = await asyncio.gather(*(database.write(note(port)) for port in range(900, 920)), return_exceptions=True)
        assert {getattr(error, "code", None) for error in crowd} == {"disk_full"}
        assert await database.read(ports) == stored
        await database.alive()
        disk.make_room()
        await database.write(note(999))
        assert await database.read(ports) == [*stored, 999]
        assert await database.read(lambda db: db.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]


async def fill_database(database: Database) -> None:
    """Write until nothing fits, however small."""
    port = 1_000
    for size in (30_000, 3_000, 10):
        while True:
            port += 1
            try:
                await database.write(note(port, size))
            except HiveError:
                break


async def test_an_urgent_write_gets_the_reserve(disk: SmallDisk) -> None:
    """It is stored where no other write is, and the reserve is made again only when there is room for more."""
    reserve = DiskReserve(disk.path / "hive.reserve")
    assert reserve.make()
    async with opened(disk, reserve) as database:
        disk.fill()
        await fill_database(database)
        if disk.kind == "file size":
            # Room elsewhere does not make the file longer; but the caller hears what it is.
            with pytest.raises(HiveError) as refusal:
                await database.write_urgently(note(1, 10))
            assert refusal.value.code == "disk_full"
        else:
            await database.write_urgently(note(1, 10))
            assert 1 in await database.read(ports)
            disk.fill()
        assert not reserve.make()
        assert sorted(path.name for path in disk.path.glob("hive.reserve*")) == []
        disk.make_room()
        assert reserve.make()


async def test_a_full_disk_does_not_hinder_the_next_start(disk: SmallDisk) -> None:
    """The database opens with what is stored, or the start is refused in words, and then opens when there is room."""
    reserve = DiskReserve(disk.path / "hive.reserve")
    reserve.make()
    async with opened(disk, reserve) as database:
        await database.write(note(1))
    disk.fill()
    try:
        async with opened(disk, reserve) as database:
            assert await database.read(ports) == [1]
    except HiveError as error:
        assert error.code == "disk_full"
    disk.make_room()
    async with opened(disk, reserve) as database:
        assert await database.read(ports) == [1]


async def test_a_new_database_is_refused_in_words(disk: SmallDisk) -> None:
    """On a disk that is full from the start, the reason is told, and a later start works."""
    (disk.path / "something").write_bytes(b"x")
    disk.fill()
    with pytest.raises(HiveError) as refusal:
        await Database.open(disk.path / "hive.sqlite")
    assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)
    disk.make_room()
    async with opened(disk) as database:
        assert await database.read(ports) == []


def test_a_failed_write_with_room_is_no_full_disk(tmp_path: Path) -> None:
    """A broken disk is not taken for a full one: SQLite's code is the same, but there is room beside the database."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    assert is_write_failure(error)
    assert not lacks_space(tmp_path / "hive.sqlite")
    assert list(tmp_path.iterdir()) == []


async def test_a_write_that_fails_although_there_is_room_ends_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is repeated, as another program may have made room just then; if that does not help, the disk is broken."""
    failures = 0

    def broken(db: sqlite3.Connection) -> None:
        nonlocal failures
        if failures > 0:
            failures -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        note(7)(db)

    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    failures = 2
    await database.write(broken)
    assert await database.read(ports) == [7]
    failures = 10
    with pytest.raises(HiveError) as refusal:
        await database.write(broken)
    assert refusal.value.code == "storage_failed"
    with pytest.raises(sqlite3.OperationalError):
        await writing
    await database.close()


def test_the_state_directory_is_locked_on_a_full_disk(disk: SmallDisk) -> None:
    """Without room for the number of the process the lock is taken all the same, and a second daemon is refused."""
    layout = Layout(disk.path, disk.path / "run")
    path = layout.lock
    lock_state(layout).release()
    (disk.path / "something").write_bytes(b"")
    disk.fill()
    if disk.kind == "file size":
        path.write_bytes(b"")
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    lock = lock_state(layout)
    with pytest.raises(HiveError) as refusal:
        lock_state(layout)
    assert refusal.value.code == "state_in_use"
    lock.release()


async def test_the_operator_is_told_once_that_the_reserve_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notice is repeated until it is stored, and the reserve is made again meanwhile."""
    monkeypatch.setattr("hive_core.infra.database.reserve._PAUSE_SECONDS", 0.001)
    reserve = DiskReserve(tmp_path / "hive.reserve")
    assert reserve.make()
    told: list[str] = []
    attempts = 0
    again = asyncio.Event()

    async def tell(text: str) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise HiveError("disk_full", "no room", status=507)
        told.append(text)
        again.set()

    reserve.release()
    running = asyncio.create_task(reserve.run(tell))
    await again.wait()
    while not reserve.make():
        await asyncio.sleep(0)
    again.clear()
    reserve.release()
    await again.wait()
    running.cancel()
    assert len(told) == 2
    assert all("hive-c0re stop" in text for text in told)
