"""Connections to ports of the agent: -L, -W and -D of ssh."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tests.unit.core.cli.access.ssh.conftest import Ssh


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port of the agent that sends back what it gets, and then its end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_bytes_pass_both_ways(ssh: Ssh, port: int) -> None:
    """A connection carries all bytes, and the end of each direction on its own."""
    data = bytes(range(256)) * 8_192
    done = await asyncio.create_subprocess_exec(
        *ssh.command, "-W", f"localhost:{port}", "hive-ada", stdin=-1, stdout=-1, stderr=-1
    )
    out, err = await done.communicate(data)
    assert (out == data, err) == (True, b"")


async def test_connections_lead_to_the_agent_only(ssh: Ssh) -> None:
    """Other hosts than the agent's loopback are refused with words, and a port without a program has the agent's."""
    done = await ssh.call(options=["-W", "example.org:80"])
    assert done.code == 255
    assert "only ports of the agent itself can be reached: localhost, not example.org" in done.err
    assert ssh.openings == []
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    done = await ssh.call(options=["-W", f"localhost:{closed}"])
    assert f"ada says: port {closed} of the agent cannot be connected to" in done.err


async def test_many_connections_are_one_session(ssh: Ssh, port: int) -> None:
    """Dynamic forwarding (SOCKS) makes any number of connections to a port through one session of the agent."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        local = unused.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *ssh.command, "-D", f"127.0.0.1:{local}", "hive-ada", "echo ready; cat", stdin=-1, stdout=-1
    )
    try:
        assert process.stdout is not None and process.stdin is not None
        assert await process.stdout.readline() == b"ready\n"

        async def ask(number: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(b"\5\1\0")
            assert await reader.readexactly(2) == b"\5\0"
            writer.write(b"\5\1\0\3\x09localhost" + port.to_bytes(2, "big"))
            assert (await reader.readexactly(10))[1] == 0
            writer.write(b"%d" % number)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

        assert await asyncio.gather(*(ask(number) for number in range(40))) == [b"%d" % n for n in range(40)]
    finally:
        process.kill()
        await process.wait()
    assert [opening.kind for opening in ssh.openings] == ["run", "forward"]
