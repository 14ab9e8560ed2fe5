"""The turns of an agent, kept in its state directory: what they were and what happened in them. Bounded in size.

`index.jsonl` has a line for every change of a turn, the last one counts; `<turn>.jsonl` has what happened in it. Both
are the agent's to write, so what is no line of ours is skipped. When they cannot be written, the harness goes on.
"""

from __future__ import annotations

import asyncio
import json
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
from hive_agent.turns.records import Totals, TurnRecord

log = logging.getLogger(__name__)

MOST_TURNS = 1_000
"""So many turns are listed at least, unless they are unusually long."""
MOST_TRANSCRIPTS = 300
MOST_TRANSCRIPT_BYTES = 4 * 1024 * 1024
"""Of one turn; what happens beyond that is not kept."""
MOST_BYTES = 64 * 1024 * 1024
"""Of all turns' transcripts."""
_INDEX_BYTES = 1024 * 1024
_KEPT_INDEX_BYTES = 384 * 1024
_LONGEST_LINE = 32 * 1024
_MOST_UNFINISHED = 50
# No turn has so high a number: what is found is the agent's to write, and there have to be numbers beyond it.
_ID = re.compile(rb'\{"id":([1-9][0-9]{0,10}),')
_TRANSCRIPT = re.compile(r"([1-9][0-9]{0,10})\.jsonl")
_ENTRY_KINDS = frozenset(KINDS.values())

T = TypeVar("T")


class _OlderTurns(BaseModel):
    """A line that stands for turns that are not listed any more."""

    earlier: Totals


@dataclass(frozen=True)
class FoundTurns:
    """What earlier lives of the harness have left: `live` are the last turn and those still to be dealt with, oldest
    first; `totals` are of all others.
    """

    last_id: int
    totals: Totals
    live: list[TurnRecord]


class TurnHistory:
    """One harness's; all work on files is done on one thread, but for `note` and `add`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._index = directory / "index.jsonl"
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._silent = False

    async def open(self) -> FoundTurns:
        """Make the directory and read what is in it."""
        return await self._in_thread(self._open)

    async def write(self, record: TurnRecord) -> None:
        """Keep the record as it is now, durably."""
        line = record.model_dump_json().encode()
        # Also if the harness is ended meanwhile: what was told of a turn is to be true in its next life.
        await asyncio.shield(self._in_thread(lambda: self._append(line, durable=True)))

    def note(self, record: TurnRecord) -> None:
        """Keep the record as it is now, at once; it survives the end of this process, not that of the machine."""
        self._append(record.model_dump_json().encode(), durable=False)

    def add(self, turn: int, line: bytes) -> bool:
        """Keep something that happened in a turn, as one line of JSON; False if nothing more is kept of this turn."""
        size = 0

        def work() -> None:
            nonlocal size
            size = state_files.append_line(self._directory / f"{turn}.jsonl", line)

        self._guarded(work)
        return size < MOST_TRANSCRIPT_BYTES

    async def entries(self, turn: int) -> list[dict[str, Any]]:
        """What happened in a turn, as far as it is kept."""
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
        """Do it; a disk that is full, or a place that is spoilt, is logged once and no reason to stop."""
        try:
            work()
            self._silent = False
        except OSError as error:
            if not self._silent:
                log.error("the history of turns cannot be written, going on without: %s", error)
            self._silent = True

    def _open(self) -> FoundTurns:
        self._guarded(lambda: self._directory.mkdir(parents=True, exist_ok=True))
        totals, listed = self._listed()
        # Transcripts count too: one of a turn that is not listed any more must not become a new turn's.
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
        """Totals of what is not listed, and the last line of each turn."""
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
                    self._shorten()

        self._guarded(work)

    def _shorten(self) -> None:
        """Write the index anew with one line for each of the newest turns, and one for all others together."""
        earlier, listed = self._listed()
        kept: list[bytes] = []
        unfinished = size = 0
        for place, number in enumerate(sorted(listed, reverse=True)):
            record = _record(listed[number])
            if record is None:
                continue
            size += len(listed[number])
            unfinished += record.unfinished
            wanted = unfinished <= _MOST_UNFINISHED if record.unfinished else place < MOST_TURNS
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
            log.error("what happened in turn %d cannot be read: %s", turn, error)
            return []
        return [entry for line in found if (entry := _entry(line, turn)) is not None]

    def _transcripts(self) -> dict[int, int]:
        """The size of each turn's transcript, in bytes."""
        try:
            return {
                int(name[1]): place.lstat().st_size
                for place in self._directory.iterdir()
                if (name := _TRANSCRIPT.fullmatch(place.name)) is not None
            }
        except OSError as error:
            log.error("the transcripts of turns cannot be listed: %s", error)
            return {}

    def _prune(self) -> None:
        sizes = self._transcripts()
        room = MOST_BYTES
        for count, number in enumerate(sorted(sizes, reverse=True)):
            room -= sizes[number]
            if count >= MOST_TRANSCRIPTS or room < 0:
                (self._directory / f"{number}.jsonl").unlink(missing_ok=True)


def _record(line: bytes) -> TurnRecord | None:
    try:
        return TurnRecord.model_validate_json(line)
    except ValidationError:
        return None


def _entry(line: bytes, turn: int) -> dict[str, Any] | None:
    """The line, if it is what happened in this turn."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("turn") != turn or entry.get("kind") not in _ENTRY_KINDS:
        return None
    return entry if all(type(entry.get(key)) is int and 0 < entry[key] < 2**53 for key in ("attempt", "n")) else None
