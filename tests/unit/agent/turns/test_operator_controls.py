"""What a person can see of a harness and ask of it while it works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, LoginFailed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Session, Usage
from hive_agent.interfaces import NotNow
from hive_agent.turns import conversation, login, rest
from hive_agent.turns.history import History
from hive_agent.turns.records import TurnRecord
from hive_core.protocol import AgentConfig
from tests.unit.agent.backends.fake_backend import Run, Running, forever, serving, well
from tests.unit.agent.fake_core_api import CoreStandIn, refusal


def long_pause(*_values: object) -> float:
    """Nothing is tried again before the test is over, unless a person wants it."""
    return 3_600.0


def fails_first(times: int = 1) -> Run:
    """The first turn fails so often, all others end well."""

    async def run(turn: Turn) -> TurnOutcome:
        return Failed("refused", "no") if turn.id == 1 and turn.attempt <= times else Ok()

    return run


async def idle(core: CoreStandIn) -> None:
    """Wait until the harness waits for messages."""
    await core.until(lambda: core.state_names()[-1:] == ["idle"] and core.calls[-1] == "POST /v1/messages/receive")


# --- one turn ---------------------------------------------------------------------------------------------------


async def test_cancel_holds_the_turn(core: CoreStandIn, tmp_path: Path) -> None:
    """A turn that a person stops is neither lost nor tried again by itself, and others go on."""
    number = await core.deliver("x")

    async def first_for_ever(turn: Turn) -> TurnOutcome:
        return await forever(turn) if turn.id == 1 and turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, first_for_ever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        held = await running.turn(1, "held")
        assert held["failure"] == "cancelled"
        assert running.backend.cancelled == 1
        later = await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [later])
        with pytest.raises(NotNow, match="No turn is running"):
            await running.desk.cancel()
        await running.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number, later])
        assert running.backend.attempts == [(1, 1), (2, 1), (1, 2)]


async def test_skip_gives_up_a_held_turn(core: CoreStandIn, tmp_path: Path) -> None:
    """The messages of a turn that a person skips are acknowledged, and no model sees them again."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        await running.turn(1, "held")
        await core.until(lambda: core.states[-1].detail == "1 turn waits for a person")
        await running.desk.skip(1)
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.turns == [[number]]
        await idle(core)
        assert running.desk.snapshot()["held"] == []
        await core.until(lambda: core.states[-1].detail == "")  # no turn waits for a person any more
        assert "paused" not in core.state_names(), "who stopped it knows"
        assert (await running.desk.history(None, 1))[0]["state"] == "skipped"
        with pytest.raises(NotNow, match="Turn 1 neither waits"):
            await running.desk.skip(1)


async def test_skip_needs_no_end_of_the_pause(core: CoreStandIn, tmp_path: Path) -> None:
    """A turn that waits can be skipped too; its messages are acknowledged though nothing else is tried yet."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, fails_first(), pause=long_pause) as running:
        await running.turn(1, "waiting")
        later = await core.deliver("y")
        await running.desk.skip(1)
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.turns == [[number]]
        await running.desk.new_session()  # whatever a person asks for ends the pause
        await core.until(lambda: core.acknowledged() == [number, later])


async def test_skip_survives_a_restart(core: CoreStandIn, tmp_path: Path) -> None:
    """If the harness ends before a skipped turn's messages are acknowledged, the next one does that, and only that."""
    number = await core.deliver("x")
    core.refusals["POST /v1/messages/ack"] = refusal(409, "lease_lost", "not now")
    async with serving(core, tmp_path, fails_first(9), pause=long_pause) as running:
        await running.turn(1, "waiting")
        await running.desk.skip(1)
        await core.until(lambda: "POST /v1/messages/ack" in core.calls)
        await running.end()
    core.refusals.clear()
    async with serving(core, tmp_path, well) as again:
        await core.until(lambda: core.acknowledged() == [number])
        assert again.backend.turns == []


async def test_retry_at_once(core: CoreStandIn, tmp_path: Path) -> None:
    """A person can have a turn tried now, before all others, though its time has not come."""
    number = await core.deliver("x", "ada")
    async with serving(core, tmp_path, fails_first(), pause=long_pause) as running:
        await running.turn(1, "waiting")
        later = await core.deliver("y")
        await running.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number, later])
        assert running.backend.attempts == [(1, 1), (1, 2), (2, 1)]


