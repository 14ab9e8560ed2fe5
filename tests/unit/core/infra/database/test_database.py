"""The database: group commit, migrations, and refused starts."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.database import database as database_module
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.database import Database, steady_milliseconds
from hive_core.infra.storage.file_lock import lock_run_dir, lock_state
from hive_core.layout import Layout


@asynccontextmanager
async def opened(path: Path, commits: list[int] | None = None) -> AsyncIterator[Database]:
    database = await Database.open(path, (commits if commits is not None else []).append)
    writing = asyncio.create_task(database.run())
    yield database
    database.finish()
    await writing
    await database.close()


def note(text: str) -> Operation[None]:
    def operation(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO web_ports (name, port) VALUES (?, ?)", (text, len(text)))

    return operation


def names(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT name FROM web_ports ORDER BY name")]


async def test_operations_share_a_commit(tmp_path: Path) -> None:
    """Operations that arrive together share a commit, and each caller gets its own result."""
    commits: list[int] = []
    async with opened(tmp_path / "hive.sqlite", commits) as database:
        results = await asyncio.gather(*[database.write(lambda db, n=n: n * 2) for n in range(50)])  # type: ignore[misc]
    assert results == [n * 2 for n in range(50)]
    assert commits == [50]


async def test_a_failing_operation_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    """An operation that raises changes nothing; those in the same commit are stored."""

    def half_done(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO web_ports (name, port) VALUES ('half', 7)")
        raise HiveError("no", "not this one")

    async with opened(tmp_path / "hive.sqlite") as database:
        first, broken, last = (database.submit(op) for op in (note("a"), half_done, note("bb")))
        await asyncio.gather(first, last)
        with pytest.raises(HiveError, match="not this one"):
            await broken
        assert await database.read(names) == ["a", "bb"]


async def test_a_commit_is_on_disk_before_its_callers_hear(tmp_path: Path) -> None:
    """The database is in WAL mode with synchronous=FULL, in which a commit returns after fsync."""
    async with opened(tmp_path / "hive.sqlite") as database:
        pragmas = ("PRAGMA journal_mode", "PRAGMA synchronous")
        found = await database.write(lambda db: [db.execute(pragma).fetchone()[0] for pragma in pragmas])
    assert found == ["wal", 2]


async def test_a_write_is_carried_out_though_its_caller_gave_up(tmp_path: Path) -> None:
    """Cancelling a writer cancels the waiting, not the write."""
    async with opened(tmp_path / "hive.sqlite") as database:
        writing = asyncio.ensure_future(database.write(note("kept")))
        await asyncio.sleep(0)
        writing.cancel()
        await database.write(lambda db: None)
        assert await database.read(names) == ["kept"]


async def test_finishing_stores_what_is_queued_and_refuses_the_rest(tmp_path: Path) -> None:
    """A stopping daemon stores all queued operations and refuses new ones."""
    async with opened(tmp_path / "hive.sqlite") as database:
        queued = [database.submit(note(text)) for text in ("a", "bb", "ccc")]
        database.finish()
        with pytest.raises(HiveError) as refusal:
            await database.write(lambda db: None)
        await asyncio.gather(*queued)
    assert (refusal.value.code, refusal.value.status) == ("stopping", 503)
    with sqlite3.connect(tmp_path / "hive.sqlite") as db:
        assert names(db) == ["a", "bb", "ccc"]


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """When the file cannot grow, writes are refused with the reason; when it can again, they work again."""
    async with opened(tmp_path / "hive.sqlite") as database:
        pages = await database.write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await database.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        with pytest.raises(HiveError) as refusal:
            await database.write(note("x" * 100_000))
        await database.write(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        await database.write(note("fits"))
        assert await database.read(names) == ["fits"]
    assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)


async def test_a_full_disk_refuses_only_what_needs_room(tmp_path: Path) -> None:
    """On a full disk a small write is not refused because it shares a commit with a large one, and order is kept."""
    commits: list[int] = []
    order: list[str] = []

    def noted(text: str) -> Operation[None]:
        def operation(db: sqlite3.Connection) -> None:
            note(text)(db)
            order.append(text[:3])

        return operation

    async with opened(tmp_path / "hive.sqlite", commits) as database:
        pages = await database.write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await database.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        first, large, last = (database.submit(noted(text)) for text in ("a", "x" * 100_000, "ccc"))
        await asyncio.wait([first, large, last])
        with pytest.raises(HiveError) as refusal:
            await large
        await asyncio.gather(first, last)
        assert await database.read(names) == ["a", "ccc"]
    assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)
    assert order[-2:] == ["a", "ccc"]
    assert commits == [1, 1, 3]


async def test_a_locked_database_refuses_and_recovers(tmp_path: Path) -> None:
    """While another program holds the file's lock, writes are refused and the daemon continues."""
    async with opened(tmp_path / "hive.sqlite") as database:
        await database.write(lambda db: db.execute("PRAGMA busy_timeout = 0").fetchone())
        other = sqlite3.connect(tmp_path / "hive.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HiveError) as refusal:
            await database.write(note("a"))
        other.close()
        await database.write(note("bb"))
        assert await database.read(names) == ["bb"]
    assert (refusal.value.code, refusal.value.status) == ("database_busy", 503)


async def test_a_lasting_failure_ends_the_writer(tmp_path: Path) -> None:
    """When SQLite fails permanently, the caller gets an error and `run` raises, so that the daemon stops."""
    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    with pytest.raises(HiveError) as refusal:
        await database.write(lambda db: db.execute("SELECT * FROM no_such_table"))
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        await writing
    assert refusal.value.code == "storage_failed"
    await database.close()


class Odd(BaseException):
    """An error that is neither SQLite's nor the operation's."""


def oddly(_: sqlite3.Connection) -> None:
    raise Odd("of another kind")


def damaged(db: sqlite3.Connection) -> None:
    """Read a database image whose first table is overwritten: SQLITE_CORRUPT, as from a damaged file."""
    other = sqlite3.connect(":memory:")
    other.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
    image = bytearray(other.serialize())
    image[4_096:4_200] = b"\xa5" * 104
    other.deserialize(bytes(image))
    other.execute("SELECT * FROM t").fetchall()


@pytest.mark.parametrize(("operation", "failure"), [(oddly, Odd), (damaged, sqlite3.DatabaseError)])
async def test_no_failure_leaves_callers_waiting(
    tmp_path: Path, operation: Operation[None], failure: type[BaseException]
) -> None:
    """When any failure ends the writer, all callers of the commit get an error, and `run` raises."""
    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    futures = [database.submit(wanted) for wanted in (note("a"), operation, note("bb"))]
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        with pytest.raises(failure):
            await writing
    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["storage_failed"] * 3
    assert await database.read(names) == []
    await database.close()


async def test_a_violated_constraint_is_the_operations_own(tmp_path: Path) -> None:
    """A violated constraint fails only its own operation; the writer continues."""
    async with opened(tmp_path / "hive.sqlite") as database:
        first, twice = database.submit(note("a")), database.submit(note("a"))
        await first
        with pytest.raises(sqlite3.IntegrityError):
            await twice
        await database.write(note("bb"))
        assert await database.read(names) == ["a", "bb"]


def open_below(directory: Path) -> list[Path]:
    """Return the files of this directory that the process has open."""
    opened = [descriptor.readlink() for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink()]
    return [path for path in opened if path.is_relative_to(directory)]


async def test_an_open_that_breaks_off_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second connection cannot be opened, the first is closed: its thread would keep the process alive."""

    def refused(_: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("hive_core.infra.database.connection._connect_for_reading", refused)
    with pytest.raises(HiveError) as refusal:
        await Database.open(tmp_path / "hive.sqlite")
    assert refusal.value.code == "database_unusable"
    assert open_below(tmp_path) == []


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a newer program is not changed, and the error says what to do."""
    path = tmp_path / "hive.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(HiveError, match="schema 999") as refusal:
        await Database.open(path)
    assert refusal.value.code == "schema_too_new"
    assert "newer hyperhive" in refusal.value.hint


@pytest.mark.parametrize("part", [0.0, 0.5], ids=["header", "inside"])
async def test_a_damaged_file_is_refused(tmp_path: Path, part: float) -> None:
    """A damaged file is refused by name before anything is written to it."""
    path = tmp_path / "hive.sqlite"
    async with opened(path) as database:
        await database.write(lambda db: [note("n" * n)(db) for n in range(1, 300)])
    content = bytearray(path.read_bytes())
    at = int(len(content) * part) // 4_096 * 4_096
    content[at : at + 3_000] = b"\xa5" * 3_000
    path.write_bytes(content)
    with pytest.raises(HiveError, match=r"hive\.sqlite is damaged") as refusal:
        await Database.open(path)
    assert refusal.value.code == "database_damaged"
    assert path.read_bytes() == content


def test_a_state_directory_has_one_daemon(tmp_path: Path) -> None:
    """A second daemon is refused with the process id of the first; after that one ends, another may start."""
    layout = Layout(tmp_path, tmp_path / "run")
    first = lock_state(layout)
    with pytest.raises(HiveError, match=r"process \d+") as refusal:
        lock_state(layout)
    assert refusal.value.code == "state_in_use"
    first.release()
    lock_state(layout).release()


def test_a_run_directory_has_one_daemon(tmp_path: Path) -> None:
    """A daemon of another state directory is refused, with the process and the state directory of the first."""
    first = lock_run_dir(Layout(tmp_path / "one", tmp_path))
    with pytest.raises(HiveError, match=f"process {os.getpid()} of {tmp_path}/one") as refusal:
        lock_run_dir(Layout(tmp_path / "two", tmp_path))
    assert refusal.value.code == "run_dir_in_use"
    assert "--run-dir" in refusal.value.hint
    first.release()
    lock_run_dir(Layout(tmp_path / "two", tmp_path)).release()


def test_the_steady_clock_does_not_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows a clock that is set ahead, and goes on at its pace where the clock is set back."""
    now = {"wall": 1_000_000, "boot": 5_000}
    monkeypatch.setattr(database_module, "_advance", 0)
    monkeypatch.setattr(database_module, "milliseconds", lambda: now["wall"])
    monkeypatch.setattr("time.clock_gettime_ns", lambda _: now["boot"] * 1_000_000)
    assert steady_milliseconds() == 1_000_000
    for wall, boot, expected in [(10, 10, 1_000_010), (-600_000, 10, 1_000_020), (900_000, 10, 1_300_010)]:
        now["wall"] += wall
        now["boot"] += boot
        assert steady_milliseconds() == expected
