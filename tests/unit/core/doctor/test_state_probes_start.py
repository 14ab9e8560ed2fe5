"""`serve --check`: its findings about a start, which it does not change."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hive_core.doctor.state_probes import describe_start
from hive_core.errors import HiveError
from hive_core.infra.database.migrations import STEPS
from hive_core.infra.storage.file_lock import lock_run_dir, lock_state
from hive_core.layout import make_directories
from hive_core.settings import Settings

Tree = dict[str, tuple[int, int, bytes]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "hive", run_dir=tmp_path / "run", sandbox="none")


def create(settings: Settings, schema: int = len(STEPS)) -> None:
    """Create a state directory whose database has a schema."""
    make_directories(settings.layout)
    with closing(sqlite3.connect(settings.layout.database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for number, step in enumerate(STEPS[:schema], start=1):
            db.executescript(f"BEGIN; {step}; PRAGMA user_version = {number}; COMMIT;")


def tree(top: Path) -> Tree:
    """Everything in a directory: modes, times of the last change, contents."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [top, *sorted(top.rglob("*"))]
    }


def told(settings: Settings, tmp_path: Path) -> str:
    """Return the findings about a start; nothing is changed by them."""
    before = tree(tmp_path)
    try:
        return "\n".join(describe_start(settings))
    except HiveError as error:
        assert error.hint
        return error.code
    finally:
        assert tree(tmp_path) == before


def test_a_start_that_works(settings: Settings, tmp_path: Path) -> None:
    """A new hive, one of this schema, and one that would be migrated are told apart."""
    assert told(settings, tmp_path) == f"would start with a new, empty hive in {settings.state_dir}"
    create(settings)
    assert told(settings, tmp_path) == f"would start with the database as it is, schema {len(STEPS)}; agents: 0"
    settings.layout.database.unlink()
    create(settings, 2)
    assert told(settings, tmp_path) == (
        f"would start and migrate the database from schema 2 to {len(STEPS)}; agents: 0"
    )


def test_what_a_killed_daemon_left_is_read(settings: Settings, tmp_path: Path) -> None:
    """The log of a killed daemon counts: its agent is only there. Neither file is changed."""
    create(settings)
    script = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 0")
db.execute("INSERT INTO agents (name, kind, desired, config, prompt, deployment, created_at) "
           "VALUES ('ada', 'agent', 'running', '{}', '', 0, 1)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script, settings.layout.database], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert settings.layout.database.with_name("hive.sqlite-wal").stat().st_size
    assert told(settings, tmp_path).endswith("; agents: 1")


def test_a_start_that_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Another daemon, a newer, damaged or foreign database, and a directory that cannot be used are refused."""
    create(settings)
    layout = settings.layout
    for lock, code in ((lock_state, "state_in_use"), (lock_run_dir, "run_dir_in_use")):
        held = lock(layout)
        assert told(settings, tmp_path) == code
        held.release()
    with closing(sqlite3.connect(layout.database)) as db:
        db.execute("PRAGMA user_version = 999")
    assert told(settings, tmp_path) == "schema_too_new"
    with closing(sqlite3.connect(layout.database)) as db:
        db.execute("DROP TABLE messages")
        db.execute(f"PRAGMA user_version = {len(STEPS)}")
    assert told(settings, tmp_path) == "schema_unknown"
    layout.database.write_bytes(b"\xa5" * 8_192)
    assert told(settings, tmp_path) == "database_damaged"
    (tmp_path / "file").touch()
    assert told(settings.model_copy(update={"run_dir": tmp_path / "file"}), tmp_path) == "no_directory"
    assert told(settings.model_copy(update={"run_dir": tmp_path / ("r" * 100)}), tmp_path) == "run_dir_too_long"


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "missing"])
def test_a_database_that_is_lost(settings: Settings, tmp_path: Path, empty: bool) -> None:
    """Applied repositories are named if the database beside them is empty or missing."""
    create(settings)
    (settings.layout.applied / "ada.git").mkdir()
    settings.layout.database.unlink()
    if empty:
        settings.layout.database.touch()
    assert told(settings, tmp_path).endswith("\nthe database knows nothing of ada: restore it first")