async def test_a_turn_that_does_not_wait_cannot_be_steered(core: CoreStandIn, tmp_path: Path) -> None:
    """What does not fit is refused in words: turns that run, are over, or never were."""
    await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        for turn in (1, 2, 0, -1, 10**30):
            for ask in (running.desk.retry, running.desk.skip):
                with pytest.raises(NotNow, match=f"Turn {turn} neither waits"):
                    await ask(turn)
        with pytest.raises(NotNow, match="no conversation yet"):
            await running.desk.compact()


async def test_held_turns_stay_held_over_a_restart(core: CoreStandIn, tmp_path: Path) -> None:
    """What waits for a person waits for them in the next life of the harness, too, and is not in the way."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        await running.turn(1, "held")
        await running.end()
    assert core.messages[number].holder is None
    later = await core.deliver("y")
    async with serving(core, tmp_path, well) as again:
        await core.until(lambda: core.acknowledged() == [later])
        assert again.backend.turns == [[later]]
        await again.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number, later])
        assert again.backend.attempts == [(2, 1), (1, 2)]


@pytest.mark.parametrize(("wish", "attempts"), [("retry", [(1, 1), (2, 1), (1, 2)]), ("skip", [(1, 1), (2, 1)])])
async def test_steering_beside_other_work(
    core: CoreStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str, attempts: list[tuple[int, int]]
) -> None:
    """A turn that is freed while the harness looks for messages is neither taken for over nor handled as a new one."""
    number = await core.deliver("x", "ada")
    written = asyncio.Event()
    write = History.write

    async def slow(self: History, record: TurnRecord) -> None:
        await write(self, record)
        if record.state in ("waiting", "skipped"):
            await written.wait()

    async def first_for_ever(turn: Turn) -> TurnOutcome:
        return await forever(turn) if turn.id == 1 and turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, first_for_ever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        await running.turn(1, "held")
        await idle(core)
        monkeypatch.setattr(History, "write", slow)
        wished = asyncio.create_task(getattr(running.desk, wish)(1))
        later = await core.deliver("y", "bob")
        await core.until(lambda: later in core.acknowledged())
        written.set()
        await wished
        await core.until(lambda: core.acknowledged() == [number, later])
        assert running.backend.attempts == attempts


# --- the conversation -------------------------------------------------------------------------------------------


async def uses(running: Running, context: int, window: int = 100) -> None:
    running.backend.tell(Session("s", fresh=False))
    running.backend.tell(Usage(input=1, context=context, window=window))


async def test_a_full_conversation_is_shortened_after_notes(core: CoreStandIn, tmp_path: Path) -> None:
    """Before the window overflows the agent writes its notes, then the conversation is shortened, once."""

    async def fills(turn: Turn) -> TurnOutcome:
        await uses(running, 85 if turn.id == 1 else 50)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, fills) as running:
        await core.until(lambda: core.acknowledged() == [1])
        await idle(core)
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        assert running.desk.snapshot()["context"] == 0
        await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [1, 2])
        assert running.backend.asked == ["notes", "compact"]
        told = [str(entry["text"]) for entry in running.told("entry", turn=1, kind="notice")]
        assert any("write down what matters" in text for text in told)
        assert any("was shortened" in text for text in told)


async def test_a_conversation_that_stays_full_is_not_shortened_for_ever(core: CoreStandIn, tmp_path: Path) -> None:
    """A compaction that fails, or frees nothing, is not repeated before another turn was handled."""

    async def fills(_turn: Turn) -> TurnOutcome:
        await uses(running, 99)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, fills) as running:
        running.backend.compacting = lambda: Failed("crashed", "gone")
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        await idle(core)
        calls = len(core.calls)
        assert running.backend.asked == ["notes", "compact"]
        await core.deliver("y")
        await core.until(lambda: running.backend.asked == ["notes", "compact"] * 2)
        assert len(core.calls) > calls


async def test_compact_on_request(core: CoreStandIn, tmp_path: Path) -> None:
    """A person can have the conversation shortened at any time; the agent writes its notes before."""

    async def talks(_turn: Turn) -> TurnOutcome:
        await uses(running, 10)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, talks) as running:
        await core.until(lambda: core.acknowledged() == [1])
        await idle(core)
        await running.desk.compact()
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        await idle(core)


async def test_notes_that_cannot_be_written_are_no_hindrance(core: CoreStandIn, tmp_path: Path) -> None:
    """If the turn for notes fails, that is told, and the conversation is shortened all the same."""

    async def talks(_turn: Turn) -> TurnOutcome:
        await uses(running, 10)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, talks) as running:
        running.backend.noting = lambda: Failed("overloaded", "busy")
        await core.until(lambda: core.acknowledged() == [1])
        await running.desk.compact()
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        await running.until(lambda: running.told("entry", kind="notice", level="warning"))


async def test_new_session(core: CoreStandIn, tmp_path: Path) -> None:
    """A person can have the next turn begin a new conversation; how full the old one was is forgotten."""

    async def talks(_turn: Turn) -> TurnOutcome:
        await uses(running, 70)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, talks) as running:
        await core.until(lambda: core.acknowledged() == [1])
        await running.desk.new_session()
        await core.until(lambda: running.backend.asked == ["new_session"])
        await running.until(lambda: running.desk.snapshot()["context"] == 0)
        with pytest.raises(NotNow, match="no conversation yet"):
            await running.desk.compact()


# --- the model --------------------------------------------------------------------------------------------------


async def test_a_model_is_chosen_live_and_remembered(core: CoreStandIn, tmp_path: Path) -> None:
    """A choice holds from the next turn on, without a restart and over one, until it is taken back."""
    core.config = AgentConfig(model="small", effort="low")
    async with serving(core, tmp_path, well) as running:
        await idle(core)
        assert running.desk.snapshot()["models"] == ["small", "large"]
        await running.desk.choose("large", "high")
        assert (running.desk.snapshot()["model"], running.desk.snapshot()["effort"]) == ("large", "high")
        await core.deliver("x")
        await core.until(lambda: core.acknowledged() == [1])
        assert running.backend.asked == ["choose large high"]
        await running.end()
    async with serving(core, tmp_path, well) as again:
        await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [1, 2])
        assert again.backend.asked == ["choose large high"]
        await again.desk.choose(None, None)
        await core.deliver("z")
        await core.until(lambda: core.acknowledged() == [1, 2, 3])
        assert again.backend.asked == ["choose large high", "choose small low"]
    (tmp_path / "conversation.json").write_text('{"backend": "scripted", "model": 5}')
    async with serving(core, tmp_path, well) as damaged:
        await core.until(lambda: len(core.hellos) == 3)
        await idle(core)
        assert damaged.desk.snapshot()["model"] == "small"


async def test_a_restarted_backend_is_told_the_choice_again(core: CoreStandIn, tmp_path: Path) -> None:
    """A backend that is opened anew after a failure knows no choices."""
    await core.deliver("x")

    async def crashes(turn: Turn) -> TurnOutcome:
        return Failed("crashed", "gone") if turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, crashes) as running:
        await running.until(lambda: running.controls)
        await running.desk.choose("large", None)
        await core.until(core.acknowledged)
        assert [asked for asked in running.backend.asked if asked.startswith("choose")][-1] == "choose large None"
        assert running.opened == 2


@pytest.mark.parametrize("model", ["", "x" * 201, "a\nb", "\x1b[2J", "\ud800"])
async def test_what_is_no_model(core: CoreStandIn, tmp_path: Path, model: str) -> None:
    """A name that no model has is refused, in words."""
    async with serving(core, tmp_path, well) as running:
        await idle(core)
        with pytest.raises(NotNow, match="1 to 200 characters"):
            await running.desk.choose(model, None)


# --- a backend that is in trouble -------------------------------------------------------------------------------


async def test_a_backend_that_cannot_be_opened_again(core: CoreStandIn, tmp_path: Path) -> None:
    """If the backend does not open after a failure, the harness stays, and goes on with the one of before."""
    await core.deliver("x")

    async def crashes(turn: Turn) -> TurnOutcome:
        running.open_fails = turn.attempt == 1
        return Failed("crashed", "gone") if turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, crashes) as running:
        await core.until(lambda: core.acknowledged() == [1])
        assert running.opened == 2
        assert running.backend.attempts == [(1, 1), (1, 2)]


async def test_a_backend_that_does_not_answer_requests(
    core: CoreStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a backend is asked between turns has a limit, and its failure stops nothing."""
    monkeypatch.setattr(conversation, "_REQUEST_SECONDS", 0.01)

    async def never(*_values: object) -> None:
        await asyncio.Event().wait()

    async with serving(core, tmp_path, well) as running:
        await idle(core)
        running.backend.new_session = running.backend.choose = never  # type: ignore[method-assign, assignment]
        await running.desk.new_session()
        await running.desk.choose("large", None)
        await core.deliver("x")
        await core.until(lambda: core.acknowledged() == [1])


