"""What is kept of turns: bounded, whole after a kill, and no trap for the harness whatever the agent writes there."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_agent.backends.transcript import TokenUsage, ToolCall, TranscriptText
from hive_agent.infra import state_files
from hive_agent.turns import history as history_module
from hive_agent.turns.history import TurnHistory
from hive_agent.turns.records import Ref, Totals, TurnRecord
from hive_agent.turns.turn_log import INTERRUPTED, TurnLog


def record(number: int, state: str = "ok", **values: object) -> TurnRecord:
    fields = {"id": number, "state": state, "started_at": 1.0, "messages": [Ref(id=number, sender="ada", sent_at=1)]}
    return TurnRecord.model_validate(fields | values)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "turns"


@pytest.fixture
async def history(place: Path) -> AsyncIterator[TurnHistory]:
    """An empty history."""
    opened = TurnHistory(place)
    await opened.open()
    yield opened
    opened.close()


async def reopened(place: Path) -> TurnLog:
    """The book of the harness's next life."""
    return await TurnLog.open(TurnHistory(place), lambda _kind, _data: None)


async def test_what_is_written_is_found(history: TurnHistory, place: Path) -> None:
    """The last line about a turn counts; turns come newest first, and totals are of all."""
    for number in range(1, 6):
        await history.write(record(number, "running"))
        await history.write(record(number, tokens_in=10, cost_usd=0.5))
    page = await history.page(4, 2)
    assert [(found.id, found.state) for found in page] == [(3, "ok"), (2, "ok")]
    turn_log = await reopened(place)
    assert turn_log.totals == Totals(turns=5, tokens_in=50, cost_usd=2.5)
    assert [found.id for found in await turn_log.page(None, 2)] == [5, 4]
    turn_log.close()


async def test_an_interrupted_turn_is_counted_from_its_transcript(history: TurnHistory, place: Path) -> None:
    """A harness that was killed could not say what its turn took: that is found in what happened in the turn."""
    turn_log = TurnLog(history, await history.open(), lambda _kind, _data: None)
    turn = await turn_log.begin(None, [])
    emit = await turn_log.entry_sink(turn)
    emit(ToolCall("1", "send", {}))
    emit(TokenUsage(input=7, output=2, cost_usd=0.1))
    emit(TranscriptText("half"))
    again = await reopened(place)
    [found] = again.unfinished()
    assert (found.id, found.state, found.detail) == (1, "waiting", INTERRUPTED)
    assert (found.tool_calls, found.tokens_in, found.tokens_out, found.cost_usd) == (1, 7, 2, 0.1)
    emit = await again.entry_sink(found)
    emit(TranscriptText("and on"))
    assert [entry["n"] for entry in await again.entries(1)] == [1, 2, 3, 4]
    again.close()


