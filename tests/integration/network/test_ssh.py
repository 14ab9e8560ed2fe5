"""git over ssh through the proxy, with a real ssh and a real sshd."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.network.fake_daemon import FakeDaemon
from tests.helpers.network.ssh_server import PORT, USER, SSHServer, sshd
from tests.helpers.network.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SSHServer]:
    """Return the sshd."""
    if sshd() is None or shutil.which("ssh") is None:
        pytest.skip("not installed: sshd, ssh")
    server = SSHServer(world, tmp_path_factory.mktemp("sshd"))
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def ssh(server: SSHServer) -> list[str]:
    """Return the command line of ssh as an agent has it."""
    proxied = shlex.join([sys.executable, "-P", "-m", "hive_agent", "connect"])
    return ["ssh", "-F", "none", *server.client_options(), "-o", f"ProxyCommand={proxied} %h %p"]


async def test_git_pushes_over_ssh(daemon: FakeDaemon, server: SSHServer, tmp_path: Path) -> None:
    """git clones, commits and pushes over ssh where a rule names the port."""
    await daemon.allow(f"git.example.org:{PORT}")
    served, clone = server.directory / "served.git", tmp_path / "clone"
    line = ["git", "init", "-q", "--bare", "--initial-branch=main", str(served)]
    await asyncio.to_thread(subprocess.run, line, check=True)
    identity = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = daemon.world.proxied(GIT_SSH_COMMAND=shlex.join(ssh(server)), **identity)
    url = f"ssh://{USER}@git.example.org:{PORT}{served}"
    for line in (
        ["git", "clone", "-q", url, str(clone)],
        ["git", "-C", str(clone), "commit", "-q", "--allow-empty", "-m", "pushed"],
        ["git", "-C", str(clone), "push", "-q", "origin", "HEAD:main"],
    ):
        status, printed = await daemon.world.run(*line, environment=environment)
        assert status == 0, printed
    log = await asyncio.to_thread(
        subprocess.run, ["git", "-C", str(served), "log", "--format=%s", "main"], capture_output=True, check=True
    )
    assert log.stdout == b"pushed\n"


async def test_a_refusal_over_ssh_names_the_rule(daemon: FakeDaemon, server: SSHServer) -> None:
    """ssh shows which rule is missing, and how to ask for it; a rule without the port is not enough."""
    await daemon.allow("git.example.org")
    status, printed = await daemon.world.run(*ssh(server), "-p", str(PORT), f"{USER}@git.example.org", "true")
    assert status == 255
    assert f"git.example.org:{PORT}" in printed and "request_network" in printed
    await daemon.wait_refusal("no_rule", "git.example.org")
    status, printed = await daemon.world.run(*ssh(server), "-p", str(PORT), f"{USER}@192.0.2.1", "true")
    assert status == 255 and "addresses cannot be allowed" in printed
