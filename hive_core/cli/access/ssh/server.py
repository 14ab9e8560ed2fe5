"""The SSH server: who may sign in, and what of SSH there is in an agent and what not."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import asyncssh
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_RESOURCE_SHORTAGE

from hive_core.cli.access.ssh.commands import AgentCommand
from hive_core.cli.access.ssh.connections import Forwards
from hive_core.cli.access.ssh.keys import SshKeys
from hive_core.cli.access.ssh.openings import Openings
from hive_core.cli.access.ssh.standard_streams import join_standard_streams

_LOGIN_SECONDS = 60.0
_LOOPBACKS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 - what clients ask for
_WINDOW = 2 * 1024 * 1024
MOST_CHANNELS = 512
"""Sessions and connections of one ssh at a time."""

Say = Callable[[str], None]
"""Shows a line to the person who has called ssh."""


class AgentServer(asyncssh.SSHServer):
    """The rights of one ssh. Requests without an answer here are refused, as asyncssh would do them on this machine."""

    def __init__(self, openings: Openings, user_key: asyncssh.SSHKey, say: Say) -> None:
        self._openings = openings
        self._user_key = user_key
        self._say = say
        self._forwards = Forwards(openings)
        self._open = 0
        self.ended = asyncio.Event()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        # Both are switched off by options, too; the client would say less about it.
        for method, what, value in (
            ("create_agent_listener", "agent forwarding", False),
            ("attach_x11_listener", "X11 forwarding", None),
        ):
            setattr(conn, method, self._refusing(what, value))

    def connection_lost(self, exc: Exception | None) -> None:
        self._forwards.close()
        self.ended.set()

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key == self._user_key

    def session_requested(self) -> AgentCommand:
        self._count()
        return AgentCommand(self._openings, self._forget)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        if dest_host not in _LOOPBACKS and dest_host not in self._openings.host_names:
            why = f"only ports of the agent itself can be reached: localhost, not {dest_host}"
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, why)
        self._count()
        return self._forwards.open(dest_port, self._forget)

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return self._refuse("remote forwarding")

    def unix_connection_requested(self, dest_path: str) -> bool:
        return self._refuse("forwarding of unix sockets")

    def unix_server_requested(self, listen_path: str) -> bool:
        return self._refuse("forwarding of unix sockets")

    def tun_requested(self, unit: int | None) -> bool:
        return self._refuse("tunnelling of networks")

    def tap_requested(self, unit: int | None) -> bool:
        return self._refuse("tunnelling of networks")

    def _refusing(self, what: str, value: object) -> Callable[..., Any]:
        async def refuse(*_: object) -> object:
            self._refuse(what)
            return value

        return refuse

    def _refuse(self, what: str) -> bool:
        self._say(f"{what} is refused: an agent gets no way to this machine")
        return False

    def _count(self) -> None:
        if self._open >= MOST_CHANNELS:
            why = f"{MOST_CHANNELS} sessions and connections are open"
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, why)
        self._open += 1

    def _forget(self) -> None:
        self._open -= 1


def say_on_stderr(line: str) -> None:
    """Show a line to the person who has called ssh: stderr of a ProxyCommand is that of ssh."""
    sys.stderr.write(f"hive-c0re ssh-proxy: {line}\n")
    sys.stderr.flush()


async def serve(openings: Openings, keys: SshKeys, say: Say = say_on_stderr) -> None:
    """Serve the one ssh that is at stdin and stdout, until it has gone."""
    ours, theirs = socket.socketpair()
    wait_for_output = join_standard_streams(theirs)
    await serve_connection(ours, openings, keys, say)
    await wait_for_output()


async def serve_connection(connection: socket.socket, openings: Openings, keys: SshKeys, say: Say) -> None:
    """Serve one ssh on a connected socket, until it has gone."""
    server = AgentServer(openings, keys.user, say)
    try:
        serving = await asyncssh.run_server(
            connection,
            server_factory=lambda: server,
            server_host_keys=[keys.host],
            encoding=None,
            line_editor=False,
            window=_WINDOW,
            login_timeout=_LOGIN_SECONDS,
            password_auth=False,
            kbdint_auth=False,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            sftp_factory=None,
            compression_algs=["none"],
            config=None,
        )
    except (OSError, asyncssh.Error) as error:  # It has gone already, or speaks no SSH.
        say(f"the connection ended before it was set up: {error}")
        return
    try:
        await server.ended.wait()
    finally:
        serving.abort()
        openings.close()
