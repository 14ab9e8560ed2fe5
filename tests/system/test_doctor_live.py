"""The doctor on a systemd host: a throwaway agent in a container of its own, made, reached and removed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess

import pytest

from tests.helpers.real_daemon import Json
from tests.system.host_hive import STATE, HostHive, left_of, program, unit, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = ["daemon", "build", "start", "ready", "answer", "remove"]


async def doctor(*options: str) -> Json:
    """What the doctor answers; its exit code may be 1, for this host is no NixOS."""
    command = ["hive-c0re", "doctor", "--live", "--json", *options]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode in (0, 1), done.stderr
    answer: Json = json.loads(done.stdout)
    return answer


async def doctor_statically() -> Json:
    """What the doctor answers without a trial of the whole."""
    answer: Json = json.loads(await program("hive-c0re", "doctor", "--json", check=False))
    return answer


@pytest.mark.parametrize("options", [(), ("--sealed",)])
async def test_a_throwaway_agent(hive: HostHive, options: tuple[str, ...]) -> None:
    """Every step is well: a real build, a real container, an answer; afterwards nothing of it is left on the host."""
    answer = await doctor(*options)
    steps = answer["live"]["steps"]
    assert [(step["step"], step["severity"]) for step in steps] == [(step, "ok") for step in STEPS], steps
    assert "/nix/store/" in steps[1]["what"]
    name = answer["live"]["agent"]
    assert name not in await hive.agents() and left_of(name) == []
    assert not any(name in text for recipient in ("hm1nd", "operator") for text in hive.told(recipient, ""))


async def test_what_is_taken_for_granted(hive: HostHive) -> None:
    """As root beside a daemon that runs: git, D-Bus and a unit like that of a build are tried, and leave nothing."""
    found = {finding["check"]: finding for finding in (await doctor_statically())["findings"]}
    tried = ("git-trial", "bubblewrap", "dbus", "dynamic-user", "build-unit", "container-unit", "nix-daemon")
    assert {check: found[check]["severity"] for check in tried} == dict.fromkeys(tried, "ok"), found
    assert found["nixos"]["severity"] == "warning"
    assert "hive-doctor" not in await program("systemctl", "list-units", "--all", "hive-*")
    assert not list((STATE / "scratch").glob("*doctor*"))


async def test_an_interrupted_run(hive: HostHive) -> None:
    """Ctrl-C while the container starts: the program ends only when the agent and its container are gone."""
    process = await asyncio.create_subprocess_exec("hive-c0re", "doctor", "--live", stdout=subprocess.DEVNULL)
    await until(lambda: unit("container@h-doctor1.service", "ActiveState") == "active")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 120) == 130
    assert "doctor1" not in await hive.agents() and left_of("doctor1") == []
