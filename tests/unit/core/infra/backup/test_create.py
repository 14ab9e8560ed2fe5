"""Backups and their restoring: what agents can leave in their directories, damage, and refusals."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.backup.create import create_backup
from hive_core.infra.backup.restore import restore_backup
from hive_core.infra.database.migrations import STEPS, migrate
from hive_core.infra.storage.file_lock import lock_state
from hive_core.layout import Layout, make_directories

GIB = 1024**3


def ignore(_: str) -> None:
    pass


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A hive with the agent ada and a message in its database."""
    layout = Layout(tmp_path / "old", tmp_path / "run")
    make_directories(layout)
    with closing(sqlite3.connect(layout.database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrate(db)
        add_agent(db, "ada")
        db.execute("INSERT INTO messages (sender, recipient, body, sent_at) VALUES ('operator', 'ada', 'hello', 1)")
    for directory in ("config", "state", "claude"):
        (layout.agents / "ada" / directory).mkdir(parents=True)
    (layout.applied / "ada.git").mkdir()
    (layout.applied / "ada.git" / "HEAD").write_text("ref: refs/heads/main\n")
    (layout.mirror("web") / "objects/pack").mkdir(parents=True)
    (layout.mirror("web") / "packed-refs").write_text("# pack-refs with: sorted \n")
    (layout.closures / "ada" / ("a" * 40)).mkdir(parents=True)
    layout.agent_log("ada").write_text("a line\n")
    return layout


def add_agent(db: sqlite3.Connection, name: str) -> None:
    columns = "name, kind, desired, config, prompt, deployment, created_at"
    db.execute(f"INSERT INTO agents ({columns}) VALUES (?, 'agent', 'running', '{{}}', '', 0, 1)", (name,))


def backup(layout: Layout, tmp_path: Path) -> Path:
    file = tmp_path / "hive.backup"
    create_backup(layout, file, ignore)
    return file


def restored(file: Path, tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "new", tmp_path / "run2")
    restore_backup(layout, file, ignore)
    return layout


def test_mirrors_of_repositories_come_back(layout: Layout, tmp_path: Path) -> None:
    """A mirror, which has the name of no agent, is in a backup."""
    new = restored(backup(layout, tmp_path), tmp_path)
    assert (new.mirror("web") / "packed-refs").read_text() == "# pack-refs with: sorted \n"


def test_a_hive_is_the_same_after_a_restore(layout: Layout, tmp_path: Path) -> None:
    """Database, repositories, closures, logs and the agents' files come back, at another path, only for their owner."""
    state = layout.agents / "ada" / "state"
    (state / "notes").write_bytes(b"one\n" * 1_000)
    (state / "notes").chmod(0o640)
    os.utime(state / "notes", ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
    (state / "link").symlink_to("/etc/passwd")
    os.link(state / "notes", state / "same")
    (state / os.fsdecode(b"\xff\nname")).write_text("odd")
    (layout.scratch / "left").write_text("over")
    file = backup(layout, tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    new = restored(file, tmp_path)
    with closing(sqlite3.connect(new.database)) as db:
        assert db.execute("SELECT body FROM messages").fetchall() == [("hello",)]
    again = new.agents / "ada" / "state"
    assert (again / "notes").read_bytes() == b"one\n" * 1_000
    assert stat.S_IMODE((again / "notes").stat().st_mode) == 0o640
    assert (again / "notes").stat().st_mtime == 1_700_000_000
    assert (again / "link").readlink() == Path("/etc/passwd")
    assert (again / "same").stat().st_ino == (again / "notes").stat().st_ino
    assert (again / os.fsdecode(b"\xff\nname")).read_text() == "odd"
    assert (new.applied / "ada.git" / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert (new.closures / "ada" / ("a" * 40)).is_dir()
    assert new.agent_log("ada").read_text() == "a line\n"
    assert not new.scratch.exists()
    assert stat.S_IMODE(new.state_dir.stat().st_mode) == stat.S_IMODE(new.agents.stat().st_mode) == 0o700
    assert stat.S_IMODE(new.database.stat().st_mode) == 0o600


def test_nobody_is_signed_in_after_a_restore(layout: Layout, tmp_path: Path) -> None:
    """Accounts and API tokens are in a backup; of sessions and set-up links not even the digests are."""
    with closing(sqlite3.connect(layout.database)) as db, db:
        db.execute("INSERT INTO people VALUES ('ada', 'admin', '$argon2id$x', 1, 1, 1)")
        for number, kind in enumerate(("session", "token")):
            columns = "kind, digest, person, made_at, used_at, ends_at"
            row = (kind, f"digest-of-{kind}", "ada", 1, 1, 2**50 + number)
            db.execute(f"INSERT INTO person_credentials ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO set_up_links VALUES ('digest-of-link', 'ada', 'admin', 'operator:root', 1)")
    new = restored(backup(layout, tmp_path), tmp_path)
    with closing(sqlite3.connect(new.database)) as db:
        assert db.execute("SELECT name, role FROM people").fetchall() == [("ada", "admin")]
        assert db.execute("SELECT kind FROM person_credentials").fetchall() == [("token",)]
        assert db.execute("SELECT * FROM set_up_links").fetchall() == []
    content = new.database.read_bytes()
    assert b"digest-of-token" in content
    assert b"digest-of-session" not in content
    assert b"digest-of-link" not in content


def test_credentials_are_in_a_backup_as_they_rest(layout: Layout, tmp_path: Path) -> None:
    """Credentials and their key are restored as they were on the disk, encrypted and readable by their owner only."""
    for name in ("keys/0123456789abcdef.key", "values/web.token"):
        file = layout.credentials / name
        file.parent.mkdir(mode=0o700, parents=True)
        file.write_bytes(b"x" + os.urandom(40))
        file.chmod(0o600)
    archive = backup(layout, tmp_path)
    new = Layout(tmp_path / "new", tmp_path / "new" / "run")
    restore_backup(new, archive, ignore)
    for name in ("keys/0123456789abcdef.key", "values/web.token"):
        assert (new.credentials / name).read_bytes() == (layout.credentials / name).read_bytes()
        assert stat.S_IMODE((new.credentials / name).stat().st_mode) == 0o600


def test_what_an_agent_leaves_does_no_harm(layout: Layout, tmp_path: Path) -> None:
    """Links are not followed, FIFOs are left out and named, sockets left out, setuid is dropped, holes take no room."""
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "key").write_text("secret")
    state = layout.agents / "ada" / "state"
    (state / "out").symlink_to(outside)
    (layout.agents / "ada" / "claude").rmdir()
    (layout.agents / "ada" / "claude").symlink_to(outside)
    os.mkfifo(state / "fifo")
    os.mknod(state / "socket", stat.S_IFSOCK | 0o600)
    (state / "tool").write_text("#!/bin/sh\n")
    (state / "tool").chmod(0o6755)
    (state / "closed").mkdir(0o700)
    (state / "closed" / "file").write_text("x")
    (state / "closed").chmod(0)
    with (state / "holes").open("wb") as file:
        file.seek(300 * GIB)
        file.write(b"end")
        file.seek(GIB)
        file.write(b"middle")
        file.truncate(400 * GIB)
    (state / ("/".join("d" * 600))).mkdir(parents=True)
    deep = os.open(state, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=deep)
        deep, above = os.open("d" * 200, os.O_RDONLY, dir_fd=deep), deep
        os.close(above)
    os.close(deep)
    target = tmp_path / "hive.backup"
    created = create_backup(layout, target, ignore)
    left_out = dict(created.left_out)
    assert left_out.pop("agents/ada/state/fifo") == "it is a FIFO or a device"
    assert list(left_out.values()) == ["its path is too long"] * 2
    assert target.stat().st_size < 1_000_000
    new = restored(target, tmp_path).agents / "ada"
    assert (new / "claude").readlink() == outside
    assert (new / "state/out").readlink() == outside
    assert not (new / "state/socket").exists()
    assert stat.S_IMODE((new / "state/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((new / "state/closed").stat().st_mode) == 0
    holes = new / "state/holes"
    assert (holes.stat().st_size, holes.stat().st_blocks < 1_000) == (400 * GIB, True)
    with holes.open("rb") as file:
        file.seek(GIB)
        assert file.read(7) == b"middle\0"
        file.seek(300 * GIB)
        assert file.read(4) == b"end\0"
    names = subprocess.run(["tar", "-tzf", target], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "agents/ada/state/holes" in names, "GNU tar reads the archive too"


def test_a_file_that_changes_while_it_is_read(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that becomes shorter is stored with zeros and named; the archive stays whole."""
    notes = layout.agents / "ada" / "state" / "notes"
    notes.write_bytes(b"x" * 5_000_000)
    pread = os.pread

    def shortened(descriptor: int, size: int, offset: int) -> bytes:
        if offset:
            os.truncate(notes, 1_000)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", shortened)
    created = create_backup(layout, tmp_path / "hive.backup", ignore)
    monkeypatch.undo()
    assert [path for path, _ in created.left_out] == ["agents/ada/state/notes"]
    new = restored(tmp_path / "hive.backup", tmp_path).agents / "ada" / "state" / "notes"
    assert (new.stat().st_size, new.read_bytes()[-10:]) == (5_000_000, bytes(10))


def test_an_agent_that_is_destroyed_meanwhile(layout: Layout, tmp_path: Path) -> None:
    """The backup begins anew if an agent of its database was destroyed while its files were read."""
    done: list[str] = []

    def report(text: str) -> None:
        if text == "agents/ada" and not done:
            done.append(text)
            with closing(sqlite3.connect(layout.database, isolation_level=None)) as db:
                db.execute("DELETE FROM agents WHERE name = 'ada'")

    created = create_backup(layout, tmp_path / "hive.backup", report)
    assert done and created.manifest.agents == []


def test_an_agent_that_is_created_meanwhile(layout: Layout, tmp_path: Path) -> None:
    """An agent that is not in the copy of the database is not in the backup."""

    def report(text: str) -> None:
        if text == "applied/ada.git":
            (layout.agents / "bob" / "state").mkdir(parents=True)

    create_backup(layout, tmp_path / "hive.backup", report)
    assert not (restored(tmp_path / "hive.backup", tmp_path).agents / "bob").exists()


@pytest.mark.parametrize("target", ["there", "old/agents/b", "run/b", "none/b"])
def test_a_backup_is_refused(layout: Layout, tmp_path: Path, target: str) -> None:
    """A backup replaces no file, is not written into the hive itself, and needs its directory."""
    (tmp_path / "there").write_text("keep")
    with pytest.raises(HiveError) as refused:
        create_backup(layout, tmp_path / target, ignore)
    codes = {"there": "file_exists", "old/agents/b": "file_within_hive", "run/b": "file_within_hive"}
    assert refused.value.code == codes.get(target, "no_directory")
    assert refused.value.hint
    assert (tmp_path / "there").read_text() == "keep"


def test_no_hive_and_a_damaged_one(layout: Layout, tmp_path: Path) -> None:
    """Nothing is written if there is no database, or a damaged one."""
    layout.database.write_bytes(b"\xa5" * 8_192)
    with pytest.raises(HiveError, match="is damaged") as refused:
        create_backup(layout, tmp_path / "b", ignore)
    assert refused.value.code == "database_damaged"
    layout.database.unlink()
    with pytest.raises(HiveError) as refused:
        create_backup(layout, tmp_path / "b", ignore)
    assert refused.value.code == "database_missing"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "run"]


def test_a_full_disk(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that does not fit is refused as such, and leaves nothing behind."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(HiveError) as refused:
        create_backup(layout, tmp_path / "b", ignore)
    assert refused.value.code == "disk_full"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "run"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x55
    file.write_bytes(content)


def other(file: Path) -> None:
    file.write_bytes(b"something else")


def rewritten(change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> Callable[[Path], None]:
    """Rewrite an archive with other members, its checksum being right."""

    def rewrite(file: Path) -> None:
        with tarfile.open(file) as old:
            members = [(one, (old.extractfile(one) or io.BytesIO()).read() if one.isreg() else b"") for one in old]
        change(members)
        with gzip.open(file, "wb") as packed, tarfile.open(mode="w", fileobj=packed) as new:
            for one, content in members:
                one.size = len(content)
                new.addfile(one, io.BytesIO(content))

    return rewrite


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    one = tarfile.TarInfo(name)
    one.type, one.linkname = kind, link
    return one, b""


DAMAGES = {
    "cut": cut,
    "flipped": flipped,
    "other": other,
    "no end": rewritten(lambda members: members.pop()),
    "one less": rewritten(lambda members: members.pop(3)),
    "outside": rewritten(lambda members: members.insert(2, member("../evil"))),
    "absolute": rewritten(lambda members: members.insert(2, member("/tmp/evil"))),
    "through a link": rewritten(
        lambda members: members.__setitem__(
            slice(-1, None), [member("agents/x", tarfile.SYMTYPE, "/"), member("agents/x/evil"), fitting_end(members)]
        )
    ),
    "other place": rewritten(lambda members: members.insert(2, member("trash/x"))),
    "device": rewritten(lambda members: members.insert(2, member("agents/dev", tarfile.CHRTYPE))),
    "hard link outside": rewritten(lambda members: members.insert(2, member("agents/x", tarfile.LNKTYPE, "../x"))),
}


def fitting_end(members: list[tuple[tarfile.TarInfo, bytes]]) -> tuple[tarfile.TarInfo, bytes]:
    return members[-1][0], json.dumps({"members": len(members)}).encode()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused(layout: Layout, tmp_path: Path, damage: str) -> None:
    """An archive that is damaged or that no hive wrote is refused with words, and nothing is left of it."""
    file = backup(layout, tmp_path)
    DAMAGES[damage](file)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(HiveError) as refused:
        restored(file, tmp_path)
    assert refused.value.code == "backup_damaged"
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []
    assert [path for path in sorted(path.name for path in tmp_path.iterdir()) if path != "new"] == before
    assert not Path("/evil").exists()


def test_a_restore_is_refused(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is not empty, a running daemon, a newer schema or format, and no file are refused with words."""
    file = backup(layout, tmp_path)

    def code(target: Layout, source: Path = file) -> str:
        with pytest.raises(HiveError) as refused:
            restore_backup(target, source, ignore)
        assert refused.value.hint
        return refused.value.code

    assert code(layout) == "state_dir_not_empty"
    lock = lock_state(layout)
    assert code(layout) == "state_in_use"
    lock.release()
    new = Layout(tmp_path / "new", tmp_path / "run2")
    assert code(new, tmp_path / "none") == "no_backup"
    monkeypatch.setattr("hive_core.infra.backup.archive.FORMAT", 2)
    (tmp_path / "newer").mkdir()
    newer = backup(layout, tmp_path / "newer")
    monkeypatch.undo()
    assert code(new, newer) == "backup_too_new"
    monkeypatch.setattr("hive_core.infra.database.migrations.STEPS", STEPS[:-1])
    assert code(new) == "schema_too_new"
    assert not new.state_dir.exists()
