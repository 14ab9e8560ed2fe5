"""Reading the journal: conversion of journalctl's output to lines, and its failures."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.systemd import journal
from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.journal import ANSWER_BYTES, MAX_LINE_BYTES, Entries

UNIT = "container@h-ada.service"


def entry(number: int, message: object) -> bytes:
    told = {"__CURSOR": f"s=c;i={number}", "__REALTIME_TIMESTAMP": f"{1_700_000_000_000_000 + number}"}
    return json.dumps(told | {"MESSAGE": message}).encode() + b"\n"


def texts(entries: Entries) -> list[str]:
    return [line.partition(" ")[2] for line in entries.lines]


def test_entries_become_lines() -> None:
    """Each entry becomes one line with its time, also if its message has bytes, line breaks, nothing or no text."""
    entries = Entries(10)
    output = b"".join(
        entry(number, message)
        for number, message in enumerate(["plain", [104, 105, 27, 255], "two\nlines\r\n", None, [[1]], {"a": 1}])
    )
    for at in range(0, len(output), 7):
        entries.feed(output[at : at + 7])
    assert texts(entries) == ["plain", "hi\x1b�", "two lines", "", "", ""]
    assert entries.lines[0] == "2023-11-14T22:13:20.000000Z plain"
    assert entries.cursor == "s=c;i=5"


def test_the_first_or_the_newest_are_kept() -> None:
    """Reading from a cursor leaves out no line; reading the last lines keeps the newest."""
    first, newest = Entries(2), Entries(2, newest=True)
    output = b"".join(entry(number, f"line {number}") for number in range(5))
    first.feed(output)
    newest.feed(output)
    assert (texts(first), first.cursor, first.full) == (["line 0", "line 1"], "s=c;i=1", True)
    assert (texts(newest), newest.cursor, newest.full) == (["line 3", "line 4"], "s=c;i=4", False)


@pytest.mark.parametrize("newest", [False, True])
def test_answers_are_bounded(newest: bool) -> None:
    """Long lines are cut, many of them end the answer, and an entry that never ends is left out."""
    entries = Entries(10_000, newest=newest)
    for number in range(100):
        entries.feed(entry(number, "é" * 40_000))
    assert all(len(line.encode()) < MAX_LINE_BYTES + 100 for line in entries.lines)
    assert sum(len(line.encode()) for line in entries.lines) < ANSWER_BYTES + MAX_LINE_BYTES + 100
    assert entries.lines[0].endswith(" [line cut]")

    endless = Entries(10, newest=newest)
    for _ in range(100):
        endless.feed(b"x" * 65_536)
    endless.feed(b"\n" + entry(1, "after"))
    assert texts(endless) == ["after"]


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a fake journalctl, which the test writes; the file `ran` beside it has its process id."""
    program = tmp_path / "journalctl"
    program.touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\necho $$ > {program.parent}/ran\n{script}\n")


def running(program: Path) -> bool:
    return Path("/proc", (program.parent / "ran").read_text().strip()).exists()


async def test_following_ends_with_what_came(journalctl: Path) -> None:
    """A waiting caller gets the available lines as soon as there is one, and no process is left."""
    write(journalctl, f"cat <<'X'\n{(entry(1, 'one') + entry(2, 'two')).decode()}X\nexec sleep 1000")
    lines, cursor = await journal.read(UNIT, 10, "s=c;i=0", 60)
    assert [line.partition(" ")[2] for line in lines] == ["one", "two"]
    assert cursor == "s=c;i=2"
    assert not running(journalctl)


async def test_waiting_ends(journalctl: Path) -> None:
    """Without lines in time, the answer is empty with the same cursor; a cancelled caller leaves no process."""
    write(journalctl, "exec sleep 1000")
    assert await journal.read(UNIT, 10, "s=c;i=0", 0.05) == ([], "s=c;i=0")
    (journalctl.parent / "ran").unlink()
    waiting = asyncio.create_task(journal.read(UNIT, 10, "s=c;i=0", 60))
    while not (journalctl.parent / "ran").exists():
        await asyncio.sleep(0.005)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not running(journalctl)


async def test_what_journalctl_complains_of_is_told(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot be read, or a cursor of another log, is an error with a reason, never an empty log."""
    write(journalctl, "echo No journal files were opened >&2; exit 1")
    with pytest.raises(HiveError, match="cannot be read: No journal files were opened") as failed:
        await journal.read(UNIT, 10, None, 0)
    assert failed.value.code == "no_journal"
    write(journalctl, "echo 'Failed to seek to cursor: Invalid argument' >&2; exit 1")
    with pytest.raises(HiveError, match="cursor does not belong") as failed:
        await journal.read(UNIT, 10, "s=c", 0)
    assert failed.value.status == 400
    monkeypatch.setenv("PATH", str(journalctl))
    with pytest.raises(HiveError, match="journalctl cannot be run"):
        await journal.read(UNIT, 10, None, 0)


async def test_systemd_needs_pydbus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pydbus, the error says which package to install."""
    monkeypatch.setitem(sys.modules, "pydbus", None)
    with pytest.raises(HiveError, match="without pydbus") as refused:
        await SystemBus.open()
    assert refused.value.code == "no_pydbus"
    assert "hyperhive[nixos]" in refused.value.hint
