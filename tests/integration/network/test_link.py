"""The proxy and the daemon: policies, limits, reports, restarts; and listeners that an agent's side has broken."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hive_core.protocol.network.packets import EndConnectionsPacket, GonePacket, RefusedPacket
from hive_core.protocol.network.policy import since_boot
from tests.helpers.network.fake_daemon import FakeDaemon

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Client:
    """A program in an agent that holds a connection through the proxy open."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Return the next line; empty at the end."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), 20)).decode().strip()

    def send(self, text: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    async def end(self) -> None:
        """Wait until the connection has ended."""
        while await self.line():
            pass
        await self._process.wait()


async def open_client(daemon: FakeDaemon, target: str = "ok.example.org:22") -> Client:
    """Connect to a server that speaks first, and return the client when both have greeted each other."""
    process = await asyncio.create_subprocess_exec(
        *daemon.world.in_agent(),
        *(sys.executable, "-m", "tests.helpers.network.held_program", target),
        env=daemon.world.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    client = Client(process)
    assert await client.line() == "HTTP/1.1 200 Connection established"
    assert await client.line() == "SSH-2.0-test"
    client.send("SSH-2.0-client")
    assert await client.line() == "SSH-2.0-client"
    return client


async def reach(daemon: FakeDaemon, url: str = "https://ok.example.org/") -> str:
    """Return the status of a request from the agent, as curl prints it."""
    line = ["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_connect} %{response_code}"]
    _, printed = await daemon.world.run(*line, url)
    return printed.splitlines()[-1]


async def test_a_policy_holds_from_the_next_connection_on(daemon: FakeDaemon) -> None:
    """A connection goes on when its rule is taken away, until the daemon ends connections; no new one begins."""
    await daemon.allow("ok.example.org:22", "ok.example.org")
    kept = await open_client(daemon)
    await daemon.allow("ok.example.org")
    kept.send("still there")
    assert await kept.line() == "still there"
    assert (await reach(daemon, "https://ok.example.org:22/")).startswith("403")
    await daemon.tell(EndConnectionsPacket(name="ada"))
    await kept.end()
    assert await reach(daemon) == "200 200"


async def test_allowed_connections_survive_an_end_of_others(daemon: FakeDaemon) -> None:
    """Connections that a rule still allows go on at an end of the others."""
    await daemon.allow("ok.example.org:22")
    kept = await open_client(daemon)
    await daemon.allow("ok.example.org:22", "other.example.org")
    await daemon.tell(EndConnectionsPacket(name="ada"))
    kept.send("still there")
    assert await kept.line() == "still there"
    await daemon.allow()
    await daemon.tell(EndConnectionsPacket(name="ada"))
    await kept.end()


async def test_refusals_are_told_together(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Many refusals of one host are one packet with their count, and those of other hosts have theirs."""
    await daemon.allow(limits={"connections_per_second": 1_000})
    hosts = ["same"] * 40 + [f"n{number}" for number in range(10)]
    requests = tmp_path / "requests"
    requests.write_text(json.dumps([f"GET http://{host}.example.org/ HTTP/1.0\r\n\r\n" for host in hosts]))
    program = [sys.executable, "-m", "tests.helpers.network.many_program", str(requests)]
    status, printed = await daemon.world.run(*program, cwd=Path.cwd())
    assert status == 0 and len(json.loads(printed)) == 50, printed

    def told() -> list[RefusedPacket]:
        return [each for each in daemon.refused if each.host != "ok.example.org"]  # of the test before

    await daemon.wait_until(lambda: sum(each.count for each in told()) >= 50)
    same = [each for each in told() if each.host == "same.example.org"]
    assert sum(each.count for each in same) == 40 and len(same) <= 3
    assert sum(each.count for each in told()) == 50


async def test_traffic_is_told(daemon: FakeDaemon) -> None:
    """The daemon hears of connections and bytes when they change, and sums give what was sent."""
    before = len(daemon.traffic)
    assert await reach(daemon, "http://ok.example.org/bytes?count=100000") == "000 200"
    await daemon.wait_until(
        lambda: (
            len(daemon.traffic) > before
            and sum(each.received for each in daemon.traffic) >= 100_000
            and daemon.traffic[-1].connections == 0
        )
    )
    assert sum(each.sent for each in daemon.traffic) > 50
    metrics = await daemon.ask("/metrics")
    found = re.search(r'hive_egress_bytes_total\{agent="ada",direction="received"\} (\S+)', metrics)
    assert found is not None and float(found[1]) >= 100_000
    assert 'hive_egress_connections{agent="ada"} 0.0' in metrics


async def test_the_bytes_of_a_day(daemon: FakeDaemon) -> None:
    """An agent that has used up the day's bytes is refused, and a transfer that goes beyond them ends."""
    limits = {"bytes_per_day": 2**62}
    await daemon.allow("ok.example.org", limits=limits, bytes_today=2**62 - 1_000_000)
    status, printed = await daemon.world.run("curl", "-sS", "-o", "x", "http://ok.example.org/bytes?count=2000000000")
    assert status != 0, printed
    status, printed = await daemon.world.run("curl", "-sS", "http://ok.example.org/")
    assert "used up the bytes" in printed
    await daemon.wait_refusal("bytes_per_day")
    await daemon.allow("ok.example.org")
    assert await reach(daemon) == "200 200"


async def test_limits_of_connections_and_time(own: FakeDaemon) -> None:
    """An agent has so many connections and no more; one without a byte ends, and so does one that lasts too long."""
    rules = ("ok.example.org:22", "ok.example.org")
    await own.allow(*rules, limits={"connections": 1})
    await own.lend()
    held = await open_client(own)
    assert await reach(own) == "503 000"
    await own.wait_refusal("connections")
    held.send("not idle")
    assert await held.line() == "not idle"
    await own.allow(*rules, limits={"idle_seconds": 0.5})
    await held.end()
    await own.allow(*rules)
    held = await open_client(own)
    await own.allow(*rules, limits={"total_seconds": 0.5})
    await held.end()


_FLOOD = """
import socket, time
held = []
for _ in range(600):
    held.append(socket.socket())
    held[-1].setblocking(False)
    held[-1].connect_ex(("127.0.0.1", 3128))
print("flooded", flush=True)
time.sleep(60)
"""


async def test_many_connections_of_one_agent(own: FakeDaemon) -> None:
    """An agent that opens connections without end is served up to its limit, and delays no other agent."""
    await own.allow("ok.example.org", name="bob", limits={"connections": 20})
    await own.allow("ok.example.org")
    await own.lend(name="bob")
    await own.lend(name="ada", kind="listen6")
    flood = await asyncio.create_subprocess_exec(
        *own.world.in_agent(), sys.executable, "-c", _FLOOD, env=own.world.environment(), stdout=subprocess.PIPE
    )
    try:
        assert flood.stdout is not None
        assert await asyncio.wait_for(flood.stdout.readline(), 20) == b"flooded\n"
        line = ["curl", "-sS", "-x", "http://[::1]:3128", "-o", "/dev/null", "-w", "%{response_code}"]
        assert await own.world.run(*line, "https://ok.example.org/") == (0, "200")
        assert (await own.settle())["connections"] <= 100
    finally:
        flood.kill()
        await flood.wait()


async def test_a_daemon_that_is_away(own: FakeDaemon) -> None:
    """The proxy goes on while the daemon is away; when it is back, what it does not name is gone."""
    await own.allow("ok.example.org", "ok.example.org:22")
    await own.allow("ok.example.org", name="bob")
    first = await own.lend()
    await own.synced()
    held = await open_client(own)
    await own.leave()
    assert await reach(own) == "200 200"
    own.listen()
    await own.accept()
    await own.allow("ok.example.org:22", name="ada")
    first.close()  # As a harness that was started anew: of two listeners on a port each gets a part.
    await own.lend()
    health = await own.settle()
    assert health["agents"] == 2 and health["daemon"] and health["ok"]
    await own.synced()
    assert (await own.settle())["agents"] == 1
    assert (await reach(own)).startswith("403")
    held.send("still there")
    assert await held.line() == "still there"
    await own.tell(GonePacket(name="ada"))
    await held.end()
    assert (await own.settle())["agents"] == 0


async def test_a_rule_that_ends_while_the_daemon_is_away(own: FakeDaemon) -> None:
    """The proxy ends a rule with a time by itself, and the others hold on."""
    await own.allow("ok.example.org", "files.example.org", allow_ends=[since_boot() + 60_000])
    await own.lend()
    await own.synced()
    assert await reach(own, "https://files.example.org/") == "200 200"
    await own.allow("ok.example.org", "files.example.org", allow_ends=[since_boot() + 300])
    await own.leave()
    async with asyncio.timeout(20):
        while await reach(own, "https://files.example.org/") == "200 200":
            pass
    assert (await reach(own, "https://files.example.org/")).startswith("403")
    assert await reach(own) == "200 200"


async def test_a_policy_that_is_not_understood(daemon: FakeDaemon) -> None:
    """A policy that the proxy cannot read lets the agent reach nothing, instead of what it could before."""
    await daemon.tell_raw({"kind": "agent", "name": "ada", "policy": {"allow": ["*.com"]}})
    assert (await reach(daemon)).startswith("403")
    await daemon.tell_raw({"kind": "new of a newer daemon"})
    await daemon.allow("ok.example.org")
    assert await reach(daemon) == "200 200"


async def test_a_next_listener(own: FakeDaemon) -> None:
    """The next harness listens while the last listener is still held; connections to both are served."""
    await own.allow("ok.example.org")
    first = await own.lend()
    await own.lend()
    first.close()
    for _ in range(4):
        assert await reach(own) == "200 200"


async def test_sigterm(own: FakeDaemon) -> None:
    """SIGTERM ends the connections and the process, and its socket is gone."""
    await own.allow("ok.example.org:22")
    await own.lend()
    held = await open_client(own)
    assert await own.stop() == 0
    await held.end()
    assert not own.status.exists()


@pytest.mark.parametrize("kind", ["file", "pipe", "unix", "udp", "bound", "everywhere", "connected"])
async def test_what_is_no_listener_is_refused(daemon: FakeDaemon, kind: str) -> None:
    """A descriptor that is not a TCP listener on the loopback is closed and told, and the last listener stays."""
    daemon.forget()
    await daemon.give(kind)
    lost = await daemon.wait_lost()
    assert lost.name == "ada" and lost.why
    assert await reach(daemon) == "200 200"


async def test_a_listener_that_blocks_is_ended(own: FakeDaemon) -> None:
    """An agent that makes its listener block while the proxy accepts stops nobody but itself."""
    await own.allow("ok.example.org")
    await own.allow("ok.example.org", name="bob")
    hostile = await own.lend(name="bob")
    await own.lend(name="ada", kind="listen6")
    attack = [sys.executable, "-m", "tests.helpers.network.hostile_program", "block"]
    process = await asyncio.create_subprocess_exec(
        *own.world.in_agent(),
        *attack,
        pass_fds=[hostile.fileno()],
        stdin=hostile.fileno(),
        env=own.world.environment(),
    )
    lost = await own.wait_lost()
    assert lost.name == "bob" and "an accept blocked" in own.log()
    await asyncio.wait_for(process.wait(), 10)  # It cannot accept any more either.
    line = ["curl", "-sS", "-x", "http://[::1]:3128", "-o", "/dev/null", "-w", "%{response_code}"]
    assert await own.world.run(*line, "https://ok.example.org/") == (0, "200")


async def test_a_listener_that_is_shut_down(own: FakeDaemon) -> None:
    """A listener that its agent shuts down is told to be lost, and another one takes its place."""
    await own.allow("ok.example.org")
    hostile = await own.lend()
    hostile.shutdown(socket.SHUT_RDWR)
    assert (await own.wait_lost()).name == "ada"
    await own.lend()
    assert await reach(own) == "200 200"


async def test_options_that_connections_inherit(own: FakeDaemon) -> None:
    """A listener with SO_LINGER does not make the proxy wait when it closes a connection."""
    await own.allow("ok.example.org")
    hostile = await own.lend()
    hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    hostile.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    program = [sys.executable, "-m", "tests.helpers.network.hostile_program", "deaf"]
    process = await asyncio.create_subprocess_exec(
        *own.world.in_agent(), *program, env=own.world.environment(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None and await process.stdout.readline() == b"waits\n"
    await own.tell(GonePacket(name="ada"))  # Closes the connection, whose bytes nobody reads.
    await asyncio.wait_for(own.settle(), 5)
    process.kill()
    await process.wait()


@pytest.mark.thorough
async def test_slow_and_endless_heads(own: FakeDaemon) -> None:
    """A head that comes slowly has its time, and one without an end its size; others are served meanwhile."""
    await own.allow("ok.example.org")
    await own.lend()
    slow = await asyncio.create_subprocess_exec(
        *own.world.in_agent(),
        *(sys.executable, "-m", "tests.helpers.network.hostile_program", "slow"),
        env=own.world.environment(),
        stdout=subprocess.PIPE,
    )
    assert slow.stdout is not None and await slow.stdout.readline() == b"waits\n"
    line = [sys.executable, "-m", "tests.helpers.network.connect_program", "-"]
    _, printed = await own.world.run(
        *line, "GET http://ok.example.org/ HTTP/1.1\\r\\n" + "A: b\\r\\n" * 3_000, cwd=Path.cwd()
    )
    assert printed.startswith("HTTP/1.1 431 ")
    assert await reach(own) == "200 200"
    assert await asyncio.wait_for(slow.stdout.readline(), 30) == b"ended\n"
    await slow.wait()


async def test_nothing_is_left_over(own: FakeDaemon, tmp_path: Path) -> None:
    """Connections of all kinds, ended in all ways, leave no descriptor and no connection behind."""
    await own.allow(
        "ok.example.org", "ok.example.org:22", "ok.example.org:81", "dead-six.example.org", "private.example.org"
    )
    await own.lend()
    assert await reach(own) == "200 200"
    await own.wait_idle()
    before = own.descriptors()
    hosts = ("ok", "dead-six", "private", "unknown")
    requests = [f"GET http://{host}.example.org/ HTTP/1.0\r\n\r\n" for host in hosts]
    requests += [
        f"CONNECT {host}.example.org:443 HTTP/1.0\r\n\r\n{rest}" for host in hosts for rest in ("", "\x16", "x")
    ]
    requests += [
        "G",
        "GET http://ok.example.org:81/ HTTP/1.0\r\n\r\n",
        "GET http://ok.example.org/ HTTP/1.0\r\n",
        "CONNECT ok.example.org:22 HTTP/1.0\r\n\r\nhello",
        "CONNECT ok.example.org:22 HTTP/1.0\r\n\r\nSSH-2.0-client\r\n",
        "CONNECT ok.example.org:22 HTTP/1.0\r\n\r\n",
    ]
    place = tmp_path / "requests"
    place.write_text(json.dumps(requests * 2))
    program = [sys.executable, "-m", "tests.helpers.network.many_program", str(place)]
    status, printed = await own.world.run(*program, cwd=Path.cwd())
    assert status == 0, printed
    held = await open_client(own)
    await own.allow()
    await own.tell(EndConnectionsPacket(name="ada"))
    await held.end()
    await own.wait_idle()
    assert own.descriptors() == before


async def test_networks_are_followed(own: FakeDaemon) -> None:
    """An address that the host gets while the proxy runs is refused, and reached again when it is gone."""
    await own.allow("ok.example.org", "four.example.org")
    await own.lend()
    assert await reach(own, "https://four.example.org/") == "200 200"

    async def ip(*line: str) -> None:
        process = await asyncio.create_subprocess_exec(*own.world.on_host(), "ip", *line, env=own.world.environment())
        assert await process.wait() == 0

    await ip("addr", "add", "45.0.0.1/24", "dev", "lo")
    try:
        await own.wait_networks("45.0.0.0/24", refused=True)
        assert (await reach(own, "https://four.example.org/")).startswith("403")
        assert "network of this host" in (await own.wait_refusal("refused_address", "four.example.org")).detail
    finally:
        await ip("addr", "del", "45.0.0.1/24", "dev", "lo")
    await own.wait_networks("45.0.0.0/24", refused=False)
    assert await reach(own, "https://four.example.org/") == "200 200"


async def test_a_proxy_without_a_daemon(own: FakeDaemon) -> None:
    """A daemon that dies without a word is tried again, and SIGINT ends the proxy meanwhile."""
    await own.leave()
    assert own.process is not None
    own.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(own.process.wait(), 10) == 0
