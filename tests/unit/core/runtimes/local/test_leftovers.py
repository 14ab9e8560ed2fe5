"""Processes that outlived their daemon are killed, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hive_core.runtimes.local.leftovers import is_leftover, kill_leftovers

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own that says when it runs, as the daemon's children are started."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def sandbox(directory: Path) -> list[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("bubblewrap is not installed")
    tried = subprocess.run([bwrap, "--dev-bind", "/", "/", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"bubblewrap cannot make a sandbox here: {tried.stderr.strip()}")
    directory.mkdir(parents=True)
    # Its parent lives on here, as far as the kernel can tell it: that of a daemon that was killed is process 1.
    return [bwrap, "--die-with-parent", "--unshare-pid", "--dev-bind", "/", "/", "--bind", str(directory), "/mnt"]


def test_sandboxes_of_an_earlier_daemon_are_killed(tmp_path: Path) -> None:
    """With everything in them; those of another hive go on."""
    ours, others = sandbox(tmp_path / "s" / "agents" / "ann" / "state"), sandbox(tmp_path / "s2" / "agents" / "ann")
    with running([*ours, *SLEEPER]) as left, running([*others, *SLEEPER]) as other:
        assert kill_leftovers(tmp_path / "s", tmp_path / "r") > 0
        # Of bwrap and its process 1 either may be killed first, and bwrap reports the end of the other as shells do.
        assert left.wait(10) in (-9, 128 + 9)
        # The pipe ends when the last process in the sandbox has ended.
        assert left.stdout is not None
        assert left.stdout.read() == ""
        assert other.poll() is None
        assert kill_leftovers(tmp_path / "s", tmp_path / "r") == 0


def test_processes_of_plain_harnesses_are_killed(tmp_path: Path) -> None:
    """They are known by the variables that they inherit from the harness."""
    run = tmp_path / "r" / "agents"
    marks = {"HIVE_PARENT_PID": "1", "HIVE_AGENT_RUN": f"{run}/ann"}
    with (
        running(SLEEPER, **marks) as left,
        running(SLEEPER, HIVE_AGENT_RUN=f"{run}/ann") as other,
        running(SLEEPER, HIVE_PARENT_PID="1", HIVE_AGENT_RUN=f"{tmp_path}/r2/agents/ann") as neighbour,
    ):
        assert kill_leftovers(tmp_path / "s", tmp_path / "r") == 1
        assert left.wait(10) == -9
        assert other.poll() is None
        assert neighbour.poll() is None


def test_the_sandbox_of_the_daemon_itself_is_spared(tmp_path: Path) -> None:
    """A daemon that runs in a sandbox with its directories does not kill it."""
    own = sandbox(tmp_path / "s" / "agents")
    program = (
        "from pathlib import Path; from hive_core.runtimes.local.leftovers import kill_leftovers; "
        f"print(kill_leftovers(Path({str(tmp_path / 's')!r}), Path({str(tmp_path / 'r')!r})))"
    )
    seen = [*own[:2], *own[3:], sys.executable, "-c", program]  # With the host's numbers of processes.
    done = subprocess.run(seen, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_other_programs_are_no_leftovers(tmp_path: Path) -> None:
    """Neither an editor with a file of the hive, nor a sandbox that somebody else has made of its files."""
    path = str(tmp_path / "s" / "agents" / "ann" / "state")
    assert not is_leftover(["vim", path], [], [tmp_path / "s"])
    assert not is_leftover(["bwrap", "--bind", path, "/x", "sh"], [], [tmp_path / "s"])
    assert not is_leftover([""], [""], [tmp_path / "s"])
    assert is_leftover(["/usr/bin/bwrap", "--die-with-parent", "--bind", path, "/x", "sh"], [], [tmp_path / "s"])
