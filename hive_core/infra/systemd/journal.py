"""Reading the journal of a unit with journalctl(1): its last lines, or those after a cursor, waiting for them.

What is in it was written by agents, who are hostile: lines are cut, answers are bounded, and whoever shows them escapes
what terminals understand.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError, bad_request
from hive_core.infra.processes import Command, Process, readable, spawn
from hive_core.systemd.entries import Entries

_CURSOR = re.compile(r"[0-9A-Za-z=;_-]{1,200}")
_CHUNK = 64 * 1024
_START = "0"
"""The cursor of a journal without lines: what comes after it is all that will be."""
_READ_SECONDS = 30.0


async def read(unit: str, lines: int, cursor: str | None, wait_seconds: float) -> tuple[list[str], str]:
    """The last `lines` of the unit's journal, or the next after `cursor`, waiting up to `wait_seconds` for the first of
    these. Returns them with the cursor to go on with; each begins with its time. Answers are limited in bytes, too.

    Raises HiveError `invalid_request` (the cursor is none), `no_journal`.
    """
    if cursor is None:
        entries = Entries(lines, newest=True)
        await _run([f"--unit={unit}", f"--lines={lines}"], entries, _READ_SECONDS)
        return entries.lines, entries.cursor or _START
    if _CURSOR.fullmatch(cursor) is None:
        raise _bad_cursor()
    after = [f"--unit={unit}"] if cursor == _START else [f"--unit={unit}", f"--after-cursor={cursor}"]
    entries = Entries(lines)
    if wait_seconds > 0:
        await _run([*after, "--follow", "--no-tail"], entries, wait_seconds, follow=True)
    else:
        await _run(after, entries, _READ_SECONDS)
    return entries.lines, entries.cursor or cursor


async def _run(arguments: list[str], entries: Entries, seconds: float, *, follow: bool = False) -> None:
    """Fill `entries`: with all there are, or if `follow` with what is there at once when the first has come."""
    # Told with `--all`, fields are not left out for being long.
    options = ["--output=json", "--output-fields=MESSAGE", "--all", "--quiet", "--no-pager"]
    try:
        process = spawn(
            Command(["journalctl", *options, *arguments], {"PATH": os.environ.get("PATH", os.defpath)}, Path("/"))
        )
    except OSError as error:
        raise _no_journal(f"journalctl cannot be run: {error.strerror}") from None
    code = None
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if await _copy(process, entries, follow):
                    code = await process.wait()
    finally:
        process.kill()
        await process.wait()
        process.close()
    if code:
        if "cursor" in entries.complaint:
            raise _bad_cursor()
        raise _no_journal(entries.complaint or f"journalctl ended with exit code {code}")


async def _copy(process: Process, entries: Entries, follow: bool) -> bool:
    """Whether it went on to the end of the output."""
    while not entries.full:
        try:
            chunk = os.read(process.output, _CHUNK)
        except BlockingIOError:
            if follow and entries.lines:
                return False
            await readable(process.output)
            continue
        if not chunk:
            return True
        entries.feed(chunk)
        await asyncio.sleep(0)  # Others have their turn: there can be a lot of it.
    return False


def _bad_cursor() -> HiveError:
    return bad_request(
        "the cursor does not belong to this log", "use the cursor of an earlier answer as it is, or leave it out"
    )


def _no_journal(why: str) -> HiveError:
    return HiveError(
        "no_journal",
        f"the journal cannot be read: {why}",
        hint="run the daemon as root, on a host with systemd's journal",
    )