# --- the login --------------------------------------------------------------------------------------------------


async def test_login_from_the_page(core: CoreStandIn, tmp_path: Path) -> None:
    """A person logs the agent in: the address, a code that is wrong, another, and the turn goes on at once."""
    number = await core.deliver("x")

    async def needs(_turn: Turn) -> TurnOutcome:
        return Ok() if running.backend.credentials else NeedsLogin("Not logged in")

    async with serving(core, tmp_path, needs, pause=long_pause) as running:
        running.backend.credentials = False
        await core.until(lambda: core.state_names()[-1:] == ["needs_login"])
        with pytest.raises(NotNow, match="No login is under way"):
            await running.desk.give_code("right")
        assert await running.desk.log_in() == await running.desk.log_in() == "https://login.example/1"
        assert running.desk.snapshot()["login"] == "https://login.example/1"
        with pytest.raises(NotNow, match="This is no code"):
            await running.desk.give_code("a\nb")
        with pytest.raises(NotNow, match="that code is wrong"):
            await running.desk.give_code("wrong")
        assert running.desk.snapshot()["login"] is None
        await running.desk.log_in()
        await running.desk.give_code(" right ")
        await core.until(lambda: core.acknowledged() == [number])
        assert running.opened == 2, "what ran had the credentials of before"
        assert all(login.closed for login in running.backend.logins)


