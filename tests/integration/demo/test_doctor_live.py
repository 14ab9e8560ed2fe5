"""`doctor --live` with a real daemon: an agent is made and reached, and however the run ends nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.demo.shown_outputs import ROOT, fits, shown_outputs

STEPS = ["daemon", "build", "start", "ready", "answer", "seal", "remove"]


@pytest_asyncio.fixture
async def daemon(hive_home: Path) -> AsyncIterator[Daemon]:
    """A daemon with a manager, whose script answers nothing."""
    async with running(Daemon(hive_home)) as found:
        await found.spawn("hm1nd", script=[{"match": ""}])
        await found.agent_until("hm1nd", lambda agent: agent["state"] == "idle")
        yield found


async def begin(daemon: Daemon, *options: str, form: str = "--json") -> Process:
    """Start the program."""
    command = [sys.executable, "-m", "hive_core", "--socket", str(daemon.host_socket), "doctor", "--live"]
    environment = {**os.environ, "HIVE_STATE_DIR": str(daemon.state_dir), "HIVE_SANDBOX": "none"}
    return await asyncio.create_subprocess_exec(
        *command, *filter(None, [form]), *options, stdout=PIPE, stderr=PIPE, env=environment
    )


async def ended(process: Process) -> Json:
    """Wait for its answer."""
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert not err, err.decode()
    answer: Json = json.loads(out)
    return answer


async def until_made(daemon: Daemon, process: Process) -> None:
    """Wait until the hive has the throwaway agent."""
    while "doctor1" not in await daemon.agents():
        assert process.returncode is None, "it ended before it made an agent"
        await asyncio.sleep(0.02)


async def nothing_left(daemon: Daemon) -> None:
    """Check that the hive is as it was before."""
    assert set(await daemon.agents()) == {"hm1nd"}
    found = await daemon.ask("GET", "/v1/proposals?state=all")
    assert {proposal["agent"] for proposal in found["proposals"]} == {"hm1nd"}
    assert [path for path in daemon.state_dir.rglob("*doctor1*") if "trash" not in path.parts] == []
    assert daemon.sql("SELECT body FROM messages WHERE sender = 'system' OR recipient = 'hm1nd'") == []
    assert (await daemon.ask("GET", "/v1/status"))["operator_unread"] == 0
    assert (await daemon.ask("GET", "/v1/audit/verify"))["ok"]


async def test_the_whole_way(daemon: Daemon) -> None:
    """Every step is well and has its time, as the page shows; neither the manager nor the operator is told anything."""
    process = await begin(daemon, form="")
    printed = (await asyncio.wait_for(process.communicate(), 120))[0].decode()
    steps = re.findall(r"^ok +(\w+), ([\d.]+) s: ", printed, re.MULTILINE)
    assert [step for step, _ in steps] == STEPS, printed
    assert sum(float(seconds) for _, seconds in steps) > 0.1
    (shown,) = [each for each in shown_outputs(ROOT / "docs/operating.md") if each.command == "hive-c0re doctor --live"]
    # The page has the run of another runtime, on a host with nothing to warn of.
    here = shown.output.replace("runtime nixos", "runtime local").replace("/nix/store/...-nixos-system-doctor1", "...")
    here = re.sub(r"doctor1 is sealed.*", "...", here)
    here = re.sub(r"ok( +seal, [^:]*): hm1nd is sealed.*", r"...: ...", here)
    assert fits(here.replace("warnings: 0", "warnings: ..."), printed), printed
    await nothing_left(daemon)


@pytest.mark.parametrize(
    "sent",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.thorough) for each in (signal.SIGTERM, signal.SIGHUP))],
)
async def test_an_interrupted_run_leaves_nothing(daemon: Daemon, sent: signal.Signals) -> None:
    """Ctrl-C, and what ends a program whose terminal goes away, remove the agent first; the exit code tells it."""
    process = await begin(daemon)
    await until_made(daemon, process)
    process.send_signal(sent)
    await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 128 + sent
    await nothing_left(daemon)


@pytest.mark.thorough
async def test_a_killed_run_is_cleaned_up_by_the_next(daemon: Daemon) -> None:
    """The agent of a killed run is removed first, and an agent of a person's with such a name is left alone."""
    process = await begin(daemon)
    await until_made(daemon, process)
    process.kill()
    await process.communicate()
    await daemon.spawn("doctor2", start=False)
    await daemon.agent_until("doctor1", lambda agent: agent["state"] == "idle")
    answer = await ended(await begin(daemon))
    steps = {step["step"]: step for step in answer["live"]["steps"]}
    assert "doctor1" in steps["left-over"]["what"] and steps["remove"]["severity"] == "ok"
    assert set(await daemon.agents()) == {"hm1nd", "doctor2"}


async def test_an_agent_that_cannot_be_started(daemon: Daemon) -> None:
    """The step that fails has the reason, the exit code is 1, and the agent is removed."""
    for path in (daemon.state_dir / "closures", daemon.state_dir / "logs"):
        path.mkdir(exist_ok=True)
    (daemon.state_dir / "logs" / "doctor1.log").mkdir()
    process = await begin(daemon, "--timeout", "20")
    answer = await ended(process)
    failed = [step for step in answer["live"]["steps"] if step["severity"] == "error"]
    assert failed and failed[0]["step"] in ("start", "ready") and failed[0]["remedy"]
    assert process.returncode == 1
    assert set(await daemon.agents()) == {"hm1nd"}
