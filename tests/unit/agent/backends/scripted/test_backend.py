"""The scripted backend: rules, habits, and that nothing is sent twice."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, Ok, Turn
from hive_agent.backends.scripted import backend as scripted
from hive_agent.backends.scripted.backend import ScriptedBackend
from hive_agent.backends.scripted.script import ScriptGate, ScriptMemory, fill
from hive_agent.backends.transcript import Entry, TextPiece, TranscriptText
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.repositories.configuration import ConfigRepository
from hive_core.protocol import AgentConfig, Delivery, ScriptRule, ScriptSend, SendRequest
from tests.unit.agent.backends.fake_backend import silent
from tests.unit.agent.fake_core_api import FakeCore, refusal


def message(number: int, body: str, sender: str = "operator", reply_to: int | None = None) -> Delivery:
    return Delivery(
        id=number,
        sender=sender,
        to="alice",
        body=body,
        reply_to=reply_to,
        sent_at=datetime.now(UTC),
        attempt=1,
        redelivered=False,
    )


def backend(client: CoreClient, state: Path, *rules: ScriptRule) -> ScriptedBackend:
    config = AgentConfig(script=list(rules))
    repository = ConfigRepository(state / "config", "alice", os.environ)
    gate = ScriptGate("alice", client, repository, lambda _name: repository)
    return ScriptedBackend("alice", config, client, ScriptMemory(state / "script.json"), gate)


def sent(core: FakeCore) -> list[tuple[str, str, int | None]]:
    return [(request.to, request.body, request.reply_to) for request in core.sent]


async def test_answers_a_question(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A message that is no reply is answered, as a reply to it."""
    assert await backend(client, tmp_path).run(Turn((message(100, "hi"),)), silent) == Ok()
    assert sent(core) == [("operator", "alice heard: hi", 100)]


