"""A gateway as a child of the daemon."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from hive_core.outside.gateway_process import command_line

STARTS_A_GATEWAY = """
import asyncio, os, sys
from pathlib import Path
from hive_core.outside.gateway_process import keep_running
async def main():
    running = asyncio.create_task(keep_running("egress", Path(sys.argv[1]), None))
    while not (children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        await asyncio.sleep(0.01)
    print(children[0], flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_a_gateway_ends_with_a_daemon_that_is_killed() -> None:
    """The proxy of a daemon that is killed as soon as it has started one ends by itself."""
    with tempfile.TemporaryDirectory(prefix="hg") as place:
        line = [sys.executable, "-c", STARTS_A_GATEWAY, f"{place}/egress.sock"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
        pid = int(done.stdout)
        assert done.returncode == -9
        # Both ends of the pipe of its output were the daemon's and its own.
        subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=60)
        assert not Path(f"/proc/{pid}").exists()


def test_a_gateway_in_its_sandbox_sees_its_socket_only() -> None:
    """Of the hive's directories a sandboxed gateway is shown its end of the link alone, read-only."""
    line = list(command_line("egress", Path("/run/somewhere/egress.sock"), "/usr/bin/bwrap"))
    shown = [word for word in line if word.startswith("/run/somewhere")]
    assert shown == ["/run/somewhere/egress.sock"] * 3
    assert line[line.index("/run/somewhere/egress.sock") - 1] == "--ro-bind"