async def test_a_login_that_ends_during_a_turn(core: CoreStandIn, tmp_path: Path) -> None:
    """The code is taken at once, though a turn has begun since; the turn goes on, and after it the backend is new."""
    go_on = asyncio.Event()

    async def waits(_turn: Turn) -> TurnOutcome:
        await go_on.wait()
        return Ok()

    async with serving(core, tmp_path, waits) as running:
        await idle(core)
        await running.desk.log_in()
        await core.deliver("x")
        await running.backend.started.wait()
        async with asyncio.timeout(10):
            await running.desk.give_code("right")
        assert running.opened == 1
        go_on.set()
        await core.until(lambda: core.acknowledged() == [1])
        await running.until(lambda: running.opened == 2)
        assert running.backend.cancelled == 0


async def test_a_login_beside_a_look_for_credentials(
    core: CoreStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the harness just looks whether there are credentials, a login waits for that and is not refused."""
    monkeypatch.setattr(rest, "_FIRST_LOOK", 0.01)
    looking, go_on = asyncio.Event(), asyncio.Event()
    looks = 0

    async def look() -> bool:
        nonlocal looks
        looks += 1
        if looks > 1:
            looking.set()
            await go_on.wait()
        return False

    async def no_login(_turn: Turn) -> TurnOutcome:
        return NeedsLogin("who are you?")

    await core.deliver("x")
    async with serving(core, tmp_path, no_login, pause=long_pause) as running:
        running.backend.logged_in = look  # type: ignore[method-assign]
        await looking.wait()
        login = asyncio.create_task(running.desk.log_in())
        await asyncio.sleep(0)
        assert not login.done()
        go_on.set()
        assert await login == "https://login.example/1"


async def test_login_is_given_up(core: CoreStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that nobody finishes ends by itself, and one that is under way ends with the harness."""
    monkeypatch.setattr(login, "_LOGIN_SECONDS", 0.01)
    async with serving(core, tmp_path, well) as running:
        await idle(core)
        await running.desk.log_in()
        await running.until(lambda: running.backend.logins[0].closed and running.desk.snapshot()["login"] is None)
        monkeypatch.setattr(login, "_LOGIN_SECONDS", 900.0)
        await running.desk.log_in()
        await running.end()
        assert running.backend.logins[1].closed


async def test_no_login_during_a_turn(core: CoreStandIn, tmp_path: Path) -> None:
    """While a turn runs its program is left alone; what a backend cannot do is said in its own words."""
    await core.deliver("x")

    async def refuses() -> None:
        raise LoginFailed("there is no login here")

    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        with pytest.raises(NotNow, match="at work"):
            await running.desk.log_in()
        await running.desk.cancel()
        await running.turn(1, "held")
        running.backend.log_in = refuses  # type: ignore[method-assign, assignment]
        with pytest.raises(NotNow, match="there is no login here"):
            await running.desk.log_in()
