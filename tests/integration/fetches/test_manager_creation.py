"""The script of hive-manager.service against a real daemon whose builds need fetches."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.real_daemon import Daemon, running

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed"),
]

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "nix" / "host" / "create-manager.sh"
WRAPPER = (sys.executable, "-m", "tests.integration.fetches.fetching_daemon_program")
NOT_AGAIN = 78
"""Exit code after which nix/host/manager.nix tells systemd not to start the script again."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hive() -> AsyncIterator[Daemon]:
    """A daemon without agents."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with running(Daemon(Path(home), wrapper=WRAPPER, environment={"DIE_AT": f"{home}/die"})) as daemon:
            yield daemon


async def create(hive: Daemon, directory: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """Run the script with these files of the manager, as the unit does."""
    programs, config = directory / "bin", directory / "config"
    programs.mkdir(exist_ok=True)
    config.mkdir(exist_ok=True)
    program = programs / "hive-c0re"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hive_core --socket {hive.host_socket} "$@"\n')
    program.chmod(0o755)
    for name, text in files.items():
        (config / name.replace("_", ".")).write_text(text)
    variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "MANAGER_CONFIG": str(config)}
    command = ["bash", "-e", str(SCRIPT)]
    return await asyncio.to_thread(
        subprocess.run, command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )


async def recorded(hive: Daemon) -> list[tuple[int, str]]:
    """Number and state of each proposal of the manager, the oldest first."""
    found = (await hive.ask("GET", "/v1/proposals?agent=hm1nd&state=all"))["proposals"]
    return sorted((proposal["number"], proposal["state"]) for proposal in found)


async def test_from_refusal_to_manager(hive: Daemon, tmp_path: Path) -> None:
    """A refusal before a build is tried again, a failed build is not and says what to do; then it is made once."""
    done = await create(hive, tmp_path, agent_toml='backend = "nonesuch"\n')
    assert done.returncode == 1, done.stderr
    assert "agent.toml: backend: it must be" in done.stderr
    assert await recorded(hive) == []

    needs = "# FETCHES https://a.example/claude.tgz\n{ }\n"
    for number in range(2):
        done = await create(hive, tmp_path, agent_toml='backend = "scripted"\n', agent_nix=needs)
        assert done.returncode == NOT_AGAIN, done.stderr
        for words in (
            "from the network that no operator has allowed",
            "services.hyperhive.agents.backends",
            f"hive-c0re proposals show hm1nd {number}\n",
            f"hive-c0re proposals allow-fetches hm1nd {number}\n",
        ):
            assert words in done.stderr
        assert await recorded(hive) == [(before, "failed") for before in range(number + 1)]

    done = await create(hive, tmp_path, agent_nix="{ }\n")
    assert done.returncode == 0, done.stderr
    assert (await hive.agents())["hm1nd"]["kind"] == "manager"
    deployed = await recorded(hive)
    assert [state for _, state in deployed] == ["failed", "failed", "deployed"]

    done = await create(hive, tmp_path, agent_nix=needs)
    assert (done.returncode, done.stdout) == (0, "there is a manager already\n"), done.stderr
    assert await recorded(hive) == deployed


async def test_without_a_daemon(hive: Daemon, tmp_path: Path) -> None:
    """A daemon that does not answer ends the script with another exit code, so that systemd tries again."""
    await hive.terminate()
    done = await create(hive, tmp_path)
    assert done.returncode == 3, done.stderr
