"""`questions`, `answer`, `reminders` and `open`, against a daemon's answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from click import unstyle

from hive_core.cli.events import lines
from hive_core.protocol import AnswerRequest, PageTicket, Question, QuestionList, QuestionsQuery, ReminderList
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.fake_host_http import Refusal
from tests.unit.core.cli.fake_host_questions import question, reminder
from tests.unit.core.cli.run_cli import Program

NOW = "2026-01-02T03:04:05+00:00"


async def test_questions(hive: Program, daemon: FakeHost) -> None:
    """`questions` shows who asks what since when and until when, with the options by their numbers."""
    end = datetime.now(UTC) + timedelta(hours=1)
    daemon.asking.questions = [question(17), question(18, text="Go\non?", options=["yes", "no"], expires_at=end)]
    daemon.asking.more = 3
    ended = await hive.run("questions", "--agent", "ada", "-n", "2")
    assert (ended.code, ended.err) == (0, "more, newer questions: 3\n")
    first, second = ended.out.split("\n\n")
    assert first == "ada  #17  2 min ago\n  Which colour?"
    assert second.startswith("ada  #18  2 min ago  ends ")
    assert second.endswith("\n  Go\n  on?\n  1. yes\n  2. no\n")
    assert daemon.asked[-1][2] == QuestionsQuery(view="open", agent="ada", limit=2)


async def test_all_questions(hive: Program, daemon: FakeHost) -> None:
    """`questions --all` also shows how those ended, and who answered what."""
    answered = question(17, state="answered", answer="red", answered_by="operator:me")
    daemon.asking.questions = [answered, question(18, state="expired")]
    ended = await hive.run("questions", "--all")
    assert "#17  2 min ago  answered\n  Which colour?\n  operator:me: red\n" in ended.out
    assert "#18  2 min ago  expired\n" in ended.out
    as_json = await hive.run("questions", "--all", "--json")
    assert QuestionList.model_validate(as_json.json).questions == daemon.asking.questions


async def test_no_questions(hive: Program, daemon: FakeHost) -> None:
    """Nothing to answer is said, but not on stdout; as JSON it is an empty list."""
    for arguments, said in ((("questions",), "no open questions"), (("reminders",), "no pending reminders")):
        ended = await hive.run(*arguments)
        assert (ended.code, ended.out) == (0, "")
        assert said in ended.err
    assert (await hive.run("questions", "--json")).json == {"questions": [], "total": 0}


async def test_hostile_questions(hive: Program, daemon: FakeHost) -> None:
    """What a terminal would act on is an escape, wherever an agent has put it, and an option keeps to its line."""
    bad = "\x1b]0;x\x07 \u202e"
    daemon.asking.questions = [question(text=bad, options=[f"{bad}\u20282. other"], state="answered", answer=bad)]
    daemon.asking.reminders = [reminder(1, "ada", f"{bad}\nsecond line")]
    for arguments in (("questions", "--all"), ("reminders",)):
        ended = await hive.run(*arguments)
        assert ended.code == 0
        assert not {"\x1b", "\x07", "\u202e", "\u2028"} & set(ended.out)
        assert r"\x1b]0;x\x07 \u202e" in ended.out
    assert "second line" not in ended.out


async def test_answer(hive: Program, daemon: FakeHost) -> None:
    """`answer` gives a text, a line from stdin, or an option, and says whose question it was, and what was chosen."""
    for arguments, stdin, expected, said in (
        (("red",), b"", AnswerRequest(text="red"), ""),
        (("-",), "gr\u00fcn\n".encode(), AnswerRequest(text="gr\u00fcn"), ""),
        (("--option", "2"), b"", AnswerRequest(option=2), ": x"),
    ):
        ended = await hive.run("answer", "17", *arguments, stdin=stdin)
        assert (ended.code, ended.out, ended.err) == (0, f"question 17 of ada is answered{said}\n", "")
        assert daemon.asked[-1] == ("POST", "/v1/questions/17/answer", expected)
    as_json = await hive.run("answer", "17", "red", "--json")
    assert Question.model_validate(as_json.json).state == "answered"


async def test_bad_answers(hive: Program, daemon: FakeHost) -> None:
    """Neither or both of text and option, and what is no number, are wrong usage; nothing is sent."""
    for arguments in (("17",), ("17", "x", "--option", "1"), ("x", "y")):
        ended = await hive.run("answer", *arguments)
        assert ended.code == 2
        assert "Usage: " in ended.err
    assert daemon.asked == []


async def test_refusals(hive: Program, daemon: FakeHost) -> None:
    """What the hive refuses is told with what to do, on stderr as JSON where that is asked for."""
    daemon.refusal = Refusal(409, "question_ended", "question 17 has ended already", "send a message instead")
    ended = await hive.run("answer", "17", "x")
    assert (ended.code, ended.out) == (1, "")
    assert "question 17 has ended already" in ended.err
    assert "send a message instead" in ended.err
    for arguments in (("answer", "17", "x"), ("open", "ada")):
        ended = await hive.run(*arguments, "--json")
        assert (ended.code, ended.out, ended.error["code"]) == (1, "", "question_ended")


async def test_reminders(hive: Program, daemon: FakeHost) -> None:
    """`reminders` has one on each line: whose, its number, when, and the first line of its text."""
    daemon.asking.reminders = [reminder(3, "ada", "look at\nthe build"), reminder(12, "bob", "x")]
    daemon.asking.more = 1
    ended = await hive.run("reminders")
    assert (ended.code, ended.err) == (0, "more, later reminders: 1\n")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["AGENT", "NUMBER", "AT", "TEXT"]
    assert first.split()[:2] == ["ada", "3"]
    assert first.endswith("look at …")
    assert second.split()[:2] == ["bob", "12"]
    as_json = await hive.run("reminders", "ada", "--json")
    assert ReminderList.model_validate(as_json.json).reminders == daemon.asking.reminders


async def test_open(hive: Program, daemon: FakeHost) -> None:
    """`open` prints the link on stdout and nothing else; the ticket is in its fragment, which no server sees."""
    daemon.agents = [agent("ada")]
    ended = await hive.run("open", "ada")
    assert (ended.code, ended.out) == (0, "http://127.0.0.1:8123/enter#t1cket\n")
    assert "ssh -L 8123:127.0.0.1:8123" in ended.err
    assert "within 120 s" in ended.err
    assert "socat" not in ended.err
    as_json = await hive.run("open", "ada", "--json")
    assert PageTicket.model_validate(as_json.json) == daemon.asking.ticket


async def test_open_what_cannot_be_reached(hive: Program, daemon: FakeHost) -> None:
    """That nobody serves the page, or only in a sealed network, is said with what to do; no agent has no ticket."""
    daemon.agents = [agent("ada", lifecycle="stopped")]
    daemon.asking.ticket = daemon.asking.ticket.model_copy(update={"sealed": True})
    ended = await hive.run("open", "ada")
    assert ended.code == 0
    assert 'ada is stopped, so its page does not answer: "hive-c0re start ada"' in ended.err
    assert "socat TCP-LISTEN:8123,bind=127.0.0.1,reuseaddr,fork UNIX-CONNECT:/run/x/bob.sock" in ended.err
    daemon.asking.ticket = daemon.asking.ticket.model_copy(update={"sealed": False, "held": False})
    for options in ((), ("--json",)):
        ended = await hive.run("open", "ada", *options)
        assert ended.code == 1
        assert "t1cket" not in ended.out + ended.err, "whoever has the port would get it"
        assert "another program listens on port 8123" in ended.out + ended.err
    asked = len(daemon.asked)
    ended = await hive.run("open", "zoe")
    assert (ended.code, ended.out) == (1, "")
    assert "there is no agent 'zoe'" in ended.err
    assert daemon.asked[asked:] == [("GET", "/v1/agents", None)], "only for the name that may have been meant"


async def test_what_agents_say_they_are_at(hive: Program, daemon: FakeHost) -> None:
    """`status` and `list` show it on the agent's line, whatever is in it."""
    daemon.agents = [agent("ada", status="reading\nsomething\x1b[2J"), agent("bob")]
    shown = r"reading\nsomething\x1b[2J"
    assert f"At work      ada: {shown}\n" in (await hive.run("status")).out
    assert (await hive.run("list")).out.splitlines()[1].endswith(shown)


def test_events() -> None:
    """`watch` tells what agents say they are at; questions, which messages tell, only with --verbose."""
    at_work = {"kind": "agent.status", "at": NOW, "data": {"agent": "ada", "status": "reading\x1b"}}
    [line] = lines(at_work, None, False)
    assert unstyle(line).endswith(r'is at "reading\x1b"')
    data = {"agent": "ada", "id": 17, "state": "answered", "by": "operator:me", "text": "red\nor so"}
    changed = {"kind": "question.changed", "at": NOW, "data": data}
    assert lines(changed, None, False) == []
    [line] = lines(changed, None, True)
    assert unstyle(line).endswith('question 17 answered by operator:me  "red or so"')
