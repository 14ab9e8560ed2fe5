"""Containers that cannot be started: the operator reads why in what the commands and messages say."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from tests.system.host_hive import HostHive, call, container, service

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOTS = Path("/var/lib/nixos-containers")


def command(*line: str) -> tuple[int, str]:
    """Exit code and standard error of the operator's program."""
    done = subprocess.run(["hive-c0re", *line], capture_output=True, text=True, check=False, timeout=100)
    return done.returncode, done.stderr


async def test_a_busy_root_directory_is_told_in_nspawns_words(hive: HostHive) -> None:
    """`restart` waits, fails, and shows the last line of nspawn, as do `list` and one message; then it starts."""
    await hive.spawn_with("owl")
    await hive.ask("POST", "/v1/agents/owl/stop", {})
    with (ROOTS / f".#{container('owl')}.lck").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        code, told = command("restart", "owl")
        assert code == 1
        assert "owl was restarted, but does not come up: it has ended 3 times in a row" in told
        assert 'exit code 1: "Directory tree /var/lib/nixos-containers/h-owl is currently busy."' in told
        now = await hive.agent_until("owl", lambda agent: bool(agent["last_line"]))
        assert now["state"] == "offline" and "currently busy" in now["last_line"]
        assert now["last_crash"] == "exit code 1" and now["crashes"] >= 3
        for recipient in ("hm1nd", "operator"):
            (message,) = hive.told(recipient, "owl does not come up")
            assert message.splitlines()[-1].startswith("> ") and "currently busy" in message.splitlines()[-1]
    code, told = command("restart", "owl")
    assert code == 0, told
    now = await hive.idle("owl")
    assert (now["crashes"], now["last_crash"], now["last_line"], now["exit_cause"]) == (0, "", "", "")


def slow_down(agent: str) -> None:
    """Have a container's unit run a program that is never ready and ignores SIGTERM."""
    Path(f"/run/systemd/system/{service(agent)}.d/99-slow.conf").write_text(
        "[Service]\nTimeoutStartSec=1s\nTimeoutStopSec=1s\nExecStart=\n"
        "ExecStart=/bin/sh -c 'trap : TERM; echo waits for a disk; while :; do sleep 0.2; done'\n"
    )
    call("systemctl", "daemon-reload")


@pytest.mark.thorough
async def test_a_start_that_takes_too_long_is_told_in_words(hive: HostHive) -> None:
    """systemd kills a container that is not ready in time; what is told is more than `killed by SIGKILL`."""
    await hive.spawn_with("elk")
    slow_down("elk")
    code, told = command("restart", "elk", "--timeout", "5")
    assert code == 1
    assert "did not start or stop in time" in told and '"waits for a disk"' in told
    await hive.ask("POST", "/v1/agents/elk/destroy", {"purge": True})
