"""The way into the demo's small internet: one server at a public address, in network namespaces.

The hive's proxy connects to public addresses only, and to none of its own host. So that an approved host answers also
on a machine without a network, the demo runs beside such a server, as on a host with one cable to it: `enter` starts
the demo again in these namespaces. Root is not needed where users may make namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HOST = "prices.example.org"
ADDRESS = "45.0.0.10"
NAMES = "45.0.0.53"
"""Address of the server for names, which resolv.conf beside this file has."""
_STARTED = "DEMO_INTERNET"
"""Variable of the demo within the namespaces: process of the server, and the descriptor that ends it when closed."""
_HERE = Path(__file__).parent
_SERVER = str(_HERE / "server.py")
_SETUP = f"""
set -e
ip link set lo up
ip link add demo0 type veth peer name cable0 netns "$SERVER"
ip addr add 10.9.0.1/30 dev demo0
ip link set demo0 up
nsenter --net="/proc/$SERVER/ns/net" sh -ec '
ip link set lo up
ip addr add 10.9.0.2/30 dev cable0
ip link set cable0 up
ip addr add {ADDRESS}/32 dev lo
ip addr add {NAMES}/32 dev lo
'
ip route add default via 10.9.0.2
# A resolver of the real host would know nothing of the server.
if [ -d /run/systemd/resolve ]; then
    mount -t tmpfs none /run/systemd/resolve
    cp "$RESOLV" /run/systemd/resolve/stub-resolv.conf
    cp "$RESOLV" /run/systemd/resolve/resolv.conf
fi
mount --bind "$RESOLV" /etc/resolv.conf
"""


class Internet:
    """The server, if there is one; `why_not` says why there is none."""

    def __init__(self, why_not: str = "", process: int = 0, descriptor: int = -1) -> None:
        self.why_not = why_not
        self._process = process
        self._descriptor = descriptor

    def leave(self) -> None:
        """End the server."""
        if self._process:
            os.close(self._descriptor)
            os.waitpid(self._process, 0)
            self._process = 0


def enter() -> Internet:
    """Start the demo again in namespaces with the server, or return what this start has found."""
    started = os.environ.pop(_STARTED, "")
    if started:
        process, descriptor, why_not = started.split(":", 2)
        if not why_not:
            os.set_inheritable(int(descriptor), False)
            return Internet("", int(process), int(descriptor))
        return Internet(why_not)
    missing = [name for name in ("ip", "unshare", "nsenter", "mount") if shutil.which(name, path=_path()) is None]
    if missing:
        return Internet(f"not installed: {', '.join(missing)}")
    outer, inner = _namespaces()
    tried = subprocess.run([*outer, *inner, "true"], capture_output=True, check=False, env=_environment())  # noqa: S603
    if tried.returncode != 0:
        return Internet("this user may make no network namespaces here")
    line = [*outer, sys.executable, str(Path(__file__)), *inner, sys.executable, *sys.argv]
    return os.execvpe(line[0], line, _environment())  # noqa: S606 - a program of util-linux


def _namespaces() -> tuple[list[str], list[str]]:
    """Return what the command lines of the set-up and of the demo begin with; the demo is nobody else than its user."""
    own = ["unshare", "--net", "--mount"]
    if os.geteuid() == 0:
        return own, []
    user = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
    return [*own, "--user", "--map-root-user"], user


def _set_up(line: list[str]) -> None:
    """Start the server, connect it to this namespace, and become the demo."""
    source, sink = os.pipe()
    server = subprocess.Popen(  # noqa: S603 - the demo's own program
        ["unshare", "--net", sys.executable, _SERVER, ADDRESS, NAMES, HOST],  # noqa: S607
        stdin=source,
        stdout=subprocess.PIPE,
        start_new_session=True,  # The terminal's Ctrl-C is for the demo.
        env=_environment(),
    )
    os.close(source)
    assert server.stdout is not None
    why_not = "its server cannot be started"
    if server.stdout.readline():
        environment = {**_environment(), "SERVER": str(server.pid), "RESOLV": str(_HERE / "resolv.conf")}
        done = subprocess.run(  # noqa: S603 - the demo's own words
            ["sh", "-c", _SETUP],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            why_not = (done.stderr.strip().splitlines() or ["it cannot be set up"])[-1]
        else:
            os.write(sink, b"\n")
            why_not = "" if server.stdout.readline() else why_not
    if why_not:
        os.close(sink)
        server.wait()
    else:
        os.set_inheritable(sink, True)
    os.execvpe(line[0], line, {**os.environ, _STARTED: f"{server.pid}:{sink}:{why_not}"})  # noqa: S606


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _path()}


if __name__ == "__main__":
    _set_up(sys.argv[1:])
