"""The proxy for the agents' network beside Squid, with the same allow-list and one processor core each."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.protocol.network.packets import AgentPacket, ListenerPacket, SyncedPacket
from hive_core.protocol.network.policy import EgressLimits, EgressPolicy
from tests.benchmarks.bench_directory import say
from tests.benchmarks.figure import Bound, Figure
from tests.benchmarks.proc import resident_mb
from tests.helpers.network.world import DNS, World, why_not

ROUNDS = 5
_CONNECTS = 2_000
_STREAM_SECONDS = 3
_ROUND_TRIPS = 1_000
_IDLE = 1_000
_HOSTS = ["short.example.org", "stream.example.org", "tls.example.org"]
_SQUID = """
http_port 127.0.0.1:3130
acl allowed dstdomain {hosts}
acl tls port 443
http_access deny CONNECT !tls
http_access allow allowed
http_access deny all
cache deny all
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
netdb_filename none
pinger_enable off
coredump_dir {directory}
dns_nameservers {dns}
max_filedescriptors 8192
shutdown_lifetime 0 seconds
"""
_PROBE = "import socket; socket.create_connection(('127.0.0.1', 3130))"
_PORTS = {"hive": 3128, "squid": 3130}


def run(directory: Path) -> list[Figure]:
    """Processor time of new connections, throughput per processor time, latency, and memory of idle connections."""
    what = "egress: processor time of a new CONNECT connection"
    squid = shutil.which("squid", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    reason = why_not() or ("" if squid else "not installed: squid") or ("" if os.geteuid() == 0 else "needs root")
    if reason or squid is None:
        return [Figure(what, "ms", [], why_not=reason)]
    world = World(directory, "tests.benchmarks.network.egress_servers")
    try:
        world.start(["taskset", "-c", "1"])
        with _hive(world, directory) as hive, _squid(world, directory, squid) as other:
            return _measure(world, {"hive": hive, "squid": other}, what)
    finally:
        world.stop()


def _measure(world: World, processes: dict[str, int], what: str) -> list[Figure]:
    times: dict[str, list[float]] = {"hive": [], "squid": []}
    rates: dict[str, list[float]] = {"hive": [], "squid": []}
    trips: dict[str, list[float]] = {"hive": [], "squid": [], "none": []}
    for number in range(ROUNDS + 1):
        say(f"round {number} of {ROUNDS}")
        for name, pid in processes.items():
            before = _processor_seconds(pid)
            _client(world, "connects", name, _CONNECTS)
            spent = _processor_seconds(pid) - before
            before = _processor_seconds(pid)
            moved = _client(world, "stream", name, _STREAM_SECONDS)
            streamed = _processor_seconds(pid) - before
            if number:  # The first round looks names up and fills caches.
                times[name].append(spent / _CONNECTS * 1_000)
                rates[name].append(moved / streamed / 2**20)
        for name, found in trips.items():
            trip = _client(world, "latency", name, _ROUND_TRIPS)
            if number:
                found.append(trip)
    memory = {name: _idle_mb(world, name, pid) for name, pid in processes.items()}
    beside = "Squid"
    return [
        Figure(what, "ms", times["hive"], times["squid"], beside, Bound("at most", 1.5, "ratio")),
        Figure("  MB carried in a second of processor time", "MB/s", rates["hive"], rates["squid"], beside,
               Bound("at least", 0.7, "ratio")),
        Figure("  a round trip with TLS, beside none", "ms", trips["hive"], trips["none"], "no proxy",
               Bound("at most", 1.0, "difference")),
        Figure(f"  memory with {_IDLE:,} idle connections", "MB", [memory["hive"]], [memory["squid"]], beside,
               Bound("at most", 80.0, "value")),
    ]  # fmt: skip


def _client(world: World, mode: str, name: str, count: int) -> float:
    made = subprocess.run(
        _client_line(world, mode, name, count),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=world.environment(),
        check=True,
        timeout=300,
    )
    return float(made.stdout)


def _client_line(world: World, mode: str, name: str, count: int) -> list[str]:
    program = [sys.executable, "-m", "tests.benchmarks.network.egress_client"]
    return [*world.on_host(), "taskset", "-c", "1", *program, mode, str(_PORTS.get(name, 0)), str(count)]


def _idle_mb(world: World, name: str, pid: int) -> float:
    client = subprocess.Popen(
        _client_line(world, "idle", name, _IDLE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=world.environment(),
    )
    assert client.stdout is not None and client.stdout.readline()
    found = resident_mb(pid)
    client.communicate(timeout=60)
    return found


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _hive(world: World, directory: Path) -> Iterator[int]:
    """Start the proxy with one agent, whose listener is on the host's loopback, as Squid's is."""
    path = directory / "egress.sock"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(str(path))
    server.listen()
    line = [sys.executable, "-m", "hive_core", "egress", "--link", str(path), "--log-level", "error"]
    process = subprocess.Popen([*world.on_host(), "taskset", "-c", "0", *line], env=world.environment())
    try:
        connection, _ = server.accept()
        limits = EgressLimits(connections=10_000, connections_per_second=10_000)
        agent = AgentPacket(name="ada", policy=EgressPolicy(allow=_HOSTS, limits=limits))
        connection.send(agent.model_dump_json().encode())
        listener = world.descriptor("listen", on_host=True)
        packet = ListenerPacket(name="ada", purpose="proxy").model_dump_json().encode()
        socket.send_fds(connection, [packet], [listener])
        connection.send(SyncedPacket().model_dump_json().encode())
        os.close(listener)
        yield process.pid
        connection.close()
    finally:
        server.close()
        process.terminate()
        process.wait()


@contextmanager
def _squid(world: World, directory: Path, program: str) -> Iterator[int]:
    """Start Squid, as its own user."""
    configuration = directory / "squid.conf"
    configuration.write_text(_SQUID.format(hosts=" ".join(_HOSTS), directory=directory, dns=DNS))
    line = [*world.on_host(user=False), "taskset", "-c", "0", program, "-N", "-f", str(configuration)]
    process = subprocess.Popen(line, env=world.environment(), stdin=subprocess.DEVNULL)
    try:
        probe = [*world.on_host(), sys.executable, "-c", _PROBE]
        while subprocess.run(probe, env=world.environment(), capture_output=True, check=False).returncode:
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
