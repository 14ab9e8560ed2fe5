"""Reading the journal of a unit.

Agents, which may be hostile, write the lines. So lines are cut and answers are bounded. Callers that show them escape
what terminals interpret.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hive_core.errors import HiveError, bad_request
from hive_core.infra.processes import Command, LineCutter, Process, readable, spawn

_CURSOR = re.compile(r"[0-9A-Za-z=;_-]{1,200}")
_CHUNK = 64 * 1024
_START = "0"
"""The cursor of a journal without lines; all later lines follow it."""
_READ_SECONDS = 30.0
_SEARCHED_LINES = 20
"""Lines among which `last_line` looks for one with any text."""


async def read(unit: str, lines: int, cursor: str | None, wait_seconds: float) -> tuple[list[str], str]:
    """Return the last `lines` of the unit's journal, or the next after `cursor`, with the cursor for the next call.

    With a cursor it waits up to `wait_seconds` for the first line. Each line begins with its time. The answer is also
    limited in bytes. Raises HiveError `invalid_request` for an invalid cursor, `no_journal`.
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


async def last_line(unit: str, invocation: str) -> str:
    """Return the last line that the processes of a unit printed in one run; empty if there is none.

    Other than with `read`, lines of systemd about the unit are not among them. Raises HiveError `no_journal`.
    """
    entries = Entries(_SEARCHED_LINES, newest=True, stamped=False)
    matches = [f"_SYSTEMD_UNIT={unit}", f"_SYSTEMD_INVOCATION_ID={invocation}"]
    await _run([f"--lines={_SEARCHED_LINES}", *matches], entries, _READ_SECONDS)
    return next((line for line in reversed(entries.lines) if line.strip()), "")


async def _run(arguments: list[str], entries: Entries, seconds: float, *, follow: bool = False) -> None:
    """Fill `entries` with all output, or if `follow` with what is available once the first entry has arrived."""
    # With `--all`, long fields are not left out.
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
        await process.end()
    if code:
        if "cursor" in entries.complaint:
            raise _bad_cursor()
        raise _no_journal(entries.complaint or f"journalctl ended with exit code {code}")


async def _copy(process: Process, entries: Entries, follow: bool) -> bool:
    """Copy the output into `entries`; return True if the end of the output was reached."""
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
        await asyncio.sleep(0)  # Let other tasks run: the output can be long.
    return False


def _bad_cursor() -> HiveError:
    return bad_request(
        "the cursor does not belong to this log", "use the cursor of an earlier answer unchanged, or leave it out"
    )


def _no_journal(why: str) -> HiveError:
    return HiveError(
        "no_journal",
        f"the journal cannot be read: {why}",
        hint="run the daemon as root, on a host with systemd's journal",
    )


MAX_LINE_BYTES = 16 * 1024
ANSWER_BYTES = 1024 * 1024
"""Size limit of one answer, whatever number of lines was requested."""
_MAX_ENTRY_BYTES = 1024 * 1024
"""Size limit of journalctl's output for one entry; longer entries are left out."""
_MAX_COMPLAINT = 500


class Entries:
    """At most `most` lines of the journal: the first that arrive, or the last if `newest` is set.

    With `stamped` each line begins with its time. `cursor` is that of the last line, empty if there is none.
    `complaint` is the other output of journalctl.
    """

    def __init__(self, most: int, *, newest: bool = False, stamped: bool = True) -> None:
        self.cursor = ""
        self.complaint = ""
        self._most = most
        self._newest = newest
        self._stamped = stamped
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._cutter = LineCutter(_MAX_ENTRY_BYTES)

    @property
    def lines(self) -> list[str]:
        return list(self._lines)

    @property
    def full(self) -> bool:
        """Return True if no more lines are accepted."""
        return not self._newest and (len(self._lines) >= self._most or self._bytes >= ANSWER_BYTES)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the output."""
        for line in self._cutter.feed(data):
            if len(line) <= _MAX_ENTRY_BYTES:
                self._add_entry(line)

    def _add_entry(self, line: bytes) -> None:
        if self.full:
            return
        try:
            entry = json.loads(line)
            cursor, usec = str(entry["__CURSOR"]), int(entry["__REALTIME_TIMESTAMP"])
        except (ValueError, KeyError, TypeError):
            self.complaint = (self.complaint + line.decode(errors="replace") + " ")[:_MAX_COMPLAINT]
            return
        stamp = datetime.fromtimestamp(usec / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ")
        self._add_line(f"{stamp if self._stamped else ''}{_message_line(entry.get('MESSAGE'))}")
        self.cursor = cursor

    def _add_line(self, line: str) -> None:
        self._lines.append(line)
        self._bytes += len(line.encode(errors="replace"))
        while len(self._lines) > 1 and (len(self._lines) > self._most or self._bytes > ANSWER_BYTES) and self._newest:
            self._bytes -= len(self._lines.popleft().encode(errors="replace"))


def _message_line(message: object) -> str:
    """Return a message as one line. journalctl prints a message that is not plain text as an array of its bytes."""
    if isinstance(message, list):
        numbers = all(isinstance(byte, int) and 0 <= byte < 256 for byte in message)
        message = bytes(message).decode(errors="replace") if numbers else ""
    if not isinstance(message, str):
        return ""
    line = " ".join(message.splitlines()).rstrip()
    data = line.encode(errors="replace")
    return line if len(data) <= MAX_LINE_BYTES else data[:MAX_LINE_BYTES].decode(errors="ignore") + " [line cut]"
