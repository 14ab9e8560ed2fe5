"""Logins that a person starts on the agent's page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_agent.backends.base import LoginFailed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.interfaces import ActionNotPossible
from hive_agent.turns import login
from hive_agent.turns.attempts import retry_pause
from tests.unit.agent.backends.fake_backend import forever, serving, well
from tests.unit.agent.fake_core_api import FakeCore
from tests.unit.agent.turns.test_operator_controls import idle, long_pause

# --- the login --------------------------------------------------------------------------------------------------


async def test_login_from_the_page(core: FakeCore, tmp_path: Path) -> None:
    """A person logs the agent in: the address, a code that is wrong, another, and the turn goes on at once."""
    number = await core.deliver("x")

    async def needs(_turn: Turn) -> TurnOutcome:
        return Ok() if running.backend.credentials else NeedsLogin("Not logged in")

    async with serving(core, tmp_path, needs, pause=long_pause) as running:
        running.backend.credentials = False
        await core.until(lambda: core.state_names()[-1:] == ["needs_login"])
        with pytest.raises(ActionNotPossible, match="No login is in progress"):
            await running.desk.give_code("right")
        assert await running.desk.log_in() == await running.desk.log_in() == "https://login.example/1"
        assert running.desk.snapshot()["login"] == "https://login.example/1"
        with pytest.raises(ActionNotPossible, match="not a valid code"):
            await running.desk.give_code("a\nb")
        with pytest.raises(ActionNotPossible, match="that code is wrong"):
            await running.desk.give_code("wrong")
        assert running.desk.snapshot()["login"] is None
        await running.desk.log_in()
        await running.desk.give_code(" right ")
        await core.until(lambda: core.acknowledged() == [number])
        assert running.opened == 2, "what ran had the credentials of before"
        assert all(login.closed for login in running.backend.logins)


async def test_a_login_that_ends_during_a_turn(core: FakeCore, tmp_path: Path) -> None:
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
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the harness just looks whether there are credentials, a login waits for that and is not refused."""
    monkeypatch.setattr(retry_pause, "FIRST_LOGIN_CHECK", 0.01)
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


async def test_login_is_given_up(core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("ended_by", ["a new login", "the end of the harness"])
async def test_a_code_without_an_answer_keeps_nobody_waiting(core: FakeCore, tmp_path: Path, ended_by: str) -> None:
    """While a program neither accepts nor rejects a code, a new login begins at once, and the harness can end."""
    async with serving(core, tmp_path, well) as running, asyncio.timeout(10):
        await idle(core)
        await running.desk.log_in()
        lost = asyncio.create_task(running.desk.give_code("lost"))
        await running.backend.logins[0].checking.wait()
        if ended_by == "a new login":
            await running.desk.log_in()
            await running.desk.give_code("right")
        else:
            await running.end()
        with pytest.raises(ActionNotPossible, match="given up"):
            await lost
        assert all(login.closed for login in running.backend.logins)


async def test_a_login_that_is_being_started_ends_with_the_harness(core: FakeCore, tmp_path: Path) -> None:
    """A program that does not show its address does not keep the harness from ending."""
    started = asyncio.Event()

    async def starts() -> None:
        started.set()
        await asyncio.Event().wait()

    async with serving(core, tmp_path, well) as running, asyncio.timeout(10):
        await idle(core)
        running.backend.log_in = starts  # type: ignore[method-assign, assignment]
        login = asyncio.create_task(running.desk.log_in())
        await started.wait()
        await running.end()
        with pytest.raises(ActionNotPossible, match="given up"):
            await login


async def test_no_login_during_a_turn(core: FakeCore, tmp_path: Path) -> None:
    """While a turn runs its program is left alone; what a backend cannot do is said in its own words."""
    await core.deliver("x")

    async def refuses() -> None:
        raise LoginFailed("there is no login here")

    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        with pytest.raises(ActionNotPossible, match="A turn is running"):
            await running.desk.log_in()
        await running.desk.cancel()
        await running.turn(1, "held")
        running.backend.log_in = refuses  # type: ignore[method-assign, assignment]
        with pytest.raises(ActionNotPossible, match="there is no login here"):
            await running.desk.log_in()
