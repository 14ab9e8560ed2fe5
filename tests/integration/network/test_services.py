"""Services of the host that a sealed agent reaches by name, at the addresses that the operator has named."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.helpers.network.fake_daemon import FakeDaemon
from tests.helpers.network.world import HOST_PUBLIC

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = 20.0
ADDRESS = "127.0.0.1:5432"
DB = {"db": {"port": 3200, "address": ADDRESS}}


class Visitor:
    """A program in the agent with a connection to a port of its loopback."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Return the next line; the last one says how the connection ended."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), SECONDS)).decode().rstrip("\n")

    def send(self, text: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    async def close_sending(self) -> None:
        """End what is sent, and go on to read."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def end(self) -> None:
        """Wait for the end of the program."""
        await asyncio.wait_for(self._process.wait(), SECONDS)


async def visit(daemon: FakeDaemon, port: int = 3200) -> Visitor:
    """Connect to a port of the agent's loopback."""
    return Visitor(
        await asyncio.create_subprocess_exec(
            *daemon.world.in_agent(),
            *(sys.executable, "-m", "tests.integration.network.service_program", "visit", str(port)),
            env=daemon.world.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )


async def outcome(daemon: FakeDaemon, port: int = 3200) -> str:
    """Return what comes first from a port of the agent's loopback: a line of a service, or how the connection ends."""
    visitor = await visit(daemon, port)
    found = await visitor.line()
    await visitor.close_sending()
    await visitor.end()
    return found


@asynccontextmanager
async def serving(daemon: FakeDaemon, *addresses: str) -> AsyncIterator[None]:
    """Run a service on the host."""
    process = await asyncio.create_subprocess_exec(
        *daemon.world.on_host(),
        *(sys.executable, "-m", "tests.integration.network.service_program", "serve", *(addresses or [ADDRESS])),
        env=daemon.world.environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def test_services_are_reached_at_their_addresses(own: FakeDaemon) -> None:
    """Bytes go both ways, also of services that speak first; an end of one side leaves the other open, and all counts
    as the agent's traffic. The addresses are those that no rule could open.
    """
    there = [ADDRESS, "[::1]:5432", f"{HOST_PUBLIC}:5432"]
    services = {
        f"s{port}": {"port": port, "address": each} for port, each in enumerate([*there, "localhost:5432"], 3200)
    }
    await own.allow(services=services)
    for name, service in services.items():
        await own.lend(kind=f"port{service['port']}", purpose=f"service:{name}")
    async with serving(own, *there):
        for port in range(3200, 3204):
            visitor = await visit(own, port)
            assert await visitor.line() == "hello"
            visitor.send("12345")
            assert await visitor.line() == "12345"
            await visitor.close_sending()
            assert [await visitor.line(), await visitor.line()] == ["6 bytes", "end"]
    await own.wait_until(lambda: sum(each.sent for each in own.traffic) == 4 * 6)
    await own.wait_until(lambda: sum(each.received for each in own.traffic) == 4 * len("hello\n12345\n6 bytes\n"))


async def test_nothing_else_on_the_host_is_reached(own: FakeDaemon) -> None:
    """A service is behind its own listener only: the proxy refuses its address, and a listener for nothing that the
    agent has, or at another port than it should be, is not served.
    """
    await own.allow(services=DB)
    await own.lend()
    await own.lend(kind="port3200", purpose="service:db")
    kept = [await own.lend(kind="port3201", purpose="service:db"), await own.lend(kind="port3202", purpose="service:x")]
    for each in kept:
        each.close()
    async with serving(own):
        assert await outcome(own) == "hello"
        for port in (3201, 3202, 5432):
            assert await outcome(own, port) in ("refused", "reset")
        line = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "", f"http://{ADDRESS}/")
        assert (await own.world.run(*line))[1] == "403"


async def test_a_service_that_is_down(own: FakeDaemon) -> None:
    """A connection to a service that does not answer is reset, and the daemon is told why."""
    await own.allow(services=DB)
    await own.lend(kind="port3200", purpose="service:db")
    assert await outcome(own) == "reset"
    told = await own.wait_refusal("service_down", "service:db")
    assert (told.port, told.detail) == (0, f"{ADDRESS} does not answer: Connection refused")
    await own.allow(services={"db": {"port": 3200, "address": "nowhere.example.org:5432"}})
    assert await outcome(own) == "reset"
    await own.wait_until(lambda: any("nowhere.example.org was not found" in each.detail for each in own.refused))


async def test_a_service_that_is_taken_away(own: FakeDaemon) -> None:
    """A service whose offer is gone ends for the agent, with a reason; one at another port has no listener."""
    await own.allow(services=DB)
    duplicate = await own.lend(kind="port3200", purpose="service:db")
    duplicate.close()
    async with serving(own):
        held = await visit(own)
        assert await held.line() == "hello"
        await own.allow(services=DB, deny=["example.org"])  # Another rule is nothing that ends it.
        held.send("still there")
        assert await held.line() == "still there"
        await own.allow(services={"db": {"port": 3200}})
        assert await held.line() == "end"
        assert await outcome(own) == "reset"
        await own.wait_refusal("service_withdrawn", "service:db")
        await own.allow(services={"db": {"port": 3201, "address": ADDRESS}})
        assert await outcome(own) in ("refused", "reset")


async def test_limits_hold_for_services(own: FakeDaemon) -> None:
    """Connections to services count as the agent's, end when they are idle, and stop at the bytes of the day."""
    await own.allow(services=DB, limits={"connections": 1})
    await own.lend(kind="port3200", purpose="service:db")
    async with serving(own):
        held = await visit(own)
        assert await held.line() == "hello"
        assert await outcome(own) == "reset"
        await own.wait_refusal("connections")
        await own.allow(services=DB, limits={"idle_seconds": 0.5})
        assert await held.line() == "end"
        await own.allow(services=DB, limits={"bytes_per_day": 1_000}, bytes_today=1_000)
        assert await outcome(own) == "reset"
        await own.wait_refusal("bytes_per_day")
