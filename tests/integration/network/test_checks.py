"""Checks of proposed work through the proxy: with the daemon's own end of it, and real sandboxes."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from hive_core.outside.check_access import CheckAccess
from hive_core.outside.egress_gateway import EgressGateway
from hive_core.outside.network.network import Network
from hive_core.protocol.names import EVERYONE
from hive_core.protocol.network.packets import FromEgress
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.runtimes.checks.order import PLACES, CheckLimits, CheckRun
from hive_core.runtimes.checks.supervise import MIB
from hive_core.runtimes.local.runtime import LocalRuntime
from tests.helpers.network.world import SERVER_4, World
from tests.unit.core.runtimes.local.local_hive import need

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMITS = CheckLimits(memory=512 * MIB, tasks=100, disk=64 * MIB, cpu=100, output=MIB, seconds=30)
CURL = "curl -sS --max-time 20 -o /dev/null -w '%{http_code}\\n'"


class Policies:
    """The rules of the network: no agents, and what is denied to all."""

    def __init__(self) -> None:
        self.denied: list[str] = []
        self.heard_of: list[FromEgress] = []

    def policy_for_check(self, hosts: Sequence[str]) -> EgressPolicy:
        return EgressPolicy(allow=list(hosts), deny=self.denied)

    def policy(self, name: str) -> EgressPolicy:
        raise AssertionError(name)

    def bytes_today(self, name: str) -> int:
        raise AssertionError(name)

    async def heard(self, packet: FromEgress) -> None:
        self.heard_of.append(packet)

    def proxy_ended(self) -> None:
        pass


class Hive:
    """A daemon's end of the proxy, and a runtime that runs checks."""

    def __init__(self, world: World, directory: Path) -> None:
        self.policies = Policies()
        self.lines: list[str] = []
        self._world = world
        self._directory = directory
        self._runs = 0

    async def start(self) -> None:
        link = self._directory / "egress.sock"
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.bind(str(link))
        server.listen()
        self.egress = EgressGateway(server, lambda _: True, self.policies)
        self.access = CheckAccess(self.egress, cast(Network, self.policies))
        self._serving = asyncio.create_task(self.egress.run())
        line = [*self._world.on_host(), sys.executable, "-m", "hive_core", "egress", "--link", str(link)]
        self._proxy = await asyncio.create_subprocess_exec(*line, env=self._world.environment())
        scratch = self._directory / "scratch"
        self.runtime = await LocalRuntime.open("bubblewrap", closures=self._directory / "closures", scratch=scratch)

    async def stop(self) -> None:
        await self.runtime.close()
        self._proxy.terminate()
        await self._proxy.wait()
        self._serving.cancel()
        await asyncio.wait([self._serving])

    async def sh(self, script: str, *hosts: str) -> str:
        """Run a check that may reach hosts; returns the reason of its failure."""
        self._runs += 1
        directory = self._directory / f"run-{self._runs}"
        for name in ("files", *PLACES):
            (directory / name).mkdir(parents=True)
        argv = ("sh", "-c", script)
        run = CheckRun(f"web-{self._runs}", "ada", "", "web", directory, argv, LIMITS)
        self.lines.clear()
        access = await self.access.open(run.label, hosts, self.lines.append)
        try:
            run = replace(run, way_out=access.way_out)
            return await self.runtime.run_check(run, lambda line: self.lines.append(f"| {line}"))
        finally:
            await access.close()


@pytest_asyncio.fixture(loop_scope="session")
async def hive(world: World, tmp_path: Path) -> AsyncIterator[Hive]:
    need("bubblewrap")
    if shutil.which("curl") is None:
        pytest.skip("not installed: curl")
    hive = Hive(world, tmp_path)
    await hive.start()
    try:
        yield hive
    finally:
        await hive.stop()


async def test_a_check_reaches_what_its_repository_may(hive: Hive, world: World) -> None:
    """A check gets a page of an allowed host and of no other; the last refusal is told before it has ended."""
    script = f"{CURL} http://ok.example.org/; {CURL} http://secret-check.example.org/; {CURL} http://{SERVER_4}/"
    assert await hive.sh(script, "ok.example.org") == ""
    assert hive.lines[:3] == ["| 200", "| 403", "| 403"]
    refused = sorted(line for line in hive.lines if not line.startswith("| "))
    assert len(refused) == 2 and all(line.startswith("refused: ") for line in refused), hive.lines
    assert '"secret-check.example.org:80": no rule allows it; no check of this repository may reach' in refused[1]
    assert not [each for each in world.queries() if "secret-check" in each]
    assert hive.policies.heard_of == []


async def test_a_check_has_its_own_rules(hive: Hive) -> None:
    """Checks side by side reach each what its own repository may, and what is denied to all, none."""
    script = f"for host in ok other files; do {CURL} http://$host.example.org/; done"
    hive.policies.denied = ["files.example.org"]
    assert await hive.sh(script, "ok.example.org", "files.example.org") == ""
    assert [line for line in hive.lines if line.startswith("| ")] == ["| 200", "| 403", "| 403"]
    assert any('files.example.org:80": a rule denies it' in line for line in hive.lines)
    assert await hive.sh(script, "other.example.org") == ""
    assert [line for line in hive.lines if line.startswith("| ")] == ["| 403", "| 200", "| 403"]


async def test_a_denial_for_all_reaches_checks_that_run(hive: Hive) -> None:
    """A denial for all that is made while a check runs holds for its next connection."""
    get = f"{CURL} http://ok.example.org/"
    script = f'{get}; until [ "$({get})" = 403 ]; do sleep 0.05; done; echo denied'
    running = asyncio.create_task(hive.sh(script, "ok.example.org"))
    async with asyncio.timeout(20):
        while "| 200" not in hive.lines:
            await asyncio.sleep(0.02)
    hive.policies.denied = ["ok.example.org"]
    hive.egress.policy_changed(EVERYONE)
    assert await running == ""
    assert "| denied" in hive.lines


async def test_refusals_of_a_check_are_bounded(hive: Hive) -> None:
    """A check that asks for hosts without end does not fill its log with refusals."""
    script = f"for n in $(seq 80); do printf 'http://n%s.example.org/\\n' $n; done | xargs -n 40 {CURL}"
    await hive.sh(script, "ok.example.org")
    assert 20 <= len([line for line in hive.lines if line.startswith("refused")]) <= 51
