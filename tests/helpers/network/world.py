"""A small internet in network namespaces: a host with the proxy, servers behind a router, and a sealed agent.

The namespaces belong to a user namespace, so that no root is needed. Servers have public addresses, which are reached
from the host through a router, and private ones as well, which would answer too. The host has a public address of its
own. The agent's namespace has nothing but a loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.helpers.network.certificates import make_authority

SERVER_4, SERVER_6 = "45.0.0.10", "2a05:1::10"
SERVER_4_STREAM, SERVER_4_TLS = "45.0.0.11", "45.0.0.12"
"""Further addresses of the servers, for those of benchmarks."""
DNS = "45.0.0.53"
HOST_PUBLIC = "46.0.0.1"
PRIVATE = "10.66.0.1"
LINK = "10.9.0.2"
NEIGHBOUR = "46.1.0.2"
"""A public address in a network of the host."""
PROXY = "http://127.0.0.1:3128"

ZONE: dict[str, dict[str, list[list[str]]]] = {
    **{
        f"{name}.example.org": {"A": [[SERVER_4]], "AAAA": [[SERVER_6]]}
        for name in ("ok", "other", "files", "www.below", "pypi", "npm", "git")
    },
    "four.example.org": {"A": [[SERVER_4]]},
    "short.example.org": {"A": [[SERVER_4]]},
    "stream.example.org": {"A": [[SERVER_4_STREAM]]},
    "tls.example.org": {"A": [[SERVER_4_TLS]]},
    "six.example.org": {"AAAA": [[SERVER_6]]},
    "dead-six.example.org": {"A": [[SERVER_4]], "AAAA": [["2a05:dead::1"]]},
    "dead-four.example.org": {"A": [["45.99.0.1"]], "AAAA": [[SERVER_6]]},
    "dead.example.org": {"A": [["45.99.0.1"]]},
    "mixed.example.org": {"A": [[PRIVATE, SERVER_4]]},
    # The second answer is that of whoever wants to reach the inside after the check.
    "flip.example.org": {"A": [[SERVER_4], [PRIVATE]]},
    "private.example.org": {"A": [[PRIVATE]]},
    "loopback.example.org": {"A": [["127.0.0.1"]], "AAAA": [["::1"]]},
    "unspecified.example.org": {"A": [["0.0.0.0"]], "AAAA": [["::"]]},
    "metadata.example.org": {"A": [["169.254.169.254"]]},
    "azure.example.org": {"A": [["168.63.129.16"]]},
    "mapped.example.org": {"AAAA": [[f"::ffff:{PRIVATE}"]]},
    "nat64.example.org": {"AAAA": [["64:ff9b::a42:1"]]},
    "unique-local.example.org": {"AAAA": [["fd66::1"]]},
    "host.example.org": {"A": [[HOST_PUBLIC]]},
    "link.example.org": {"A": [[LINK]]},
    "neighbour.example.org": {"A": [[NEIGHBOUR]]},
}

_ROUTER = f"""
set -e
ip link set lo up
ip link add p0 type veth peer name s0 netns $SERVERS
ip addr add 10.9.0.1/30 dev p0
ip addr add fd09::1/64 dev p0 nodad
ip addr add 46.1.0.1/24 dev p0
ip addr add {HOST_PUBLIC}/32 dev lo
ip link set p0 up
nsenter --net=/proc/$SERVERS/ns/net sh -ec '
ip link set lo up
ip addr add {LINK}/30 dev s0
ip addr add {NEIGHBOUR}/24 dev s0
ip addr add fd09::2/64 dev s0 nodad
ip link set s0 up
for each in {SERVER_4} {SERVER_4_STREAM} {SERVER_4_TLS} {DNS}; do ip addr add $each/32 dev lo; done
for each in {PRIVATE} 169.254.169.254 168.63.129.16; do ip addr add $each/32 dev lo; done
for each in {SERVER_6} fd66::1 64:ff9b::a42:1; do ip addr add $each/128 dev lo nodad; done
ip route add blackhole 45.99.0.0/16
ip route add blackhole 2a05:dead::/32
'
ip route add default via {LINK}
ip -6 route add default via fd09::2
nsenter --net=/proc/$AGENT/ns/net ip link set lo up
mount --bind $DIRECTORY/resolv.conf /etc/resolv.conf
"""


def why_not() -> str:
    """Return why there can be no such world here; empty if there can."""
    missing = [program for program in ("ip", "unshare", "nsenter") if shutil.which(program, path=_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "-Urnm", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "no user and network namespaces can be made here"


class World:
    """The namespaces and the servers in them; started once for many tests."""

    def __init__(self, directory: Path, servers: str = "tests.helpers.network.servers_program") -> None:
        """`servers` is the module that serves."""
        self.directory = directory
        self._program = servers
        self.authority = directory / "authority.pem"
        self.files = directory / "files"
        """Directory that the servers serve below `/files/`."""
        self._queries = directory / "queries"
        self._processes: list[subprocess.Popen[Any]] = []
        self._host = 0
        self._agent = 0
        self._servers = 0

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Make the namespaces, and start the servers; their command line begins with `prefix`."""
        self.files.mkdir()
        self._queries.touch()
        (self.directory / "zone.json").write_text(json.dumps(ZONE))
        (self.directory / "resolv.conf").write_text(f"nameserver {DNS}\noptions timeout:1 attempts:1\n")
        make_authority(self.directory, [x509.DNSName("*.example.org"), x509.DNSName("*.below.example.org")])
        self._host = self._hold(["unshare", "--user", "--map-root-user", "--net", "--mount"])
        self._servers = self._hold([*self._within(self._host), "unshare", "--net"])
        self._agent = self._hold([*self._within(self._host), "unshare", "--net"])
        variables = {"SERVERS": str(self._servers), "AGENT": str(self._agent), "DIRECTORY": str(self.directory)}
        subprocess.run(
            [*self._within(self._host, mount=True), "sh", "-c", _ROUTER],
            check=True,
            env=self.environment(**variables),
            timeout=30,
        )
        program = [*prefix, sys.executable, "-m", self._program, str(self.directory)]
        servers = self._popen([*self._within(self._servers), *program])
        assert servers.stdout is not None and servers.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """End everything."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @contextmanager
    def another_agent(self) -> Iterator[None]:
        """Let the agent be another one within the block, so that no listener of an earlier one is in its place."""
        before, self._agent = self._agent, self._hold([*self._within(self._host), "unshare", "--net"])
        try:
            subprocess.run([*self.in_agent(), "ip", "link", "set", "lo", "up"], check=True, env=self.environment())
            yield
        finally:
            self._agent = before

    def on_host(self, *, user: bool = True) -> list[str]:
        """Return what a command line begins with to run where the proxy runs.

        Without `user` root stays root of the machine, and can become other users.
        """
        line = self._within(self._host, mount=True)
        return line if user else [word for word in line if word not in ("--user", "--preserve-credentials")]

    def in_agent(self) -> list[str]:
        """Return what a command line begins with to run in the sealed agent."""
        return self._within(self._agent)

    def in_servers(self) -> list[str]:
        """Return what a command line begins with to run where the servers are."""
        return self._within(self._servers)

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment in which programs trust the servers."""
        trusted = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
        return {
            "PATH": _path(),
            "HOME": str(self.directory),
            "PYTHONPATH": str(Path.cwd()),
            **dict.fromkeys(trusted, str(self.authority)),
            **more,
        }

    def proxied(self, **more: str) -> dict[str, str]:
        """Return the environment of an agent's programs."""
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        return self.environment(**dict.fromkeys(names, PROXY), NODE_USE_ENV_PROXY="1", **more)

    def queries(self) -> list[str]:
        """Return the names that were looked up, with their types, in order."""
        return self._queries.read_text().splitlines()

    def descriptor(self, program: str = "listen", *, on_host: bool = False) -> int:
        """Return the descriptor of a socket that was made in the agent; `listener_program` has the kinds."""
        place = self.on_host() if on_host else self.in_agent()
        mine, other = socket.socketpair()
        with mine, other:
            subprocess.run(
                [*place, sys.executable, "-m", "tests.helpers.network.listener_program", program],
                stdin=other.fileno(),
                check=True,
                env=self.environment(),
                timeout=30,
            )
            _, descriptors, _, _ = socket.recv_fds(mine, 1, 1)
        return descriptors[0]

    async def run(
        self, *line: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> tuple[int, str]:
        """Run a program in the agent, through the proxy; return its status and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self.in_agent(),
            *line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment or self.proxied(),
            cwd=cwd or self.directory,
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, printed.decode(errors="replace")

    def _hold(self, line: list[str]) -> int:
        """Start a process that keeps a namespace, and return its id."""
        process = self._popen([*line, "sh", "-c", "echo $$; exec sleep 600"])
        assert process.stdout is not None
        return int(process.stdout.readline())

    def _popen(self, line: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.environment())
        self._processes.append(process)
        return process

    def _within(self, pid: int, *, mount: bool = False) -> list[str]:
        line = ["nsenter", f"--target={pid}", "--user", "--preserve-credentials", "--net"]
        return [*line, f"--mount=/proc/{self._host}/ns/mnt", f"--wd={Path.cwd()}"] if mount else line


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
