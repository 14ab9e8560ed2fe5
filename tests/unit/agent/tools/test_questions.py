"""The tools for what is to come later, as an agent CLI sees them, and their texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hive_agent.tools import questions
from hive_agent.tools.output import LONGEST_OUTPUT, last_lines
from hive_core.protocol import AskRequest, OpenItems, Proposal, RemindRequest, StatusRequest
from tests.unit.agent.fake_core_api import FakeCore, refusal
from tests.unit.agent.fake_core_gate import made
from tests.unit.agent.fake_core_questions import NOW, question, reminder
from tests.unit.agent.tools.tool_client import text, tools


def without_key(request: Any) -> Any:
    """The request, after a look at its key: each call has one."""
    assert request.idempotency_key.startswith("tool:")
    return request.model_copy(update={"idempotency_key": None})


async def test_ask_operator(core: FakeCore, tmp_path: Path) -> None:
    """A question goes to the operator with options, free text and time limit; the model is told not to wait for it."""
    async with tools(core, tmp_path) as client:
        plain = text(await client.call_tool("ask_operator", {"question": "Which?"}))
        arguments = {"question": "Which?", "options": ["red", "blue"], "free_text": False, "wait_minutes": 90}
        limited = text(await client.call_tool("ask_operator", arguments))
        bad = [
            await client.call_tool("ask_operator", {"question": "Which?", **more})
            for more in ({"options": ["two\nlines"]}, {"options": ["x"] * 11}, {"wait_minutes": 0}, {"question": ""})
        ]
        core.refusals["POST /v1/questions"] = refusal(429, "too_many_questions", "20 are open", "wait for answers")
        refused = await client.call_tool("ask_operator", {"question": "Which?"})
    assert [without_key(request) for request in core.asking.asked] == [
        AskRequest(text="Which?"),
        AskRequest(text="Which?", options=["red", "blue"], free_text=False, expires_in=5_400.0),
    ]
    assert plain.startswith("Asked as question 17. The answer comes as a message from `operator`, a reply to 17. Do ")
    assert "end your turn; do not wait for it" in plain
    assert "If there is none by 2026-01-02 04:34:05 UTC, a message from `system` says so." in limited
    assert all(result.is_error for result in bad)
    assert "options[0]: " in text(bad[0])
    assert refused.is_error
    assert text(refused).endswith("20 are open\nwait for answers")


async def test_remind(core: FakeCore, tmp_path: Path) -> None:
    """A reminder is for a time with its zone or for so many minutes ahead; what is no time is refused in words."""
    async with tools(core, tmp_path) as client:
        moment = "2026-03-01T09:00:00+01:00"
        said = [
            text(await client.call_tool("remind", {"text": "look", **when}))
            for when in ({"at": moment}, {"after_minutes": 1.5})
        ]
        bad = [
            text(await client.call_tool("remind", {"text": "look", **when}))
            for when in ({"at": "tomorrow"}, {"at": "2026-03-01T09:00:00"}, {"after_minutes": -1}, {"at": "x" * 999})
        ]
        gone = text(await client.call_tool("cancel_reminder", {"number": 4}))
        core.refusals["POST /v1/reminders/9/cancel"] = refusal(404, "unknown_reminder", "there is no reminder 9")
        none = await client.call_tool("cancel_reminder", {"number": 9})
    assert [without_key(request) for request in core.asking.asked] == [
        RemindRequest(text="look", at=datetime(2026, 3, 1, 8, tzinfo=UTC)),
        RemindRequest(text="look", after=90.0),
    ]
    assert said == ["Reminder 4 comes at 2026-03-01 08:00:00 UTC.", "Reminder 4 comes at 2026-01-02 03:05:35 UTC."]
    assert "'tomorrow' is not a time; write it as in 2026-03-01T09:00:00+00:00" in bad[0]
    assert "has no time zone" in bad[1]
    assert "after_minutes" in bad[2]
    assert len(bad[3]) < 300
    assert (gone, core.asking.cancelled) == ("Reminder 4 will not come.", [4])
    assert none.is_error and "there is no reminder 9" in text(none)


async def test_set_status(core: FakeCore, tmp_path: Path) -> None:
    """What the agent says it is at is one short line; empty, nothing is shown; too long, it is refused."""
    async with tools(core, tmp_path) as client:
        shown = text(await client.call_tool("set_status", {"text": " reading\nthe  logs "}))
        nothing = text(await client.call_tool("set_status", {"text": " "}))
        long = await client.call_tool("set_status", {"text": "x" * 201})
    assert core.asking.asked == [StatusRequest(text="reading the logs"), StatusRequest(text="")]
    assert (shown, nothing) == ("Shown beside your name.", "Nothing is shown beside your name.")
    assert long.is_error and "at most 200 characters" in text(long)


async def test_read_logs(core: FakeCore, tmp_path: Path) -> None:
    """The end of one's own log; where it is cut stands how long it is and how to get the rest, and that works."""
    core.asking.lines = [f"{number:03} {'x' * 996}" for number in range(100)]
    async with tools(core, tmp_path) as client:
        first, *lines, end = text(await client.call_tool("read_logs", {"lines": 2})).splitlines()
        assert lines == core.asking.lines[-2:]
        mark = first.split()[1]
        assert first == f"--- {mark} begin: log, in the words of you" and end == f"--- {mark} end"
        last = text(await client.call_tool("read_logs", {}))
        head, _, *lines, _ = last.splitlines()
        assert head.startswith("[the last 29 of 100 lines, which have 100099 characters; for those before: skip=29]")
        assert lines == core.asking.lines[-29:]
        _, _, *before, _ = text(await client.call_tool("read_logs", {"skip": 29})).splitlines()
        assert before == core.asking.lines[-58:-29]
        assert text(await client.call_tool("read_logs", {"skip": 100})) == "There are no lines."


