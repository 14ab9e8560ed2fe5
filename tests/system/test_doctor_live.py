"""The doctor on a systemd host: a throwaway agent in a container of its own, made, reached and removed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.build.unit.confinement import BUILD_USER
from tests.helpers.real_daemon import Json
from tests.system.host_hive import STATE, HostHive, call, left_of, program, unit, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.thorough]

NIX_CONF = Path("/etc/nix/nix.conf")
STEPS = ["daemon", "build", "start", "ready", "answer", "seal", "remove"]


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


@pytest.mark.parametrize("options", [(), ("--host-network",)])
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
    await until(lambda: "hive-doctor" not in call("systemctl", "list-units", "--all", "hive-*"))
    assert not list((STATE / "scratch").glob("*doctor*"))


async def test_an_interrupted_run(hive: HostHive) -> None:
    """Ctrl-C while the container starts: the program ends only when the agent and its container are gone."""
    process = await asyncio.create_subprocess_exec("hive-c0re", "doctor", "--live", stdout=subprocess.DEVNULL)
    await until(lambda: unit("container@h-doctor1.service", "ActiveState") == "active")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 120) == 130
    assert "doctor1" not in await hive.agents() and left_of("doctor1") == []


def may_use_nix(user: str) -> bool:
    """True if a unit like that of an evaluation, as this user, gets an answer of the Nix daemon."""
    properties = ["--property=DynamicUser=yes", f"--property=User={user}"]
    variables = ["--setenv=NIX_REMOTE=daemon", "--setenv=HOME=/tmp/none", f"--setenv=PATH={os.environ['PATH']}"]
    command = ["nix", "--extra-experimental-features", "nix-command", "store", "ping"]
    line = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties, *variables, "--", *command]
    return subprocess.run(line, capture_output=True, check=False, timeout=60).returncode == 0


def set_nix_conf(text: str) -> None:
    """Have the Nix daemon run with this nix.conf."""
    NIX_CONF.write_text(text)
    call("systemctl", "restart", "nix-daemon.service")


async def users_finding() -> Json:
    """The finding about who may use the Nix daemon."""
    found: list[Json] = (await doctor_statically())["findings"]
    return next(finding for finding in found if finding["check"] == "nix-allowed-users")


@pytest.mark.parametrize("account", [True, False], ids=["account", "dynamic"])
async def test_only_the_user_of_evaluations_may_use_nix(hive: HostHive, account: bool) -> None:
    """With the host module's line the user has access by its name, with an account or without; others have none."""
    before = await asyncio.to_thread(NIX_CONF.read_text)
    if account:
        await program("useradd", "--system", "--user-group", BUILD_USER)
    try:
        for line, allowed, severity in (("", False, "error"), (f"extra-allowed-users = {BUILD_USER}\n", True, "ok")):
            await asyncio.to_thread(set_nix_conf, f"{before}\nallowed-users = root @wheel\n{line}")
            assert [await asyncio.to_thread(may_use_nix, user) for user in (BUILD_USER, "other")] == [allowed, False]
            assert (await users_finding())["severity"] == severity
    finally:
        await asyncio.to_thread(set_nix_conf, before)
        if account:
            await program("userdel", BUILD_USER)
    assert "*" in (await users_finding())["what"]
