"""The view socket and the port of an agent: the daemon has them for as long as there is the agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_core.agents import deployment
from hive_core.agents.store import choose_port
from hive_core.infra.processes import ListeningProcess
from hive_core.layout import Layout
from tests.unit.core.agents.builders import FakeProcesses, in_force, opened


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty state directory."""
    return Layout(tmp_path / "state", tmp_path / "run")


async def test_a_port_is_held_from_spawn_to_destruction(layout: Layout) -> None:
    """Whether the agent runs or not, over restarts of the daemon, too."""
    async with opened(layout) as hive:
        port = (await hive.spawn("bob", start=False, network="host")).web_port
        assert hive.page_ports.held == {"bob": port}
    async with opened(layout) as hive:
        assert hive.page_ports.held == {"bob": port}
        await hive.lifecycle.start("bob", "operator")
        await hive.lifecycle.stop("bob", "operator")
        assert hive.page_ports.held == {"bob": port}
        await hive.lifecycle.destroy("bob", "operator", purge=False)
        assert hive.page_ports.held == {}


async def test_a_view_socket_is_held_from_spawn_to_destruction(layout: Layout) -> None:
    """A sealed agent has one too; it is looked at again at each start, and an agent without it runs all the same."""
    async with opened(layout) as hive:
        await hive.spawn("bob", start=False)
        await hive.deployments.deploy("bob", in_force(1, network="sealed"))
        assert hive.views.held == {"bob"}
    async with opened(layout) as hive:
        assert hive.views.held == {"bob"}
        for act in (hive.lifecycle.start, hive.lifecycle.restart):
            hive.views.held.clear()
            await act("bob", "operator")
            assert hive.views.held == {"bob"}
        hive.views.broken.add("bob")
        await hive.lifecycle.restart("bob", "operator")
        assert "bob" in hive.processes.running
        await hive.lifecycle.destroy("bob", "operator", purge=False)
        assert hive.views.held == set()


async def test_a_sealed_agent_has_no_port(layout: Layout) -> None:
    """The port of the host is not for an agent without network: a lent socket would lead it there."""
    async with opened(layout) as hive:
        port = (await hive.spawn("bob", network="host")).web_port
        for start in (True, False):
            if not start:
                await hive.lifecycle.stop("bob", "operator")
            await hive.deployments.deploy("bob", in_force(1, network="sealed"))
            assert hive.page_ports.held == {} and not hive.deployments.hold_port(hive.agents.record("bob"))
            await hive.deployments.deploy("bob", in_force(2, network="host"))
            assert hive.page_ports.held == {"bob": port} and hive.deployments.hold_port(hive.agents.record("bob"))


async def test_a_port_that_is_taken(layout: Layout) -> None:
    """It keeps no agent from running; it is tried again when the agent is stopped, started, asked for."""
    async with opened(layout) as hive:
        hive.page_ports.taken.add("bob")
        port = (await hive.spawn("bob", network="host")).web_port
        assert "bob" in hive.processes.running and not hive.deployments.hold_port(hive.agents.record("bob"))
        hive.page_ports.taken.clear()
        assert hive.deployments.hold_port(hive.agents.record("bob"))
        for act in (hive.lifecycle.stop, hive.lifecycle.start, hive.lifecycle.restart):
            hive.page_ports.held.clear()
            await act("bob", "operator")
            assert hive.page_ports.held == {"bob": port}


async def test_it_is_held_before_the_harness_starts(layout: Layout) -> None:
    """A harness finds its port there to be lent, also after a restart of a container that outlived a daemon."""
    held: list[bool] = []

    class Watching(FakeProcesses):
        async def start(self, spec: object) -> None:
            held.append("bob" in hive.page_ports.held)

    processes = Watching()
    async with opened(layout, processes) as hive:
        await hive.spawn("bob", network="host")
        hive.page_ports.held.clear()
        await hive.lifecycle.restart("bob", "operator")
        hive.page_ports.held.clear()
        await hive.lifecycle.start("bob", "operator")
    assert held == [True, True, True]


async def test_a_taken_port_is_tried_again_and_told_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's problem is a fact in the agent's status until the port is held, whoever tries."""
    monkeypatch.setattr(deployment, "_PORT_SECONDS", 0.001)
    async with opened(layout) as hive:
        hive.page_ports.taken.add("bob")
        port = (await hive.spawn("bob", network="host")).web_port
        assert hive.agents.status("bob").page_problem == f"another program listens on port {port}"
        monkeypatch.setattr(deployment, "find_listener", lambda _port: ListeningProcess(4711, 'py"\nthon'))
        keeping = asyncio.create_task(hive.deployments.keep_ports())
        shown = f'process 4711 ("py\'") listens on port {port}'
        async with asyncio.timeout(10):
            while hive.agents.status("bob").page_problem != shown or hive.broker.unacknowledged("operator") < 1:
                await asyncio.sleep(0)
        tries = hive.page_ports.tries
        async with asyncio.timeout(10):
            while hive.page_ports.tries < tries + 30:
                await asyncio.sleep(0.001)
        assert hive.broker.unacknowledged("operator") == 1
        hive.page_ports.taken.clear()
        async with asyncio.timeout(10):
            while hive.page_ports.held != {"bob": port}:
                await asyncio.sleep(0)
        assert hive.agents.status("bob").page_problem == ""
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_a_new_agent_gets_a_port_that_nobody_has(layout: Layout) -> None:
    """Another hive has the ports that its agents of the same names prefer; the manager's moves, too."""
    async with opened(layout) as hive:
        hive.page_ports.busy |= {8000, choose_port("bob", set())}
        assert (await hive.spawn("hm1nd")).web_port == 8001
        assert (await hive.spawn("bob")).web_port == choose_port("bob", hive.page_ports.busy)
