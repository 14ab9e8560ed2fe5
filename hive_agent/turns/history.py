"""The turns of an agent and their transcripts, stored in its state directory with a bounded size.

`index.jsonl` has a line for every change of a turn, of which the last one counts; `<turn>.jsonl` is its transcript. The
agent can write to both, so invalid lines are skipped. If they cannot be written, the harness continues without.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hive_agent.backends.transcript import KINDS
from hive_agent.infra import state_files
from hive_agent.infra.json_text import parse_object
from hive_agent.turns.records import Totals, TurnRecord

log = logging.getLogger(__name__)

MOST_TURNS = 2_000
"""Number of turns that are listed, unless their records are unusually long."""
MOST_TRANSCRIPTS = 300
MOST_TRANSCRIPT_BYTES = 4 * 1024 * 1024
"""Largest transcript of one turn; later entries are not stored."""
MOST_BYTES = 64 * 1024 * 1024
"""Largest size of all transcripts together."""
_INDEX_BYTES = 2 * 1024 * 1024
_KEPT_INDEX_BYTES = 1280 * 1024
_LONGEST_LINE = 32 * 1024
_MOST_UNFINISHED = 50
# Bounded, because the agent can write these files, and new turns need higher numbers than those found.
_ID = re.compile(rb'\{"id":([1-9][0-9]{0,10}),')
_TRANSCRIPT = re.compile(r"([1-9][0-9]{0,10})\.jsonl")
_ENTRY_KINDS = frozenset(KINDS.values())

T = TypeVar("T")


class _OlderTurns(BaseModel):
    """The line with the totals of the turns that are no longer listed."""

    earlier: Totals


@dataclass(frozen=True)
class FoundTurns:
    """The turns of earlier instances: `live` are the last turn and unfinished ones, oldest first; `totals` are of all
    others.
    """

    last_id: int
    totals: Totals
    live: list[TurnRecord]


class TurnHistory:
    """The stored turns of one agent. Files are accessed on one thread, except in `note` and `add`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._index = directory / "index.jsonl"
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._silent = False

    async def open(self) -> FoundTurns:
        """Create the directory and read the stored turns."""
        return await self._in_thread(self._open)

    async def write(self, record: TurnRecord) -> None:
        """Store the record durably."""
        line = record.model_dump_json().encode()
        # Shielded, so that a published record is stored even if the harness is stopped now.
        await asyncio.shield(self._in_thread(lambda: self._append(line, durable=True)))

    def note(self, record: TurnRecord) -> None:
        """Store the record without fsync: it survives the end of this process, but not a crash of the machine."""
        self._append(record.model_dump_json().encode(), durable=False)

    def add(self, turn: int, line: bytes) -> bool:
        """Append an entry (one line of JSON) to the transcript of a turn; False if the transcript is full now."""
        size = 0

        def work() -> None:
            nonlocal size
            size = state_files.append_line(self._directory / f"{turn}.jsonl", line)

        self._guarded(work)
        return size < MOST_TRANSCRIPT_BYTES

    async def entries(self, turn: int) -> list[dict[str, Any]]:
        """The stored transcript of a turn."""
        return await self._in_thread(lambda: self._entries(turn))

    async def page(self, before: int | None, limit: int) -> list[TurnRecord]:
        """Turns with an id below `before`, the newest first."""
        return await self._in_thread(lambda: self._page(before, limit))

    async def prune(self) -> None:
        """Remove the oldest transcripts beyond the bounds."""
        await self._in_thread(lambda: self._guarded(self._prune))

    def close(self) -> None:
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do `work`; errors such as a full disk are logged once in a row and otherwise ignored."""
        try:
            work()
            self._silent = False
        except OSError as error:
            if not self._silent:
                log.error("the history of turns cannot be written, continuing without: %s", error)
            self._silent = True

    def _open(self) -> FoundTurns:
        self._guarded(lambda: self._directory.mkdir(parents=True, exist_ok=True))
        totals, listed = self._listed()
        # Transcripts count too: a new turn must not get the transcript of a turn that is no longer listed.
        last = max([*listed, *self._transcripts()], default=0)
        newest = max(listed, default=0)
        live: list[TurnRecord] = []
        for number in sorted(listed):
            record = _record(listed.pop(number))
            if record is None:
                continue
            if record.unfinished or number == newest:
                live.append(record)
            else:
                totals = totals.plus(record)
        for record in live[:-_MOST_UNFINISHED]:
            totals = totals.plus(record)
        return FoundTurns(last_id=last, totals=totals, live=live[-_MOST_UNFINISHED:])

    def _listed(self) -> tuple[Totals, dict[int, bytes]]:
        """Totals of the turns that are not listed, and the last line of each listed turn."""
        earlier = Totals()
        listed: dict[int, bytes] = {}
        found: Iterable[bytes] = ()
        try:
            found = state_files.read_lines(self._index, 2 * _INDEX_BYTES)
        except OSError as error:
            log.error("the history of turns cannot be read: %s", error)
        for line in found:
            if len(line) > _LONGEST_LINE:
                continue
            if (number := _ID.match(line)) is not None:
                if _record(line) is not None:
                    listed[int(number[1])] = line
            elif line.startswith(b'{"earlier":'):
                try:
                    earlier = _OlderTurns.model_validate_json(line).earlier
                except ValidationError:
                    continue
        return earlier, listed

    def _append(self, line: bytes, *, durable: bool) -> None:
        def work() -> None:
            with self._lock:
                if state_files.append_line(self._index, line, durable=durable) > _INDEX_BYTES:
                    self._shorten_index()

        self._guarded(work)

    def _shorten_index(self) -> None:
        """Rewrite the index with one line for each of the newest turns, and one for all others together."""
        earlier, listed = self._listed()
        kept: list[bytes] = []
        unfinished = size = 0
        for position, number in enumerate(sorted(listed, reverse=True)):
            record = _record(listed[number])
            if record is None:
                continue
            size += len(listed[number])
            unfinished += record.unfinished
            wanted = unfinished <= _MOST_UNFINISHED if record.unfinished else position < MOST_TURNS
            if wanted and (record.unfinished or size <= _KEPT_INDEX_BYTES):
                kept.append(listed[number])
            else:
                earlier = earlier.plus(record)
        first = _OlderTurns(earlier=earlier).model_dump_json().encode()
        state_files.replace_lines(self._index, [first, *reversed(kept)])

    def _page(self, before: int | None, limit: int) -> list[TurnRecord]:
        _, listed = self._listed()
        wanted = sorted((number for number in listed if before is None or number < before), reverse=True)[:limit]
        return [record for number in wanted if (record := _record(listed[number])) is not None]

    def _entries(self, turn: int) -> list[dict[str, Any]]:
        try:
            found = state_files.read_lines(self._directory / f"{turn}.jsonl", 2 * MOST_TRANSCRIPT_BYTES)
        except OSError as error:
            log.error("the transcript of turn %d cannot be read: %s", turn, error)
            return []
        return [entry for line in found if (entry := _entry(line, turn)) is not None]

    def _transcripts(self) -> dict[int, int]:
        """The size of each turn's transcript, in bytes."""
        try:
            return {
                int(name[1]): path.lstat().st_size
                for path in self._directory.iterdir()
                if (name := _TRANSCRIPT.fullmatch(path.name)) is not None
            }
        except OSError as error:
            log.error("the transcripts of turns cannot be listed: %s", error)
            return {}

    def _prune(self) -> None:
        sizes = self._transcripts()
        free = MOST_BYTES
        for count, number in enumerate(sorted(sizes, reverse=True)):
            free -= sizes[number]
            if count >= MOST_TRANSCRIPTS or free < 0:
                (self._directory / f"{number}.jsonl").unlink(missing_ok=True)


def _record(line: bytes) -> TurnRecord | None:
    try:
        return TurnRecord.model_validate_json(line)
    except ValidationError:
        return None


def _entry(line: bytes, turn: int) -> dict[str, Any] | None:
    """Parse a line of a transcript; None if it is no valid entry of this turn."""
    entry = parse_object(line)
    if entry is None or entry.get("turn") != turn or entry.get("kind") not in _ENTRY_KINDS:
        return None
    return entry if all(type(entry.get(key)) is int and 0 < entry[key] < 2**53 for key in ("attempt", "n")) else None
