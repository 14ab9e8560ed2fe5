"""Probes of the database and of the programs of backends."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from subprocess import PIPE

import pytest

from hive_core.doctor import state_probes
from hive_core.doctor.hive_checks import CredentialFacts, StateFacts
from hive_core.errors import HiveError
from hive_core.infra.database.migrations import STEPS, migrate
from hive_core.infra.database.snapshot import copy_database
from hive_core.infra.storage.credentials import CredentialStore
from hive_core.infra.storage.file_lock import lock_state
from hive_core.layout import Layout, make_directories


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A hive without agents."""
    layout = Layout(tmp_path / "hive", tmp_path / "run")
    make_directories(layout)
    with closing(sqlite3.connect(layout.database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrate(db)
    return layout


def test_a_database_that_is_written_meanwhile(layout: Layout) -> None:
    """The database of a running daemon is read, with what is not yet in its main file."""
    lock = lock_state(layout)
    with closing(sqlite3.connect(layout.database, isolation_level=None)) as db:
        db.execute("INSERT INTO purges VALUES ('ada')")
        (layout.applied / "ada.git").mkdir()
        (layout.applied / "bob.git").mkdir()
        found = state_probes.read_state(layout)
    lock.release()
    assert (found.schema, found.problem, found.lost) == (len(STEPS), None, ["bob"])


def test_a_database_that_only_the_daemon_reads(layout: Layout, tmp_path: Path) -> None:
    """A database that no other program may read is no finding of doctor's, and a backup says why it cannot be read."""
    lock = lock_state(layout)
    name = f"file:{layout.database}?vfs=unix-excl"
    script = f"""
import sqlite3, sys
db = sqlite3.connect({name!r}, uri=True)
db.execute("SELECT * FROM agents").fetchall()
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE) as daemon:
        assert daemon.stdout is not None and daemon.stdout.readline() == b"open\n"
        assert state_probes.read_state(layout) == StateFacts()
        with pytest.raises(HiveError) as refused:
            copy_database(layout.database, tmp_path / "copy")
        daemon.communicate()
    lock.release()
    assert refused.value.code == "database_locked"


def test_a_database_that_is_damaged_empty_or_missing(layout: Layout) -> None:
    """Each is told apart, and applied repositories without a row are named."""
    (layout.applied / "ada.git").mkdir()
    layout.database.write_bytes(b"\xa5" * 8_192)
    problem = state_probes.read_state(layout).problem
    assert problem is not None and problem.code == "database_damaged"
    layout.database.write_bytes(b"")
    assert state_probes.read_state(layout) == StateFacts(0, None, ["ada"])
    layout.database.unlink()
    assert state_probes.read_state(layout) == StateFacts(None, None, ["ada"])


def test_programs_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are looked for where harnesses look, unless a variable names them."""
    monkeypatch.setattr(state_probes, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(state_probes, "find_spec", lambda _: None)
    assert set(state_probes.missing_programs([])) == {"claude", "codex", "gemini", "opencode"}
    (tmp_path / "codex").touch(mode=0o755)
    assert set(state_probes.missing_programs(["HIVE_GEMINI"])) == {"claude", "opencode"}
    monkeypatch.setattr(state_probes, "find_spec", lambda _: object())
    assert "claude" not in state_probes.missing_programs([])


async def test_keys_of_credentials_are_read(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor sees the key that is in use, why it is not sealed, and one that does not open any more."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert await state_probes.read_credentials(layout) == CredentialFacts()
    await CredentialStore(layout.credentials).put("web.token", b"secret")
    found = await state_probes.read_credentials(layout)
    assert found == CredentialFacts("key-file", "only root may use the host's key")
    (layout.credentials / "keys" / "0123456789abcdef.key").write_bytes(b"cut")
    assert (await state_probes.read_credentials(layout)).problems == ("0123456789abcdef: its file is damaged",)