async def test_replies_end_there(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A reply is not answered, so that two scripted agents never talk for ever; nor is the hive itself."""
    turn = Turn((message(100, "thanks", "bob", 99), message(101, "bob crashed", "system")))
    assert await backend(client, tmp_path).run(turn, silent) == Ok()
    assert sent(core) == []


async def test_relay_brings_the_answer_back(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """`relay NAME: TEXT` goes to NAME, and the answer to the asker, also when the harness restarted in between."""
    await backend(client, tmp_path).run(Turn((message(100, "relay bob: how\nmany?"),)), silent)
    number = core.keys["script:100:relay"]
    await backend(client, tmp_path).run(Turn((message(101, "four", "bob", number),)), silent)
    assert sent(core) == [("bob", "how\nmany?", None), ("operator", "four", 100)]


async def test_redelivered_sends_nothing_twice(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A message handled again (the harness died before acknowledging it) sends nothing a second time."""
    rule = ScriptRule(match="go", send=[ScriptSend(to="bob", text="1"), ScriptSend(to="bob", text="2")])
    for body in ("go", "hi", "relay bob: x"):
        for _ in range(2):
            await backend(client, tmp_path, rule).run(Turn((message(len(body), body),)), silent)
    assert [body for _, body, _ in sent(core)] == ["1", "2", "alice heard: hi", "x"]


async def test_rules_in_order(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """The first rule that fits sender and text is carried out, and only that one."""
    rules = [
        ScriptRule(sender="bob", match="x", send=[ScriptSend(to="carol", text="from bob")]),
        ScriptRule(match=r"x(\d)", send=[ScriptSend(to="operator", text="{me} got {1}{2} of {sender}: {body}")]),
        ScriptRule(match="x", send=[ScriptSend(to="*", text="any")]),
    ]
    for number, (body, sender) in enumerate([("x1", "bob"), ("ax7", "operator"), ("x", "carol")], 100):
        await backend(client, tmp_path, *rules).run(Turn((message(number, body, sender),)), silent)
    assert sent(core) == [
        ("carol", "from bob", None),
        ("operator", "alice got 7 of operator: ax7", 101),
        ("*", "any", None),
    ]


async def test_says_a_text_as_a_model_does(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """The text of a rule is told word by word, and then as a whole."""
    told: list[Entry] = []
    rule = ScriptRule(match="hi", say="hello {sender}, you")
    await backend(client, tmp_path, rule).run(Turn((message(1, "hi"),)), told.append)
    pieces = [entry.text for entry in told if isinstance(entry, TextPiece)]
    assert pieces == ["hello ", "operator, ", "you"]
    assert told[-1] == TranscriptText("hello operator, you")


async def test_remembered_message_is_answered_later(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """`@label` answers the remembered message, in a later turn of a later process too."""
    rules = [
        ScriptRule(match="^build", remember="job", send=[ScriptSend(to="bob", text="please {body}")]),
        ScriptRule(sender="bob", send=[ScriptSend(to="@job", text="done: {body}")]),
    ]
    await backend(client, tmp_path, *rules).run(Turn((message(100, "build it"),)), silent)
    await backend(client, tmp_path, *rules).run(Turn((message(101, "ok", "bob"),)), silent)
    assert sent(core) == [("bob", "please build it", None), ("operator", "done: ok", 100)]


async def test_unknown_label_is_told(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A rule that answers a message which nobody sent says so, rather than failing for ever."""
    rule = ScriptRule(send=[ScriptSend(to="@job", text="done")])
    assert await backend(client, tmp_path, rule).run(Turn((message(100, "x", "bob"),)), silent) == Ok()
    assert sent(core) == [("bob", "alice: no message is remembered as @job", 100)]


async def test_refused_send_is_told_in_words(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A recipient that is not allowed does not make the message come again and again; its sender learns why."""

    def only_operator(request: SendRequest) -> object:
        return None if request.to == "operator" else refusal(403, "recipient_not_allowed", "alice may not send to bob")

    core.refuse_send = only_operator  # type: ignore[assignment]
    assert await backend(client, tmp_path).run(Turn((message(100, "relay bob: x"),)), silent) == Ok()
    assert sent(core) == [("operator", "alice: could not send to bob: alice may not send to bob", 100)]


async def test_send_waits_for_the_budget(
    core: FakeCore, client: CoreClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that sends too fast sends again until it may, and loses nothing."""
    monkeypatch.setattr(scripted, "_SLOWER_SECONDS", 0.0)
    refusals = [refusal(429, "sending_too_fast", "alice sends too much")] * 2
    core.refuse_send = lambda _request: refusals.pop() if refusals else None
    assert await backend(client, tmp_path).run(Turn((message(100, "relay bob: x"),)), silent) == Ok()
    assert sent(core) == [("bob", "x", None)]


async def test_refused_answer_ends_there(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """If even the sender may not be written to, the message still counts as handled."""
    core.refuse_send = lambda _request: refusal(403, "recipient_not_allowed", "no")
    assert await backend(client, tmp_path).run(Turn((message(100, "hi", "bob"),)), silent) == Ok()
    assert sent(core) == []


async def test_broken_daemon_is_no_refusal(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A daemon with an error of its own must not make the message count as handled."""
    core.refusals["POST /v1/messages"] = refusal(500, "internal", "oops")
    with pytest.raises(CoreError):
        await backend(client, tmp_path).run(Turn((message(100, "hi"),)), silent)


async def test_bad_expression_is_told(client: CoreClient, tmp_path: Path) -> None:
    """A rule that is no regular expression makes the turn fail with the rule's number."""
    outcome = await backend(client, tmp_path, ScriptRule(), ScriptRule(match="(")).run(Turn((message(1, "x"),)), silent)
    assert isinstance(outcome, Failed)
    assert "rule 2" in outcome.detail


async def test_slow_expression_is_told(client: CoreClient, tmp_path: Path) -> None:
    """An expression that would backtrack for years fails the turn within seconds, with the rule and the message."""
    rules = ScriptRule(match="never"), ScriptRule(match="(a+)+$")
    started = time.monotonic()
    outcome = await backend(client, tmp_path, *rules).run(Turn((message(7, "a" * 5_000 + "b"),)), silent)
    assert time.monotonic() - started < 30
    assert isinstance(outcome, Failed)
    assert outcome.kind == "timeout"
    assert "rule 2" in outcome.detail
    assert "message 7" in outcome.detail


async def test_time_limit_ends_with_the_match(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """The limit is on finding the rule: what comes after may take as long as it likes."""
    assert await backend(client, tmp_path).run(Turn((message(100, "hi"),)), silent) == Ok()
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


async def test_long_body_is_searched_in_part(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """Rules see the first 10,000 characters, so a slow expression has a bounded text to be slow on."""
    rule = ScriptRule(match="needle", send=[ScriptSend(to="bob", text="found")])
    turn = Turn((message(100, "x" * 10_000 + "needle", reply_to=1), message(101, "x" * 9_994 + "needle")))
    await backend(client, tmp_path, rule).run(turn, silent)
    assert sent(core) == [("bob", "found", None)]


def test_filling_is_not_formatting() -> None:
    """Texts from messages are put in as they are: no attribute is read and nothing is put in twice."""
    delivery = message(1, "{me} {0.__class__} {body.__len__}")
    assert (
        fill("{body}|{sender.id}|{{me}}|{3}", delivery, "alice", ["a"]) == f"{delivery.body}|{{sender.id}}|{{alice}}|"
    )


def test_damaged_memory_starts_anew(tmp_path: Path) -> None:
    """A memory file that cannot be read is no reason to refuse every message."""
    (tmp_path / "script.json").write_text('{"labels": 3\n')
    assert ScriptMemory(tmp_path / "script.json").label("job") is None
