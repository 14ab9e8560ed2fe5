"""A history of turns that anything may have been written into: it opens, it stays bounded, and turns go on."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from hive_agent.backends.transcript import TranscriptText
from hive_agent.turns.conversation.state import ConversationStateFile
from hive_agent.turns.history import TurnHistory
from hive_agent.turns.turn_log import TurnLog

_NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, 2, 10**11, 2**53, 2**63, 1e300]))
_STATES = st.sampled_from(["running", "waiting", "held", "ok", "failed", "skipped", "other"])
_REF = st.fixed_dictionaries({"id": _NUMBERS, "sender": st.text(max_size=9), "sent_at": _NUMBERS})
_RECORDS = st.fixed_dictionaries(
    {"id": st.one_of(st.integers(1, 5), _NUMBERS), "started_at": _NUMBERS, "messages": st.lists(_REF, max_size=3)},
    optional={
        "attempt": _NUMBERS,
        "state": _STATES,
        "ended_at": _NUMBERS,
        "next_try_at": _NUMBERS,
        "detail": st.text(max_size=20),
        "tokens_in": _NUMBERS,
        "cost_usd": _NUMBERS,
        "settled": st.booleans(),
        "compacted": st.booleans(),
    },
)
_ENTRIES = st.fixed_dictionaries(
    {"turn": st.integers(0, 3), "attempt": _NUMBERS, "n": _NUMBERS, "kind": st.sampled_from(["usage", "call", "text"])},
    optional={"input": _NUMBERS, "cost_usd": _NUMBERS, "text": st.text(max_size=5)},
)
_JSON = st.recursive(st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=9)), st.lists)


def _lines(of: st.SearchStrategy[object]) -> st.SearchStrategy[bytes]:
    """A file with such lines, among them nonsense, some of it torn."""
    line = st.one_of(
        of.map(lambda value: json.dumps(value, separators=(",", ":")).encode()),
        _JSON.map(lambda value: json.dumps({"earlier": value}, separators=(",", ":")).encode()),
        st.binary(max_size=30),
    )
    return st.tuples(st.lists(line, max_size=12), st.binary(max_size=5)).map(lambda two: b"\n".join([*two[0], two[1]]))


@given(_lines(_RECORDS), _lines(_ENTRIES), _lines(_JSON))
@settings(max_examples=30, deadline=None)
def test_any_history_opens(index: bytes, transcript: bytes, memory: bytes) -> None:
    """Whatever the files hold: the harness comes up, its turns have new numbers, are kept, and found again."""

    async def live() -> None:
        # Nothing is killed here, so nothing need be on disk.
        with tempfile.TemporaryDirectory() as directory, patch("os.fsync"), patch("os.fdatasync"):
            place = Path(directory)
            (place / "index.jsonl").write_bytes(index)
            (place / "1.jsonl").write_bytes(transcript)
            (place / "conversation.json").write_bytes(memory)
            kept = ConversationStateFile(place / "conversation.json", "scripted")
            kept.save()
            assert ConversationStateFile(place / "conversation.json", "scripted").now == kept.now
            turn_log = await TurnLog.open(TurnHistory(place), lambda _kind, data: json.dumps(dict(data)))
            known = {record.id for record in turn_log.unfinished()}
            assert len(known) <= 50
            for record in turn_log.unfinished():
                await turn_log.begin(record, [])
                (await turn_log.entry_sink(record))(TranscriptText("on"))
                await turn_log.end(record, "ok")
                await turn_log.settle(record)
            turn = await turn_log.begin(None, [])
            assert turn.id not in known
            await turn_log.end(turn, "held", detail="wait")
            json.dumps([record.summary() for record in await turn_log.page(None, 10)], allow_nan=False)
            before = turn_log.totals
            turn_log.close()
            again = await TurnLog.open(TurnHistory(place), lambda _kind, _data: None)
            assert [record.id for record in again.unfinished()] == [turn.id]
            assert again.totals == before
            again.close()

    asyncio.run(live())
