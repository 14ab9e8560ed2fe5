"""The agent's log: bounded, private, readable from its end, followed without loss."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.runtimes.log_file import MAX_LINE_BYTES, LogFile, copy_output

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ")


def texts(lines: list[str]) -> list[str]:
    """Lines without their times."""
    assert all(STAMP.match(line) for line in lines), lines
    return [line.partition(" ")[2] for line in lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "ada.log"


async def test_every_line_gets_its_time(path: Path) -> None:
    """Lines keep their bytes, escapes included, and start with an RFC 3339 time in UTC."""
    log = LogFile(path)
    await log.append(b"one\n\x1b[31mtw")
    await log.append(b"o\n\nlast")
    await log.finish()
    lines, _ = await log.read(10, None, 0)
    assert texts(lines) == ["one", "\x1b[31mtwo", "", "last"]
    log.close()


async def test_a_long_line_is_cut_and_marked(path: Path) -> None:
    """A line without end is kept up to its limit, is marked as cut, and does not spoil the next one."""
    log = LogFile(path)
    for _ in range(200):
        await log.append(b"x" * 10_000)
    await log.append(b"x\nnext\n" + b"y" * MAX_LINE_BYTES + b"\n")
    lines, _ = await log.read(10, None, 0)
    assert texts(lines) == ["x" * MAX_LINE_BYTES + " [line cut]", "next", "y" * MAX_LINE_BYTES]
    log.close()


async def test_size_is_bounded(path: Path) -> None:
    """Whatever is written, two files of the set size are all that there is on disk."""
    log = LogFile(path, max_bytes=10_000)
    for number in range(500):
        await log.append(b"%d " % number + b"z" * 200 + b"\n")
    assert {file.name for file in path.parent.iterdir()} == {"ada.log", "ada.log.1"}
    assert all(file.stat().st_size <= 10_000 for file in path.parent.iterdir())
    lines, _ = await log.read(60, None, 0)
    assert [int(text.split()[0]) for text in texts(lines)] == list(range(440, 500))
    log.close()


def test_private_to_the_daemon(path: Path) -> None:
    """The log's directory is 0700 and its file 0600, whatever the umask."""
    before = os.umask(0)
    try:
        log = LogFile(path)
        log.open()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log.close()


def test_links_and_pipes_are_refused(path: Path, tmp_path: Path) -> None:
    """A link or a pipe in place of the log is not written to."""
    path.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("kept")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        LogFile(path).open()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        LogFile(path).open()
    assert victim.read_text() == "kept"


async def test_half_a_line_of_a_killed_daemon(path: Path) -> None:
    """A line that a killed daemon left unfinished does not swallow the next one."""
    log = LogFile(path)
    log.open()
    log.close()
    await asyncio.to_thread(path.write_bytes, b"2025-01-01T00:00:00.000000Z whole\n2025-01-01T00:00:00.000000Z ha")
    log = LogFile(path)
    assert texts((await log.read(10, None, 0))[0]) == ["whole"]
    await log.append(b"new\n")
    assert texts((await log.read(10, None, 0))[0]) == ["whole", "ha", "new"]
    log.close()


async def test_a_removed_log_begins_anew(path: Path) -> None:
    """A log that was removed under the daemon is made again, and reading goes on."""
    log = LogFile(path)
    await log.append(b"old\n")
    _, cursor = await log.read(10, None, 0)
    await asyncio.to_thread(path.unlink)
    await log.append(b"new\n")
    assert texts((await log.read(10, cursor, 0))[0]) == ["new"]
    log.close()


@given(
    st.lists(st.tuples(st.integers(min_value=1, max_value=8), st.integers(min_value=1, max_value=5)), max_size=15),
)
def test_following_loses_nothing(steps: list[tuple[int, int]]) -> None:
    """Who reads on from each answer's cursor sees every line once and in order, also over rotations."""

    async def follow(place: str) -> None:
        log = LogFile(Path(place, "ada.log"), max_bytes=400)
        written = 0
        seen: list[int] = []
        _, cursor = await log.read(1, None, 0)
        for step, (count, lines) in enumerate(steps):
            await log.append(b"".join(b"%d\n" % number for number in range(written, written + count)))
            written += count
            # Every other time the reader is late, so that what it has not read moves to the older file.
            while step % 2 or step == len(steps) - 1:
                found, cursor = await log.read(lines, cursor, 0)
                if not found:
                    break
                assert len(found) <= lines
                seen += map(int, texts(found))
        assert seen == list(range(written))
        log.close()

    with tempfile.TemporaryDirectory() as place:
        asyncio.run(follow(place))


