"""What of SSH an agent does not get: a way to the machine of the person who steps in."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import asyncssh
import pytest

from hive_core.cli.access.ssh import server as server_module
from tests.unit.core.cli.access.ssh.conftest import Ssh


async def test_ways_back_to_the_operators_machine_are_refused(ssh: Ssh) -> None:
    """Remote, agent, X11 and socket forwarding are refused with words, and the session goes on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    key_agent = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", str(ssh.directory / "l"), stdout=-1)
    assert key_agent.stdout is not None
    await key_agent.stdout.readline()  # It listens.
    done = await ssh.run(
        *ssh.command,
        *("-A", "-X", f"-R{port}:localhost:22", f"-R{ssh.directory}/r:{ssh.directory}/l"),
        "hive-ada",
        "echo goes on; echo $SSH_AUTH_SOCK$DISPLAY",
        env={"SSH_AUTH_SOCK": str(ssh.directory / "l"), "DISPLAY": ":77"},
    )
    assert (done.code, done.out) == (0, "goes on\n\n")
    assert {line.partition(" is refused")[0] for line in ssh.said} == {
        "remote forwarding",
        "agent forwarding",
        "X11 forwarding",
        "forwarding of unix sockets",
    }
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))
    assert not (ssh.directory / "r").exists()
    key_agent.terminate()
    await key_agent.wait()


async def test_sockets_of_the_operators_machine_are_not_reached(ssh: Ssh) -> None:
    """A connection to a unix socket is refused, although asyncssh would open it on this machine."""
    path = ssh.directory / "l"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)
    forward = f"-L{ssh.directory}/n:{path}"
    process = await asyncio.create_subprocess_exec(
        *ssh.command, forward, "hive-ada", "echo ready; cat", stdin=-1, stdout=-1
    )
    assert process.stdin is not None and process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    reader, writer = await asyncio.open_unix_connection(str(ssh.directory / "n"))
    assert await reader.read() == b""
    writer.close()
    process.stdin.close()
    await process.wait()
    assert ssh.said == ["forwarding of unix sockets is refused: an agent gets no way to this machine"]
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


async def test_asyncssh_serves_nothing_of_this_machine(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of files, and the connections, that asyncssh itself has are never called."""

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("asyncssh acts on this machine")

    for name in ("SFTPServer", "SFTPServerHandler"):
        monkeypatch.setattr(asyncssh.sftp, name, unwanted)
    for name in ("forward_connection", "forward_unix_connection", "forward_local_port", "forward_local_path"):
        monkeypatch.setattr(asyncssh.SSHServerConnection, name, unwanted)
    (ssh.state / "file").write_text("of the agent")
    config = str(ssh.directory / "config")
    assert (await ssh.run("scp", "-q", "-F", config, "hive-ada:file", "copied")).code == 0
    assert (ssh.directory / "copied").read_text() == "of the agent"
    assert ssh.openings[0].argv[:2] == ("sh", "-c") and "sftp-server" in ssh.openings[0].argv[2]
    await ssh.call(options=["-W", "localhost:1"])
    assert [opening.kind for opening in ssh.openings] == ["run", "forward"]


async def test_only_the_callers_key_is_accepted(ssh: Ssh, tmp_path: Path) -> None:
    """Another key, no key and a password are refused; and ssh refuses another host key."""
    other = asyncssh.generate_private_key("ssh-ed25519")
    other.write_private_key(str(tmp_path / "other"))
    (tmp_path / "other").chmod(0o600)
    plain = ["ssh", "-F", "none", "-oBatchMode=yes", "-oUserKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=no"]
    proxy = next(line for line in (ssh.directory / "config").read_text().splitlines() if "ProxyCommand" in line)
    options = ["-o", proxy.strip(), "-oIdentityAgent=none", "-oIdentitiesOnly=yes", f"-oIdentityFile={tmp_path}/other"]
    done = await ssh.run(*plain, *options, "hive-ada", "true")
    assert done.code == 255 and "Permission denied (publickey)" in done.err
    (ssh.directory / "keys/known_hosts").write_text(f"hive-* {other.export_public_key().decode()}")
    done = await ssh.call("true")
    assert done.code == 255 and "HOST IDENTIFICATION HAS CHANGED" in done.err
    assert ssh.openings == []


async def test_sessions_are_bounded(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    """One ssh has a limited number of sessions and connections; when they end, others may begin."""
    monkeypatch.setattr(server_module, "MOST_CHANNELS", 1)
    for _ in range(2):
        assert (await ssh.call("true")).code == 0
    async with await ssh.connect() as client:
        first = await client.create_process("cat")
        with pytest.raises(asyncssh.ChannelOpenError, match="1 sessions and connections are open"):
            await client.create_process("true")
        first.stdin.write_eof()
        await first.wait()
        assert (await client.run("true")).exit_status == 0


async def test_garbage_ends_the_connection(ssh: Ssh) -> None:
    """Bytes that are no SSH end the connection; the next one is served."""
    reader, writer = await asyncio.open_unix_connection(str(ssh.path))
    writer.write(b"\0" * 100_000)
    writer.write_eof()
    await reader.read()
    writer.close()
    assert (await ssh.call("true")).code == 0
