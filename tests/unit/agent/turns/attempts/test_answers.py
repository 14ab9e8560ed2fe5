"""The text that ends a turn is the answer to the operator, where the model has sent none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_agent.backends.base import Failed, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Entry, ToolCall, ToolResult, TranscriptText
from hive_agent.turns.attempts import answers as answers_module
from hive_agent.turns.attempts.answers import OwedAnswers
from hive_core.protocol import AgentConfig, ErrorBody
from tests.integration.backends.claude_code import delivery
from tests.unit.agent.backends.fake_backend import forever, serving
from tests.unit.agent.fake_core_api import FakeCore, refusal


def called(name: str, *, fails: bool = False, **arguments: Any) -> list[Entry]:
    """A call of a tool, and its result."""
    return [ToolCall("1", name, arguments), ToolResult("1", "it went so", fails, 10)]


def says(*texts: str) -> list[Entry]:
    return [TranscriptText(text) for text in texts]


def owed(entries: Sequence[Entry], *, sender: str = "operator") -> list[tuple[int, str]]:
    """Return the answers that are owed after these entries of a turn with message 7."""
    answers = OwedAnswers([delivery("how many?", 7, sender)])
    for entry in entries:
        answers.record(entry)
    return answers.owed()


SENT = called("mcp__hive__send", to="operator", body="4")


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (says("four"), "four"),
        (says("I", "count: four"), "I\n\ncount: four"),
        ([*says("let me see"), *called("Bash", command="ls"), *says("four")], "four"),
        ([*says("four"), *called("mcp__hive__set_status", text="done")], "four"),
        ([*called("hive_send", to="bob", body="four", reply_to=3), *says("four")], "four"),
        ([*called("hive_send", to="bob", body="how many?"), *says("Sent.")], None),
        ([*called("mcp_hive_send", fails=True, to="operator", body="4"), *says("four")], "four"),
        ([*called("send", to="operator", body="4"), *says("of another server")], "of another server"),
        ([*called("hive_send", to="operator", body="of 3", reply_to=3), *says("four")], "four"),
        ([*SENT, *says("I answered")], None),
        ([*called("hive_send", to="operator", body="4", reply_to=7), *says("I answered")], None),
        ([*called("mcp_hive_ask_operator", question="which?"), *says("I asked")], None),
        (says(" \n"), None),
        ([], None),
    ],
)
def test_answer_of_a_turn(entries: list[Entry], text: str | None) -> None:
    """The answer is the text after the last call of a tool, unless something was sent to the operator, or passed on."""
    assert owed(entries) == ([] if text is None else [(7, text)])


@pytest.mark.parametrize("sender", ["bob", "system", "hm1nd"])
def test_only_the_operator_is_owed_an_answer(sender: str) -> None:
    """No text is sent to an agent: two of them would answer each other for ever."""
    assert owed(says("four"), sender=sender) == []


def test_messages_that_come_during_the_turn() -> None:
    """A text answers the messages that the model had got before it, and not those that were added after it."""
    answers = OwedAnswers([delivery("sheep?", 7, "operator")])
    answers.record(TranscriptText("four"))
    answers.add([delivery("goats?", 8, "operator"), delivery("hello", 9, "bob")])
    assert answers.owed() == [(7, "four")]
    answers.record(TranscriptText("two"))
    assert answers.owed() == [(7, "four"), (8, "two")]
    for entry in called("hive_send", to="operator", body="four", reply_to=7):
        answers.record(entry)
    assert answers.owed() == [(8, "two")]


@given(st.lists(st.dictionaries(st.sampled_from(["kind", "id", "name", "input", "is_error"]), st.one_of(
    st.sampled_from(["call", "result", "1", "hive_send", False]), st.integers(), st.lists(st.integers()),
    st.fixed_dictionaries({"to": st.just("operator"), "reply_to": st.one_of(st.lists(st.integers()), st.text())}),
))))  # fmt: skip
def test_a_forged_transcript_breaks_nothing(entries: list[dict[str, Any]]) -> None:
    """Whatever the agent has written into the transcript of earlier attempts, the turn ends and answers."""
    answers = OwedAnswers([delivery("how many?", 7, "operator")])
    answers.replay(entries)
    answers.record(TranscriptText("four"))
    assert answers.owed() in ([], [(7, "four")])


# --- the harness --------------------------------------------------------------------------------------------------


def modelled(core: FakeCore) -> None:
    """Let the agent have a backend with a model, whose texts are answers."""
    core.config = AgentConfig(backend="claude")


async def test_the_text_is_sent_before_the_message_is_acknowledged(core: FakeCore, tmp_path: Path) -> None:
    """The answer is stored first; after a crash in between, the next attempt does not send another one."""
    modelled(core)

    async def answers(_turn: Turn) -> TurnOutcome:
        life.backend.emit(TranscriptText(f"four {life.backend.attempts}"))
        return Ok()

    number = await core.deliver("how many?")
    core.refusals["POST /v1/messages/ack"] = refusal(503, "database_busy", "not now")
    async with serving(core, tmp_path, answers) as life:
        await core.until(lambda: "POST /v1/messages/ack" in core.calls)
    [sent] = core.sent
    assert (sent.to, sent.body, sent.reply_to) == ("operator", "four [(1, 1)]", number)
    core.refusals.clear()
    (tmp_path / "turns" / "index.jsonl").unlink()  # The turn is forgotten, so it is run again.
    core.refuse_send = lambda _request: refusal(409, "idempotency_conflict", "used for another message")
    async with serving(core, tmp_path, answers) as life:
        await core.until(lambda: core.acknowledged() == [number])
        assert not [entry for entry in life.told("entry", kind="notice") if "not sent" in str(entry["text"])]
    assert len(core.sent) == 1


async def test_an_answer_of_an_earlier_attempt_counts(core: FakeCore, tmp_path: Path) -> None:
    """Messages that were sent before the harness was stopped in the turn are known in the next attempt."""
    modelled(core)

    async def sends(turn: Turn) -> TurnOutcome:
        for entry in SENT:
            life.backend.emit(entry)
        return await forever(turn)

    async def goes_on(_turn: Turn) -> TurnOutcome:
        life.backend.emit(TranscriptText("I answered before"))
        return Ok()

    number = await core.deliver("how many?")
    async with serving(core, tmp_path, sends) as life:
        await life.until(lambda: life.told("entry", kind="result"))
        await life.end()
    async with serving(core, tmp_path, goes_on) as life:
        await core.until(lambda: core.acknowledged() == [number])
    assert core.sent == []


async def test_an_answer_that_the_hive_refuses(core: FakeCore, tmp_path: Path) -> None:
    """An agent that may not write to the operator handles the message all the same, and the transcript says so."""
    modelled(core)
    core.refuse_send = lambda _request: refusal(403, "recipient_not_allowed", "not to operator")

    async def answers(_turn: Turn) -> TurnOutcome:
        life.backend.emit(TranscriptText("four \udcff" * 100_000))
        return Ok()

    number = await core.deliver("how many?")
    async with serving(core, tmp_path, answers) as life:
        await core.until(lambda: core.acknowledged() == [number])
        assert life.told("entry", kind="notice", level="error")


@pytest.mark.parametrize(("status", "code"), [(429, "sending_too_fast"), (507, "database_full"), (429, "inbox_full")])
async def test_an_answer_that_the_hive_has_no_room_for(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """It is sent again until it is taken, and only then the message is acknowledged; the transcript says so once."""
    monkeypatch.setattr(answers_module, "_FIRST_PAUSE", 0.01)
    modelled(core)
    refusals = [refusal(status, code, "no room") for _ in range(3)]

    def no_room(_request: object) -> tuple[int, ErrorBody] | None:
        assert core.acknowledged() == []
        return refusals.pop() if refusals else None

    core.refuse_send = no_room

    async def answers(_turn: Turn) -> TurnOutcome:
        life.backend.emit(TranscriptText("four"))
        return Ok()

    number = await core.deliver("how many?")
    async with serving(core, tmp_path, answers) as life:
        await core.until(lambda: core.acknowledged() == [number])
        assert [entry["text"] for entry in life.told("entry", kind="notice", level="warning")] == [
            f"the answer to message {number} waits until the hive takes it: no room"
        ]
        assert life.backend.attempts == [(1, 1)]
    [sent] = core.sent
    assert (sent.body, sent.reply_to) == ("four", number)


async def test_rules_answer_for_themselves(core: FakeCore, tmp_path: Path) -> None:
    """The scripted backend has no model: what its transcript says is sent to nobody."""

    async def tells(_turn: Turn) -> TurnOutcome:
        life.backend.emit(TranscriptText("Message 1 matches no rule."))
        return Ok()

    number = await core.deliver("how many?")
    async with serving(core, tmp_path, tells) as life:
        await core.until(lambda: core.acknowledged() == [number])
    assert core.sent == []


# --- lost calls -----------------------------------------------------------------------------------------------------


async def test_a_turn_with_lost_calls_is_tried_again(core: FakeCore, tmp_path: Path) -> None:
    """A turn whose answer did not reach the hive is no good one: it is tried again, and acknowledged only then."""
    failures = ["Not connected", "MCP error -32001: Request timed out"]

    async def answers(_turn: Turn) -> TurnOutcome:
        life.backend.emit(ToolCall("1", "mcp__hive__send", {"to": "bob"}))
        lost = failures.pop() if failures else ""
        life.backend.emit(ToolResult("1", lost or "Sent to bob", bool(lost), 10))
        assert core.acknowledged() == []
        return Ok()

    number = await core.deliver("how many?", "bob")
    async with serving(core, tmp_path, answers) as life:
        await core.until(lambda: core.acknowledged() == [number])
        assert life.backend.attempts == [(1, 1), (1, 2), (1, 3)]
        details = [str(turn["detail"]) for turn in life.told("turn", state="waiting", failure="lost_tools")]
    assert details == [
        "the hive's tools did not answer (send): MCP error -32001: Request timed out",
        "the hive's tools did not answer (send): Not connected",
    ]


async def test_a_message_that_always_loses_calls_is_held(core: FakeCore, tmp_path: Path) -> None:
    """A message whose turns end the hive's MCP server every time waits for the operator after some attempts."""

    async def loses(_turn: Turn) -> TurnOutcome:
        return Failed("lost_tools", "Not connected")

    await core.deliver("stop python")
    async with serving(core, tmp_path, loses) as life:
        held = await life.turn(1, "held")
        assert held["attempt"] == 5