async def test_after_two_rotations_reading_goes_on_with_the_oldest(path: Path) -> None:
    """A cursor into a file that is gone goes on with the oldest line that there is."""
    log = LogFile(path, max_bytes=1_000)
    await log.append(b"first\n")
    _, cursor = await log.read(10, None, 0)
    for number in range(200):
        await log.append(b"%d\n" % number)
    everything, _ = await log.read(10_000, None, 0)
    assert (await log.read(10_000, cursor, 0))[0] == everything
    assert texts(everything)[-1] == "199"
    log.close()


@pytest.mark.parametrize("cursor", ["", "x", "1-1", "0-", "0-1\n", "../etc-0", "0" * 16, "-1-5", "0-" + "9" * 30])
async def test_bad_cursors_are_refused(path: Path, cursor: str) -> None:
    """A cursor of another form is a bad request, with a hint."""
    with pytest.raises(HiveError) as refused:
        await LogFile(path).read(10, cursor, 0)
    assert (refused.value.code, refused.value.status) == ("invalid_request", 400)
    assert refused.value.hint


async def test_forged_offsets_are_refused(path: Path) -> None:
    """A cursor into the middle of a line, or beyond the end, is a bad request."""
    log = LogFile(path)
    await log.append(b"one\n")
    mark = (await log.read(1, None, 0))[1].partition("-")[0]
    for offset in (1, 10**9):
        with pytest.raises(HiveError, match="does not belong"):
            await log.read(10, f"{mark}-{offset}", 0)
    log.close()


async def test_waiting_is_woken(path: Path) -> None:
    """Who waits for lines gets them when they come; who waits in vain gets none when the time is over."""
    log = LogFile(path)
    _, cursor = await log.read(10, None, 60)
    assert (await log.read(10, cursor, 0.01))[0] == []
    waiting = asyncio.create_task(log.read(10, cursor, 60))
    await asyncio.sleep(0)
    await log.append(b"unfinished")
    await log.append(b" line\n")
    async with asyncio.timeout(30):
        lines, _ = await waiting
    assert texts(lines) == ["unfinished line"]
    log.close()


async def test_closing_ends_the_wait(path: Path) -> None:
    """Closing a log ends the waits for it at once."""
    log = LogFile(path)
    waiting = asyncio.create_task(log.read(10, "0-0", 300))
    await asyncio.sleep(0)
    log.close()
    async with asyncio.timeout(30):
        assert (await waiting)[0] == []


async def test_answers_are_bounded(path: Path) -> None:
    """An answer holds about a megabyte at most, however many lines were asked for, and the cursor reaches the rest."""
    log = LogFile(path)
    for _ in range(200):
        await log.append(b"w" * 15_000 + b"\n")
    assert 60 <= len((await log.read(10_000, None, 0))[0]) <= 70
    lines, cursor = await log.read(10_000, "0-0", 0)
    total = len(lines)
    while lines:
        assert len(lines) <= 70
        lines, cursor = await log.read(10_000, cursor, 0)
        total += len(lines)
    assert total == 200
    log.close()


async def test_a_full_disk_loses_lines_and_nothing_else(path: Path) -> None:
    """Where the log cannot be written, output is dropped; when it can be again, it goes on."""
    log = LogFile(path)
    await asyncio.to_thread(path.mkdir, parents=True)
    assert await log.append(b"lost\n") == 0
    await asyncio.to_thread(path.rmdir)
    await log.append(b"kept\n")
    assert texts((await log.read(10, None, 0))[0]) == ["kept"]
    log.close()


async def test_copying_ends_though_the_pipe_is_held_open(path: Path) -> None:
    """When the child has ended, the rest of its output is copied and nobody else's end is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    log = LogFile(path)
    ended = asyncio.get_running_loop().create_future()
    copying = asyncio.create_task(copy_output(reader, log, ended))
    os.write(writer, b"one\n")
    await log.read(1, "0-0", 30)
    os.write(writer, b"two\nthree")
    ended.set_result(None)
    async with asyncio.timeout(30):
        await copying
    assert texts((await log.read(10, None, 0))[0]) == ["one", "two", "three"]
    os.close(reader)
    os.close(writer)
    log.close()
