"""`spawn --config-dir` with a whole tree, through the command line, the daemon and git."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.real_daemon import Daemon


async def test_the_tree_of_a_directory_is_the_agents_first_commit(daemon: Daemon, tmp_path: Path) -> None:
    """Files in directories and programs arrive as they are, in the agent's repository and in the closure."""
    (tmp_path / "agent.nix").write_text("{ imports = [ ./nix/tools.nix ]; }\n")
    (tmp_path / "nix").mkdir()
    (tmp_path / "nix/tools.nix").write_bytes(b"{ }\n")
    (tmp_path / "notes.txt").write_bytes(b"one\r\n")
    (tmp_path / "go.sh").write_text("#!/bin/sh\n")
    (tmp_path / "go.sh").chmod(0o755)
    (tmp_path / "notes.txt~").write_bytes(b"old")
    line = [sys.executable, "-m", "hive_core", "--socket", str(daemon.host_socket), "spawn", "ada"]
    line += ["--config-dir", str(tmp_path), "--no-start"]
    done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ada is created, and not started\n"), done.stderr
    assert done.stderr == "left out, as no part of a configuration: notes.txt~\n"
    [closure] = (daemon.state_dir / "closures/ada").iterdir()
    for directory in (daemon.state_dir / "agents/ada/config", closure):
        assert (directory / "nix/tools.nix").read_bytes() == b"{ }\n"
        assert (directory / "notes.txt").read_bytes() == b"one\r\n"
        assert os.access(directory / "go.sh", os.X_OK)
        assert not (directory / "notes.txt~").exists()
