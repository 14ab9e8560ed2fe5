"""Questions to the operator: who may ask and answer what, and that each ends once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.questions import MOST_OPEN
from hive_core.protocol import AnswerRequest, QuestionsQuery, SendRequest
from hive_core.settings import Budgets
from tests.unit.core.messaging.messaging_hive import QuestionHive

BY = "operator:root"


async def answer(question_hive: QuestionHive, number: int, agent: str | None = None, **given: Any) -> str | None:
    """Answer as the operator; what the question's answer is then."""
    request = AnswerRequest.model_validate(given)
    return (await question_hive.questions.answer(number, request, BY, agent)).answer


async def code(awaited: object) -> str:
    """The code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        await awaited  # type: ignore[misc]
    return refusal.value.code


async def test_a_question_is_a_message_to_the_operator(question_hive: QuestionHive) -> None:
    """The operator gets one message with the text, the options, how to answer and until when; its id is the number."""
    asked = await question_hive.ask("Which\ncolour?", options=["red", "blue"], expires_in=60)
    [(sender, _, body, _)] = await question_hive.told("operator")
    assert (sender, asked.state, asked.answer) == ("ada", "open", None)
    first, *_ = body.splitlines()
    assert f"hive-c0re answer {asked.id} --option N, or hive-c0re answer {asked.id} TEXT; it ends at 2027-" in first
    assert body.endswith('\n\n> Which\n> colour?\n\nIts options:\n1. "red"\n2. "blue"')
    messages = await question_hive.database.read(lambda db: db.execute("SELECT id FROM messages").fetchall())
    assert messages == [(asked.id,)]


@pytest.mark.parametrize("given", [{"text": "blue"}, {"option": 2}])
async def test_an_answer_is_a_message_to_the_agent(question_hive: QuestionHive, given: dict[str, Any]) -> None:
    """Text or option, the agent gets it from the operator as a reply; the question counts as read; it is audited."""
    asked = await question_hive.ask(options=["red", "blue"], free_text=False)
    assert question_hive.broker.unacknowledged("operator") == 1
    assert await answer(question_hive, asked.id, **given) == "blue"
    [(sender, _, body, reply_to)] = await question_hive.told("ada")
    assert (sender, reply_to) == ("operator", asked.id)
    assert body == f"Answer to your question {asked.id}, which was:\n> Which?\n\nblue"
    assert question_hive.broker.unacknowledged("operator") == 0
    rows = await question_hive.database.read(
        lambda db: db.execute("SELECT actor, action, subject FROM audit").fetchall()
    )
    assert rows == [(BY, "answer", "ada")]


async def test_an_answer_counts_once(question_hive: QuestionHive) -> None:
    """The same answer again changes nothing; another one is refused with who answered."""
    asked = await question_hive.ask()
    for _ in range(2):
        assert await answer(question_hive, asked.id, text="yes") == "yes"
    with pytest.raises(HiveError, match=f"question {asked.id} was answered by {BY} already") as refusal:
        await answer(question_hive, asked.id, text="no")
    assert refusal.value.code == "question_ended"
    assert len(await question_hive.told("ada")) == 1


async def test_two_answers_at_once(question_hive: QuestionHive) -> None:
    """Of two answers given at the same time one counts, and the agent hears that one."""
    asked = await question_hive.ask()
    given = await asyncio.gather(*(answer(question_hive, asked.id, text=text) for text in "ab"), return_exceptions=True)
    refused = [error for error in given if isinstance(error, HiveError)]
    assert [error.code for error in refused] == ["question_ended"]
    [(_, _, body, _)] = await question_hive.told("ada")
    assert body.endswith(f"\n\n{next(text for text in given if isinstance(text, str))}")


async def test_answers_that_fit_no_question(question_hive: QuestionHive) -> None:
    """What is no answer is refused and nothing is told; a question without free text takes its options only."""
    strict = (await question_hive.ask(options=["red", "blue"], free_text=False)).id
    cases: list[tuple[dict[str, Any], str]] = [
        ({"text": "green"}, "no_such_option"),
        ({"option": 3}, "no_such_option"),
        ({}, "invalid_request"),
        ({"text": "red", "option": 1}, "invalid_request"),
    ]
    for given, expected in cases:
        assert await code(answer(question_hive, strict, **given)) == expected
    with pytest.raises(HiveError) as refusal:
        await answer(question_hive, strict, option=3)
    assert refusal.value.hint == 'choose one: 1. "red"; 2. "blue"'
    assert await code(answer(question_hive, (await question_hive.ask()).id, option=1)) == "no_such_option"
    assert await code(answer(question_hive, 999, text="x")) == "unknown_question"
    assert await question_hive.told("ada") == []


async def test_a_page_answers_for_its_own_agent_only(question_hive: QuestionHive) -> None:
    """On one agent's page nobody can answer, or learn of, the question of another."""
    asked = await question_hive.ask()
    assert await code(answer(question_hive, asked.id, agent="bob", text="yes")) == "unknown_question"
    assert await answer(question_hive, asked.id, agent="ada", text="yes") == "yes"


