"""An SSH server for an agent whose sessions are real ones, on this machine, and OpenSSH's client in front of it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from hive_core.cli.access.session import read_answer
from hive_core.cli.access.ssh.keys import SshKeys, make_keys, read_keys, render_config
from hive_core.cli.access.ssh.openings import Openings
from hive_core.cli.access.ssh.server import serve_connection
from hive_core.protocol.access.opening import Opening

ROOT = Path(__file__).parents[6]

AGENT = """
import os, signal, socket, sys
from hive_agent.access import session
variables = {**os.environ, "HIVE_AGENT_STATE": sys.argv[2]}
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(128)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        session.serve(connection, variables)
        os._exit(0)
    connection.close()
"""
RELAY = """
import os, socket, sys, threading
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
def copy_in():
    while data := os.read(0, 65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
threading.Thread(target=copy_in, daemon=True).start()
while data := connection.recv(65536):
    os.write(1, data)
"""


@dataclass
class Done:
    """The end of a program."""

    code: int
    out: str
    err: str


@dataclass
class Ssh:
    """The client's side: its settings, and what the proxy has said and opened."""

    directory: Path
    state: Path
    keys: SshKeys
    path: Path
    said: list[str] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        return ["ssh", "-F", str(self.directory / "config")]

    async def run(self, *line: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        """Run a program to its end."""
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=self.directory,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def call(self, *arguments: str, stdin: bytes = b"", options: Sequence[str] = ()) -> Done:
        """Run ssh to the agent."""
        return await self.run(*self.command, *options, "hive-ada", *arguments, stdin=stdin)

    async def connect(self) -> asyncssh.SSHClientConnection:
        """Connect with asyncssh's client."""
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, str(self.path))
        key = str(self.directory / "keys/id_ed25519")
        return await asyncssh.connect(
            sock=connection, username="root", client_keys=[key], known_hosts=None, config=None
        )

    def open(self, opening: Opening) -> socket.socket:
        """Open a session as the daemon does."""
        self.openings.append(opening)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.directory / "a"))
            connection.sendall(opening.encode())
            read_answer(connection, "ada")
        except BaseException:
            connection.close()
            raise
        return connection


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the socket `a`, on which sessions are served in processes of their own."""
    directory = tmp_path_factory.mktemp("s")
    (directory / "state").mkdir()
    line = [sys.executable, "-c", AGENT, str(directory / "a"), str(directory / "state")]
    serving = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert serving.stdout is not None
    assert serving.stdout.readline() == b"ready\n"
    yield directory
    serving.kill()
    serving.wait()
    serving.stdout.close()


@pytest.fixture
async def ssh(agent: Path) -> AsyncIterator[Ssh]:
    """OpenSSH's settings for the agent, and the SSH server behind them."""
    if shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client (Debian: openssh-client)")
    make_keys(agent / "keys")
    keys = read_keys(agent / "keys")
    lines = render_config(agent / "keys", ["x"]).splitlines()
    (agent / "relay.py").write_text(RELAY)
    relay = shlex.join([sys.executable, "-I", "-S", str(agent / "relay.py"), str(agent / "p")])
    config = [f"    ProxyCommand {relay}" if "ProxyCommand" in line else line for line in lines]
    (agent / "config").write_text("\n".join(config) + "\n")
    found = Ssh(agent, agent / "state", keys, agent / "p")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(found.path))
    listener.listen(64)
    listener.setblocking(False)
    serving: set[asyncio.Task[None]] = set()

    async def accept() -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            openings = Openings("ada", found.open)
            serving.add(asyncio.create_task(serve_connection(connection, openings, keys, found.said.append)))

    accepting = asyncio.create_task(accept())
    yield found
    accepting.cancel()
    for task in serving:
        task.cancel()
    await asyncio.gather(accepting, *serving, return_exceptions=True)
    listener.close()
