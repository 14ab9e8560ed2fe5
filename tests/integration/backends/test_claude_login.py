"""Logging in with the real `claude auth login`; the service that it talks to is a fake on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends.base import LoginFailed, NeedsLogin, Ok
from tests.helpers.fake_login_service import TOKEN, login_server
from tests.helpers.fake_messages_api import ApiError, Blocks, Text, model_server
from tests.integration.backends.claude_code import claude, needs_claude, running, silent, turn
from tests.unit.agent.fake_core_api import fake_core


@needs_claude
async def test_login(tmp_path: Path) -> None:
    """An agent without credentials gets an address to open; a wrong code is refused in words, the right one works."""

    async def says(_request: dict[str, Any]) -> Blocks | ApiError:
        return [Text("done")]

    async with (
        fake_core(tmp_path / "run") as core,
        model_server(says) as model,
        login_server(tmp_path) as service,
        claude(tmp_path, core, model.url, variables={"ANTHROPIC_API_KEY": "", **service.variables}) as backend,
    ):
        assert isinstance(await backend.run(turn("hello"), silent), NeedsLogin)
        assert not await backend.logged_in()
        problem = await backend.find_problem()
        assert isinstance(problem, NeedsLogin) and "no key and no login" in problem.detail

        others = running()
        login = await backend.log_in()
        assert login.url.startswith("https://claude.")
        with pytest.raises(LoginFailed, match="That code wasn't accepted"):
            await login.submit_code(service.code_for(login.url, "wrong"))
        await login.close()
        assert not await backend.logged_in()

        login = await backend.log_in()
        with pytest.raises(LoginFailed, match=r"did not accept the code: .*full code"):
            async with asyncio.timeout(20):
                await login.submit_code("half-a-code")
        await login.close()

        login = await backend.log_in()
        await login.submit_code(service.code_for(login.url))
        await login.close()
        assert running().keys() <= others.keys()
        assert await backend.logged_in()
        assert await backend.find_problem() is None
        assert await backend.run(turn("hello"), silent) == Ok()
        assert model.keys[-1] == f"Bearer {TOKEN}"


async def test_login_that_cannot_begin(tmp_path: Path) -> None:
    """A program that shows no address, or is not there, makes the login fail with what it said; nothing is left."""
    broken, others = tmp_path / "broken", running()
    broken.write_text("#!/bin/sh\nprintf '\\033[31mno <b>login</b> here\\n'\n")
    broken.chmod(0o755)
    async with fake_core(tmp_path / "run") as core:
        for named, words in [
            (broken, "showed no address for the login: no <b>login</b> here"),
            (tmp_path, "HIVE_CLAUDE"),
        ]:
            async with claude(tmp_path, core, "", variables={"HIVE_CLAUDE": str(named)}) as backend:
                with pytest.raises(LoginFailed, match=words):
                    await backend.log_in()
    assert running().keys() <= others.keys()