async def test_who_may_ask(question_hive: QuestionHive) -> None:
    """An agent that may not write to the operator cannot ask; a question that takes no answer is refused."""
    assert await code(question_hive.ask(agent="bob")) == "recipient_not_allowed"
    assert await code(question_hive.ask(free_text=False)) == "invalid_request"
    await question_hive.remove("ada")
    assert await code(question_hive.ask()) == "unknown_agent"
    assert await question_hive.told() == []


async def test_an_agent_has_so_many_questions(question_hive: QuestionHive) -> None:
    """One more than 20 open questions is refused, of that agent only, until one has ended."""
    await question_hive.add("cleo")
    numbers = [(await question_hive.ask()).id for _ in range(MOST_OPEN)]
    assert await code(question_hive.ask()) == "too_many_questions"
    await question_hive.ask(agent="cleo")
    await answer(question_hive, numbers[3], text="yes")
    await question_hive.ask()
    assert [question.id for question in await question_hive.questions.open_of("ada")][:4] == [*numbers[:3], numbers[4]]


async def test_full_inboxes(tmp_path: Path) -> None:
    """Without room at the operator's nothing is asked; without room at the agent's the question stays open."""
    hive = QuestionHive(tmp_path, inbox_limit=1)
    await hive.open()
    asked = await hive.ask()
    assert await code(hive.ask("another")) == "inbox_full"
    [filled] = (await hive.broker.send("bob", SendRequest(to="ada", body="x"))).recipients
    assert await code(answer(hive, asked.id, text="yes")) == "inbox_full"
    assert [question.id for question in await hive.questions.open_of(filled)] == [asked.id]
    taken = await hive.next_of("ada")
    await hive.broker.acknowledge("ada", "instance-1", [taken.deliveries[0].id])
    assert await answer(hive, asked.id, text="yes") == "yes"
    await hive.close()


async def test_a_full_share_leaves_room_for_questions(tmp_path: Path) -> None:
    """An agent that has filled its share of the operator's inbox can ask its questions all the same, and no more."""
    hive = QuestionHive(tmp_path, budgets=Budgets(unacknowledged_to_one=3, unacknowledged=4))
    await hive.open()
    for _ in range(3):
        await hive.broker.send("ada", SendRequest(to="operator", body="look"))
    refused = hive.broker.send("ada", SendRequest(to="operator", body="look"))
    assert await code(refused) == "too_many_waiting"
    asked = [await hive.ask(str(number)) for number in range(MOST_OPEN)]
    await hive.restart()
    assert await code(hive.ask()) in ("too_many_questions", "too_many_waiting")
    assert await code(hive.broker.send("ada", SendRequest(to="operator", body="look"))) == "too_many_waiting"
    await answer(hive, asked[0].id, text="yes")
    await hive.ask()
    await hive.close()


