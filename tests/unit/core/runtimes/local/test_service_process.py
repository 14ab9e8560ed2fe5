"""A service as a child of the daemon."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from hive_core.runtimes.local.service_process import Service, command_line

STARTS_A_GATEWAY = """
import asyncio, os, sys
from pathlib import Path
from hive_core.runtimes.local.service_process import Service, ServiceProcess
async def main():
    link = Path(sys.argv[1])
    service = Service("egress", ["--link", str(link)], link)
    running = asyncio.create_task(ServiceProcess(service).keep_running(None))
    while not (children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        await asyncio.sleep(0.01)
    print(children[0], flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_a_service_ends_with_a_daemon_that_is_killed() -> None:
    """The proxy of a daemon that is killed as soon as it has started one ends by itself."""
    with tempfile.TemporaryDirectory(prefix="hg") as place:
        line = [sys.executable, "-c", STARTS_A_GATEWAY, f"{place}/egress.sock"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
        pid = int(done.stdout)
        assert done.returncode == -9
        # Both ends of the pipe of its output were the daemon's and its own.
        subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=60)
        assert not Path(f"/proc/{pid}").exists()


def test_a_service_in_its_sandbox_sees_its_socket_only() -> None:
    """Of the hive's directories a sandboxed service is shown its end of the link alone, read-only."""
    link = Path("/run/somewhere/egress.sock")
    line = list(command_line(Service("egress", ["--link", str(link)], link), "/usr/bin/bwrap"))
    shown = [word for word in line if word.startswith("/run/somewhere")]
    assert shown == ["/run/somewhere/egress.sock"] * 3
    assert line[line.index("/run/somewhere/egress.sock") - 1] == "--ro-bind"
    assert "--share-net" in line


def test_a_service_for_people_has_a_listener_and_no_network() -> None:
    """The listener is made outside of the sandbox, by a process that becomes the sandbox without network."""
    service = Service("dashboard", [], Path("/run/a/dashboard.sock"), has_network=False, listen="127.0.0.1:7000")
    line = list(command_line(service, "/usr/bin/bwrap"))
    assert line[3:8] == ["hive_core.services.listening", "3", "127.0.0.1:7000", "--", "/usr/bin/bwrap"]
    assert line[-2:] == ["--inherited", "3"]
    assert not {"--share-net", "/etc/resolv.conf"} & set(line)
