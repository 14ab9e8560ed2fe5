"""Controls of harnesses that have to do with calls of models that the hive does not pass on."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from hive_core.agents import AgentRegistry, DeploymentManager
from hive_core.api.routes.agents.control import go_on_order, harness_control
from hive_core.api.routes.agents.harness_view import HarnessViews
from hive_core.errors import HiveError
from hive_core.infra.database.database import Database
from tests.helpers.memory import MEMORY
from tests.unit.core.api.call_endpoint import Reply, asking, caller


class Harness:
    """ada's harness, which notes its orders, and refuses those that the test says."""

    def __init__(self, directory: Path) -> None:
        self.orders: list[str] = []
        self.refuses: set[str] = set()
        self.stopped = False
        """True if the hive passes no calls of ada on."""
        self._directory = directory
        self.views = HarnessViews(lambda name: directory / f"{name}.sock")
        self.agents = cast(
            AgentRegistry,
            SimpleNamespace(
                record=lambda name: SimpleNamespace(name=name), status=lambda _: SimpleNamespace(lifecycle="running")
            ),
        )
        self.deployments = cast(DeploymentManager, SimpleNamespace(hold_view=lambda _: None))

    async def let_go_on(self, name: str) -> bool:
        """As `ModelSpending.let_go_on`."""
        was, self.stopped = self.stopped, False
        if was:
            await go_on_order(self.agents, self.deployments, self.views)(name)
        return was

    async def answer(self, request: web.Request) -> web.Response:
        order = request.path.rpartition("/")[2]
        self.orders.append(order)
        if order in self.refuses:
            error = {"error": {"code": "not_now", "message": "nothing to do", "hint": ""}}
            return web.json_response(error, status=409)
        return web.json_response({"ok": True})

    async def ask(self, what: str, body: object) -> Reply:
        """Ask as the operator."""

        class NoDatabase:
            async def write(self, operation: Callable[[sqlite3.Connection], object]) -> None:
                """Audit nothing: that is not looked at here."""

        endpoints = harness_control(
            self.agents, self.deployments, self.views, cast(Database, NoDatabase()), self.let_go_on
        )
        async with asking(endpoints, caller("operator", "operator"), self._directory) as operator:
            return await operator.ask("POST", f"/v1/agents/ada/control/{what}", body)


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        harness = Harness(Path(directory))
        app = web.Application()
        app.router.add_route("POST", "/control/{order}", harness.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(Path(directory) / "ada.sock")).start()
        yield harness
        await runner.cleanup()


async def test_a_person_lets_a_stopped_agent_go_on(harness: Harness) -> None:
    """`resume` passes the calls of a stopped agent on again, and succeeds whether the harness pauses or not."""
    harness.stopped, harness.refuses = True, {"resume"}
    assert (await harness.ask("resume", {})).json == {"ok": True}
    assert harness.orders == ["go-on", "resume"]
    reply = await harness.ask("resume", {})
    assert (reply.status, reply.code) == (409, "not_now"), "it is not stopped any more"


async def test_retry_lets_it_go_on_too(harness: Harness) -> None:
    """`retry` of a turn is carried out after the calls are passed on; other controls leave them as they are."""
    harness.stopped = True
    assert (await harness.ask("pause", {})).status == 200
    assert harness.stopped
    assert (await harness.ask("retry", {"turn": 7})).status == 200
    assert harness.orders == ["pause", "go-on", "retry"]


async def test_a_harness_that_does_not_answer(harness: Harness) -> None:
    """An order to a harness that is not there is an error with its name, which the caller can log."""
    with pytest.raises(HiveError) as caught:
        await go_on_order(harness.agents, harness.deployments, harness.views)("bob")
    assert caught.value.code == "harness_unreachable"