async def test_idempotency_keys(question_hive: QuestionHive) -> None:
    """The same key asks once, also at the same time and after a restart; for another question it is refused."""
    first, second = await asyncio.gather(*(question_hive.ask(idempotency_key="k", expires_in=60) for _ in range(2)))
    await question_hive.restart()
    question_hive.now += 1_000
    assert first == second == await question_hive.ask(idempotency_key="k", expires_in=60)
    for other in ({"text": "other"}, {"options": ["a"]}, {"expires_in": 61}, {"free_text": False, "options": ["a"]}):
        asked = {"expires_in": 60, **other}
        assert await code(question_hive.ask(**asked, idempotency_key="k")) == "idempotency_conflict"  # type: ignore[arg-type]
    assert len(await question_hive.told("operator")) == 1


async def test_a_question_ends_with_its_time(question_hive: QuestionHive) -> None:
    """When nobody answered in time, the agent hears it from `system`, once, and no answer is taken any more."""
    asked = await question_hive.ask(expires_in=60)
    question_hive.now += 59_999
    await question_hive.scheduler.run_due()
    assert await question_hive.told("ada") == []
    question_hive.now += 1
    for _ in range(2):
        await question_hive.scheduler.run_due()
    [(sender, _, body, reply_to)] = await question_hive.told("ada")
    assert (sender, reply_to) == ("system", asked.id)
    assert body.startswith(f"Nobody answered your question {asked.id} in time. ") and body.endswith("\n> Which?")
    assert await code(answer(question_hive, asked.id, text="late")) == "question_ended"
    [ended] = (await question_hive.questions.listing(QuestionsQuery(view="all"))).questions
    assert (ended.state, ended.answer) == ("expired", None)


async def test_an_answer_at_the_last_moment(question_hive: QuestionHive) -> None:
    """Answered and out of time at once: it ends one way, and the agent hears of that one."""
    asked = await question_hive.ask(expires_in=60)
    question_hive.now += 60_000
    given, _ = await asyncio.gather(
        answer(question_hive, asked.id, text="yes"), question_hive.scheduler.run_due(), return_exceptions=True
    )
    [ended] = (await question_hive.questions.listing(QuestionsQuery(view="all"))).questions
    [(sender, *_)] = await question_hive.told("ada")
    assert (ended.state, sender) == (("answered", "operator") if given == "yes" else ("expired", "system"))


async def test_a_question_outlives_its_agent(question_hive: QuestionHive) -> None:
    """Nobody can answer a destroyed agent and its time stands still; one of its name finds the question again."""
    asked = await question_hive.ask(expires_in=60)
    await question_hive.remove("ada")
    assert await code(answer(question_hive, asked.id, text="yes")) == "unknown_recipient"
    question_hive.now += 60_000
    await question_hive.scheduler.run_due()
    assert await question_hive.told("ada") == []
    await question_hive.add("ada")
    await question_hive.scheduler.run_due()
    assert [sender for sender, *_ in await question_hive.told("ada")] == ["system"]


async def test_lists(question_hive: QuestionHive) -> None:
    """The open ones from the oldest on, or the newest of all; `total` counts what the limit leaves out."""
    await question_hive.add("cleo")
    numbers = [(await question_hive.ask(f"q{place}", agent="cleo" if place == 2 else "ada")).id for place in range(4)]
    await answer(question_hive, numbers[0], text="yes")

    async def listed(**query: object) -> tuple[list[int], int]:
        found = await question_hive.questions.listing(QuestionsQuery.model_validate(query))
        return [question.id for question in found.questions], found.total

    assert await listed() == (numbers[1:], 3)
    assert await listed(limit=2) == (numbers[1:3], 3)
    assert await listed(agent="cleo") == ([numbers[2]], 1)
    assert await listed(view="all") == (numbers, 4)
    assert await listed(view="all", limit=2) == (numbers[2:], 4)


async def test_a_list_has_bounds(question_hive: QuestionHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long agents make their questions, an answer stays small: what does not fit is counted."""
    monkeypatch.setattr("hive_core.messaging.question_store._MOST_BYTES", 30_000)
    for _ in range(6):
        await question_hive.ask("\x00" * 2_000)  # Six-fold in JSON.
    found = await question_hive.questions.listing(QuestionsQuery())
    assert (len(found.questions), found.total) == (2, 6)
    assert len(found.model_dump_json()) < 30_000
