"""Copies of a database that a daemon may be writing, and facts about one that are read without a change."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from hive_core.errors import HiveError
from hive_core.infra.database.connection import damaged, unusable
from hive_core.infra.database.migrations import check_tables, check_version
from hive_core.infra.storage.disk_space import disk_full

_WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class DatabaseFacts:
    """Facts about a database: the number of its schema, the agents with the times of their creation, and all names
    that it knows, also from proposals and unfinished purges.
    """

    schema: int
    agents: frozenset[tuple[str, int]]
    names: frozenset[str]


def copy_database(source: Path, target: Path) -> DatabaseFacts:
    """Copy the committed content of a database into an empty file, but for sessions of people, and check the copy.

    The daemon can write meanwhile: the copy is what was committed at one moment.

    Raises:
        HiveError: `database_missing`, `database_damaged`, `database_unusable`, `database_locked`, `schema_too_new`,
            `disk_full`.
    """
    if not source.exists():
        raise _missing(source)
    with _errors(source), closing(_open(source, "mode=ro")) as old, closing(sqlite3.connect(target)) as new:
        # `backup` would wait without end for a database that is locked.
        old.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
        _leave_out_sign_ins(new)
        return _read_facts(source, new)


def check_copy(copy: Path, source: Path) -> DatabaseFacts:
    """Check a copy that the daemon made of `source`, and make it one that needs no files beside it.

    Sessions of people are left out, as in `copy_database`.

    Raises HiveError `database_damaged`, `database_unusable`, `schema_too_new`, `disk_full`.
    """
    # With `unix-excl`, because a full disk can end a process that maps a file there (see `connection.py`).
    name = f"file:{quote(str(copy))}?vfs=unix-excl"
    with _errors(source), closing(sqlite3.connect(name, uri=True, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        _leave_out_sign_ins(db)
        return _read_facts(source, db)


def _leave_out_sign_ins(copy: sqlite3.Connection) -> None:
    """Delete sessions and set-up links, so that a backup lets nobody in who was signed out after it was made."""
    tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "person_credentials" not in tables:
        return
    copy.execute("PRAGMA secure_delete = ON")
    with copy:
        copy.execute("DELETE FROM person_credentials WHERE kind = 'session'")
        copy.execute("DELETE FROM set_up_links")


def read_facts(path: Path) -> DatabaseFacts:
    """Check a database and read facts about it, without changing a byte of it or of the files beside it.

    Nobody may be writing it. If a killed daemon left a write-ahead log, both are copied into the directory for
    temporary files first, because SQLite applies a log only with a third file beside it.

    Raises:
        HiveError: as `copy_database`, and `schema_unknown`.
    """
    if not path.exists():
        raise _missing(path)
    with _errors(path), _unchanged(path) as connection:
        return _read_facts(path, connection)


def read_facts_in_use(path: Path) -> DatabaseFacts:
    """Check a database that a daemon may be writing, and read facts about it. Raises HiveError as `read_facts` does."""
    if not path.exists():
        raise _missing(path)
    with _errors(path), closing(_open(path, "mode=ro")) as connection:
        return _read_facts(path, connection)


def read_agents(path: Path) -> frozenset[tuple[str, int]]:
    """Return the agents with the times of their creation, from a database that a daemon may be writing."""
    with _errors(path), closing(_open(path, "mode=ro")) as connection:
        return frozenset(connection.execute("SELECT name, created_at FROM agents"))


@contextmanager
def _unchanged(path: Path) -> Iterator[sqlite3.Connection]:
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        with closing(_open(path, "immutable=1")) as connection:
            yield connection
        return
    with tempfile.TemporaryDirectory(prefix="hive-check-") as directory:
        copy = Path(directory, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        with closing(sqlite3.connect(copy)) as connection:
            yield connection


def _open(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, timeout=_WAIT_SECONDS)


def _read_facts(path: Path, connection: sqlite3.Connection) -> DatabaseFacts:
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
    if problems != ["ok"]:
        raise damaged(path, "; ".join(problems))
    schema = check_version(connection)
    if schema == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        return DatabaseFacts(0, frozenset(), frozenset())
    check_tables(connection, schema)
    agents = frozenset(connection.execute("SELECT name, created_at FROM agents"))
    names = {name for name, _ in agents}
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for table, column in (("proposals", "agent"), ("purges", "name")):
        if table in tables:
            names |= {name for (name,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}")}  # noqa: S608
    return DatabaseFacts(schema, agents, frozenset(names))


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise disk_full("copy the database") from None
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise HiveError(
                "database_locked",
                f"another process has {path} open and lets no other program read it",
                hint="wait until the daemon has started, or stop that process",
            ) from None
        raise unusable(path, error) from None
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from None


def _missing(path: Path) -> HiveError:
    return HiveError("database_missing", f"there is no database {path}", hint="name the directory with --state-dir")
