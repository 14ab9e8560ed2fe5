"""Requests during recovery, when their caller hangs up, and when the gate closes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from pathlib import Path
from unittest.mock import MagicMock

import aiohttp
import pytest
from structlog.testing import capture_logs

from hive_core.api.routes.agents.management import agent_admin
from hive_core.gate.context import unknown_proposal
from hive_core.gate.pipeline.recovery import Recovery
from hive_core.layout import Layout
from hive_core.people.ownership.owners import Owners
from hive_core.protocol import HistoryQuery, ProposalsQuery, ProposeRequest, RebuildRequest
from tests.unit.core.api.call_endpoint import asking, caller
from tests.unit.core.gate.gate_hive import ADA, OPERATOR, PATIENCE, GateHive, opened
from tests.unit.core.gate.queries import begun, refused


def requests_and_queries(gate_hive: GateHive) -> list[Awaitable[object]]:
    """One request or query of each part of the gate."""
    gate, sha = gate_hive.gate, gate_hive.commit("ada")
    return [
        gate.config_submissions.propose(ProposeRequest(commit=sha, note="more"), ADA),
        gate.rebuild_submissions.rebuild("bob", RebuildRequest(note="newer"), OPERATOR),
        gate_hive.spawn("cy"),
        gate_hive.deny("ada", 1, OPERATOR),
        gate.queries.proposals(ProposalsQuery(), OPERATOR),
        gate.queries.history("ada", HistoryQuery()),
        gate.maintenance.reindex(),
        gate.verification.verify(),
    ]


async def test_requests_wait_for_recovery(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request and query that arrives during recovery waits, and succeeds when recovery is done."""
    async with opened(layout) as gate_hive:
        await gate_hive.built("ada")
    may_recover, recover = asyncio.Event(), Recovery.run

    async def slow(recovery: Recovery) -> None:
        await may_recover.wait()
        await recover(recovery)

    monkeypatch.setattr(Recovery, "run", slow)
    async with opened(layout) as gate_hive:
        tasks = [asyncio.ensure_future(one) for one in requests_and_queries(gate_hive)]
        done, _ = await asyncio.wait(tasks, timeout=0.2)
        assert not done
        may_recover.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
        await gate_hive.settled()
        await gate_hive.check()


async def test_agents_are_recovered_side_by_side(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many agents recovery takes several at a time: requests wait for all of them together."""
    async with opened(layout):
        pass
    entered, both, align = 0, asyncio.Event(), Recovery._align
    alone: list[str] = []

    async def meet(recovery: Recovery, agent: str) -> None:
        nonlocal entered
        entered += 1
        if entered == 2:
            both.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await both.wait()
        except TimeoutError:
            alone.append(agent)
        await align(recovery, agent)

    monkeypatch.setattr(Recovery, "_align", meet)
    async with opened(layout) as gate_hive:
        await gate_hive.gate.queries.proposals(ProposalsQuery(), OPERATOR)
        assert (entered >= 2, alone) == (True, [])
        await gate_hive.check()


async def test_a_closed_gate_takes_no_request(gate_hive: GateHive) -> None:
    """After the gate has closed every request is refused with `stopping`, and nothing is written; queries go on."""
    await gate_hive.built("ada")
    await gate_hive.gate.close()
    rows = await gate_hive.rows()
    answers = await asyncio.gather(*requests_and_queries(gate_hive), return_exceptions=True)
    codes = [getattr(answer, "code", "") for answer in answers]
    assert codes == ["stopping"] * 4 + [""] * 2 + ["stopping"] * 2
    assert await gate_hive.rows() == rows


async def test_requests_during_recovery_end_with_the_gate(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waits for recovery is refused with `stopping` when the gate closes before that."""

    async def endless(_: Recovery) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Recovery, "run", endless)
    async with opened(layout) as gate_hive:
        spawning = asyncio.create_task(refused(gate_hive.spawn("cy")))
        await asyncio.sleep(0)
        await gate_hive.gate.close()
        async with asyncio.timeout(PATIENCE):
            assert (await spawning).code == "stopping"


async def test_closing_ends_requests_under_way(layout: Layout) -> None:
    """A request that waits for a build ends with `stopping` when the gate closes; the next start goes on with it."""
    async with opened(layout) as gate_hive:
        gate_hive.runtime.may_build.clear()
        spawning = asyncio.create_task(refused(gate_hive.spawn("cy")))
        await begun(gate_hive)
        async with asyncio.timeout(PATIENCE):
            await gate_hive.gate.close()
            assert (await spawning).code == "stopping"
    async with opened(layout) as gate_hive:
        await gate_hive.until("cy", 0, "built", "deployed")
        await gate_hive.settled()


async def test_a_caller_that_hangs_up_ends_no_request(
    gate_hive: GateHive, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A request to the API is completed although its caller closes the connection during a build."""
    gate_hive.runtime.may_build.clear()
    endpoints = agent_admin(gate_hive.hive.agents, MagicMock(), gate_hive.gate, MagicMock(), Owners())
    directory: Path = tmp_path_factory.mktemp("s")
    async with asking(endpoints, caller("operator", "operator"), directory) as operator:
        calling = asyncio.create_task(operator.ask("POST", "/v1/agents", {"name": "cy"}))
        await begun(gate_hive)
        calling.cancel()
        with pytest.raises((asyncio.CancelledError, aiohttp.ClientError)):
            await calling
        gate_hive.runtime.may_build.set()
        await gate_hive.until("cy", 0, "deployed")
    await gate_hive.check()


async def test_a_failure_that_no_caller_hears_is_logged(gate_hive: GateHive) -> None:
    """A request that fails after its caller was cancelled leaves a warning with the error's code."""
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    may_fail, logged = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        await may_fail.wait()
        loop.call_soon(logged.set)
        raise unknown_proposal("ada", 9)

    with capture_logs() as logs:
        calling = asyncio.create_task(gate_hive.gate.queries._context.run_request(fail()))
        await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        may_fail.set()
        await logged.wait()
        await asyncio.sleep(0)
    gc.collect()
    assert [(entry["log_level"], entry["code"]) for entry in logs] == [("warning", "unknown_proposal")]
    assert unhandled == []