async def test_list_open(core: FakeCore, tmp_path: Path) -> None:
    """All that is open is listed; one question or reminder is shown in full by its number."""
    long = question(17, "Which? " * 100, options=["red", "blue"], expires_at=NOW + timedelta(hours=1))
    proposal = Proposal.model_validate(made(agent="alice").model_dump(include=set(Proposal.model_fields)))
    async with tools(core, tmp_path) as client:
        assert text(await client.call_tool("list_open", {})) == "Nothing is open."
        core.asking.open = OpenItems(questions=[long], reminders=[reminder(4, "look\nat it")], proposals=[proposal])
        listed = text(await client.call_tool("list_open", {}))
        whole = text(await client.call_tool("list_open", {"question": 17}))
        reminded = text(await client.call_tool("list_open", {"reminder": 4}))
        none = await client.call_tool("list_open", {"question": 4})
    assert listed.startswith(
        "Questions to the operator (1):\n17, asked 2026-01-02 03:04:05 UTC, ends 2026-01-02 04:04:05"
    )
    assert "... (712 characters)\n\nPending reminders (1):\n4, at 2026-01-02 03:04:05 UTC:\n> look at it" in listed
    assert "Proposals in progress (1):\nalice/3 config by ada: built" in listed
    assert whole.endswith(f"> {long.text}\n\n> 1. red\n> 2. blue")
    assert reminded == "Reminder 4, at 2026-01-02 03:04:05 UTC:\n\n> look\n> at it"
    assert none.is_error and "No question 4 of yours is open." in text(none)


def test_a_long_list_comes_in_parts() -> None:
    """However much is open, every item is shown by one call or the next, and no answer is longer than a CLI takes."""
    texts = [f"{number:03} \u202e{'y' * 400}" for number in range(100)]
    items = OpenItems(
        questions=[question(number, texts[number]) for number in range(20)],
        reminders=[reminder(number, texts[number]) for number in range(100)],
        proposals=[],
    )
    shown, skip = "", 0
    for _ in range(10):
        part = questions.open_items_text(items, skip)
        assert len(part) <= LONGEST_OUTPUT
        assert "\u202e" not in part
        shown += part
        if "; for more: skip=" not in part:
            break
        skip = int(part.rpartition("skip=")[2].rstrip("]"))
    assert shown.count(" UTC:\n> ") == 120
    assert questions.open_items_text(items, 500) == "[0 of 120 are shown]"


def test_the_end_of_a_log() -> None:
    """More lines left out than there are leave none, and a line that is too long by itself is cut with its length."""
    assert last_lines(["a", "b"], 1) == ("", "a")
    assert last_lines(["a"] * 80, 100) == ("", "")
    cut = "\n".join(last_lines(["a", "b" * 40_000]))
    assert cut.startswith("[the end of a line of 40000 characters; for those before: skip=1]\nbbb")
    assert len(cut) < LONGEST_OUTPUT + 100
