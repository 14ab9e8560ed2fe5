"""The endpoints for limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from hive_core.api.routes.agents.management import limit_changes, limit_views
from hive_core.protocol import Limits, LimitsAnswer, LimitsRequest, Usage
from tests.unit.core.api.call_endpoint import Asking, asking, caller

PATH = "/v1/agents/ada/limits"


class FakeLimits:
    """Notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def read(self, name: str) -> LimitsAnswer:
        self.asked.append((name,))
        return LimitsAnswer(
            name=name, configured=Limits(), in_force=Limits(tasks_max=64), enforced=True, usage=Usage(tasks=3)
        )

    async def change(self, name: str, request: LimitsRequest, actor: str) -> LimitsAnswer:
        answer = await self.read(name)
        self.asked[-1] += (request, actor)
        return answer


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("l")


@asynccontextmanager
async def as_caller(
    kind: Literal["agent", "manager", "operator"], place: Path
) -> AsyncIterator[tuple[Asking, FakeLimits]]:
    limits = FakeLimits()
    known = cast(Any, limits)
    table = limit_views(known, manager_only=kind != "operator")
    if kind == "operator":
        table += limit_changes(known)
    async with asking(table, caller(kind, kind), place) as one:
        yield one, limits


async def test_the_operator_sees_and_changes_limits(place: Path) -> None:
    """GET shows them; POST changes what its body names, in the caller's name."""
    async with as_caller("operator", place) as (operator, limits):
        reply = await operator.ask("GET", PATH)
        assert reply.status == 200
        assert reply.json["in_force"] == {**dict.fromkeys(Limits.model_fields), "tasks_max": 64}
        reply = await operator.ask("POST", PATH, {"memory_max": "3G", "reset": True})
        assert reply.status == 200
        assert limits.asked == [("ada",), ("ada", LimitsRequest(memory_max="3G", reset=True), "operator:operator")]


@pytest.mark.parametrize("body", [{"memory_max": "lots"}, {"tasks_max": 1}, {"memory": "1G"}, {"cpu_quota": 1.5}])
async def test_what_is_no_limit_is_refused(place: Path, body: dict[str, Any]) -> None:
    """Wrong values and unknown keys reach nobody."""
    async with as_caller("operator", place) as (operator, limits):
        reply = await operator.ask("POST", PATH, body)
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert limits.asked == []


async def test_the_manager_sees_limits_and_changes_none(place: Path) -> None:
    """On its socket there is only the GET, and for other agents not even that."""
    async with as_caller("manager", place) as (manager, limits):
        assert (await manager.ask("GET", PATH)).status == 200
        assert (await manager.ask("POST", PATH, {"reset": True})).status == 405
        assert limits.asked == [("ada",)]
    async with as_caller("agent", place) as (agent, limits):
        assert (await agent.ask("GET", PATH)).code == "manager_only"
        assert limits.asked == []