async def test_the_list_is_bounded(history: TurnHistory, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns there were, the list stays small, forgets the oldest first, and never what is unfinished."""
    monkeypatch.setattr(history_module, "_INDEX_BYTES", 20_000)
    monkeypatch.setattr(history_module, "_KEPT_INDEX_BYTES", 10_000)
    await history.write(record(1, "held"))
    for number in range(2, 400):
        history.note(record(number, tokens_out=1))
        assert (place / "index.jsonl").stat().st_size <= 21_000
    turn_log = await reopened(place)
    assert [found.id for found in turn_log.held()] == [1]
    assert turn_log.totals.turns == 399
    assert turn_log.totals.tokens_out == 398
    assert [found.id for found in await turn_log.page(None, 3)] == [399, 398, 397]
    turn_log.close()


async def test_unfinished_turns_are_bounded_too(
    history: TurnHistory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns that wait are not forgotten, but for those that an agent made up by the thousand."""
    monkeypatch.setattr(history_module, "_INDEX_BYTES", 20_000)
    for number in range(1, 1_000):
        history.note(record(number, "held"))
    assert (place / "index.jsonl").stat().st_size <= 25_000
    turn_log = await reopened(place)
    assert [found.id for found in turn_log.held()] == list(range(950, 1_000))
    turn_log.close()


async def test_transcripts_are_bounded(history: TurnHistory, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn's transcript ends at its bound and says so; of all transcripts the newest stay."""
    monkeypatch.setattr(history_module, "MOST_TRANSCRIPT_BYTES", 5_000)
    monkeypatch.setattr(history_module, "MOST_TRANSCRIPTS", 3)
    turn_log = TurnLog(history, await history.open(), lambda _kind, _data: None)
    for _ in range(5):
        turn = await turn_log.begin(None, [])
        emit = await turn_log.entry_sink(turn)
        for _ in range(200):
            emit(TranscriptText("x" * 100))
        await turn_log.end(turn, "ok")
        await turn_log.settle(turn)
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(place)}
    assert sorted(sizes) == ["3.jsonl", "4.jsonl", "5.jsonl", "index.jsonl"]
    assert max(sizes.values()) <= 6_000
    last = (await turn_log.entries(5))[-1]
    assert (last["kind"], last["level"]) == ("notice", "warning")
    assert await turn_log.entries(1) == []


@pytest.mark.parametrize("number", [10**11, 10**12, 10**13, 10**30, 0, -1])
async def test_a_number_that_no_turn_has(history: TurnHistory, place: Path, number: int) -> None:
    """A turn's number that was made up does not use up the numbers of those that come."""
    line = record(1).model_dump_json().replace('"id":1', f'"id":{number}', 1)
    with (place / "index.jsonl").open("a") as index:
        index.write(line + "\n")
    (place / f"{number}.jsonl").touch()
    turn_log = await reopened(place)
    assert (await turn_log.begin(None, [])).id == 1
    turn_log.close()


async def test_a_forgotten_turn_gives_its_transcript_to_no_other(history: TurnHistory, place: Path) -> None:
    """If the list is lost, new turns do not go on in the files of old ones."""
    history.add(7, b'{"turn":7,"attempt":1,"n":1,"kind":"text","text":"old"}')
    (place / "index.jsonl").unlink(missing_ok=True)
    turn_log = await reopened(place)
    turn = await turn_log.begin(None, [])
    assert turn.id == 8
    turn_log.close()


@pytest.mark.parametrize("what", ["directory", "link", "pipe", "empty", "no_access"])
async def test_a_spoilt_place(tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where the list is no file, the harness neither follows, waits nor stops; it goes on without, and says so."""
    place = tmp_path / "turns"
    place.mkdir()
    index = place / "index.jsonl"
    secret = tmp_path / "secret"
    secret.write_text("mine\n")
    match what:
        case "directory":
            index.mkdir()
        case "link":
            index.symlink_to(secret)
        case "pipe":
            os.mkfifo(index)
        case "empty":
            index.touch()
        case "no_access":
            place.rmdir()
            place.write_text("a file where the directory should be")
    turn_log = await reopened(place)
    turn = await turn_log.begin(None, [])
    (await turn_log.entry_sink(turn))(TranscriptText("x"))
    await turn_log.end(turn, "ok")
    await turn_log.settle(turn)
    assert turn.id == 1
    turn_log.close()
    assert secret.read_text() == "mine\n"
    assert ("the history of turns cannot be" in caplog.text) == (what != "empty")


async def test_a_torn_line_is_in_no_others_way(history: TurnHistory, place: Path) -> None:
    """A line that a kill cut short is skipped, and the next one is whole."""
    await history.write(record(1))
    with (place / "index.jsonl").open("ab") as index:
        index.write(b'{"id":2,"attempt":1,"sta')
    await history.write(record(3))
    assert [found.id for found in await history.page(None, 10)] == [3, 1]


def test_lines_of_a_long_file(tmp_path: Path) -> None:
    """Of a file that is too long the last whole lines are read."""
    file = tmp_path / "lines"
    file.write_bytes(b"\n".join(b"%03d" % number for number in range(100)) + b"\ntorn")
    assert list(state_files.read_lines(file, 14)) == [b"098", b"099"]
    assert len(list(state_files.read_lines(file, 10_000))) == 100
    assert list(state_files.read_lines(tmp_path / "none", 10)) == []


def test_entries_of_others_are_skipped(tmp_path: Path) -> None:
    """What the agent writes into a transcript counts only if it looks like an entry of that turn."""
    good = {"turn": 1, "attempt": 1, "n": 1, "kind": "text", "text": "x"}
    bad: list[object] = [good | {"turn": 2}, good | {"kind": "evil"}, good | {"n": True}, good | {"n": 0}, [], 5, None]
    bad.append(good | {"attempt": 2**60})
    (tmp_path / "1.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in [*bad, good]) + "[" * 100_000 + "\n"
    )
    assert TurnHistory(tmp_path)._entries(1) == [good]
