"""A real sshd in the small internet, for git over ssh.

It runs as an ordinary user of a user namespace, as it would not separate its privileges there as root.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.helpers.network.world import World

PORT = 2022
USER = "git"
_NUMBER = 1000
_CONFIG = """\
Port {port}
ListenAddress 0.0.0.0
HostKey {directory}/host_key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile {directory}/user_key.pub
SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*
"""


def sshd() -> str | None:
    """Return the path of sshd, which is not on the PATH of everybody."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class SSHServer:
    """An sshd behind the names of the small internet, on the port `PORT`, with one user, `git`."""

    def __init__(self, world: World, directory: Path) -> None:
        self.directory = directory
        self._world = world
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        for name in ("host_key", "user_key"):
            line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name)]
            await asyncio.to_thread(subprocess.run, line, check=True)
        (self.directory / "config").write_text(_CONFIG.format(port=PORT, directory=self.directory))
        passwd = self.directory / "passwd"
        passwd.write_text(f"{USER}:x:{_NUMBER}:{_NUMBER}::{self.directory}:/bin/sh\n")
        key = " ".join((self.directory / "host_key.pub").read_text().split()[:2])
        (self.directory / "known_hosts").write_text(f"* {key}\n")
        program = [str(sshd()), "-D", "-e", "-f", str(self.directory / "config")]
        inner = ["unshare", "--user", f"--map-user={_NUMBER}", f"--map-group={_NUMBER}", *program]
        script = f"mount --bind {shlex.quote(str(passwd))} /etc/passwd && exec {shlex.join(inner)}"
        self._process = await asyncio.create_subprocess_exec(
            *self._world.in_servers(),
            *("unshare", "--mount", "sh", "-c", script),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._world.environment(),
        )
        assert self._process.stderr is not None
        said = b""
        while b"listening on" not in said:
            line_read = await asyncio.wait_for(self._process.stderr.readline(), 20)
            assert line_read, said.decode()
            said += line_read

    def client_options(self) -> list[str]:
        """Return options of ssh with the key of the user, and that of the server as the only known one."""
        options = {
            "IdentityFile": str(self.directory / "user_key"),
            "UserKnownHostsFile": str(self.directory / "known_hosts"),
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()
