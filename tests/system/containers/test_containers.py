"""Running containers: their ends, their limits, and a daemon that goes and comes back while they go on."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import pytest_asyncio

from hive_core.infra.systemd.resource_control import dropin
from hive_core.protocol import Limits
from hive_core.runtimes.nixos.containers.inspection import HostPaths
from tests.system.host_hive import (
    KEEPS_DESCRIPTORS,
    PATIENCE,
    SERVICE,
    STOP_TIMEOUT,
    HostHive,
    call,
    container,
    inside,
    invocation,
    left_of,
    limits_of,
    needs_limits,
    program,
    service,
    systemd_release,
    thorough_but,
    unit,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOG = '{ systemd.services.hog.serviceConfig.ExecStart = "/usr/bin/tail /dev/zero"; }\n'
"""Reads an endless line into memory, when it is started."""
MIB = 1024**2
SESSION = 'trap "" TERM; echo up; read line; echo "still $line"; exit 4'
"""A program that lives as long as its session does."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cat(hive: HostHive) -> str:
    """An agent with limits, in whose container a hog can be let loose.

    Its name has a hyphen, which systemd escapes in some names and not in others.
    """
    # With the host's network, so that its page has a port there.
    limits: dict[str, Any] = {"memory_max": "200M", "cpu_quota": 150, "tasks_max": 300}
    await hive.spawn_with("my-cat", agent_nix=HOG, network="host", **limits)
    return "my-cat"


def entering(link: str) -> int:
    """What the page of a container answers to somebody with this link: the HTTP status."""
    page, _, ticket = link.partition("#")
    asking = Request(page, json.dumps({"ticket": ticket}).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(asking, timeout=PATIENCE) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


async def test_the_page_is_on_a_port_of_the_host(hive: HostHive, cat: str) -> None:
    """A link that the operator asks for leads there, out of the container, and lets in once."""
    link = (await program("hive-c0re", "open", cat)).strip()
    port = (await hive.ask("GET", f"/v1/agents/{cat}"))["web_port"]
    assert link.startswith(f"http://127.0.0.1:{port}/enter#")
    assert [await asyncio.to_thread(entering, link) for _ in range(2)] == [200, 403]


@needs_limits
async def test_limits_are_in_force_and_change_live(hive: HostHive, cat: str) -> None:
    """The kernel has what agent.toml says; a change is there at once, without a restart, until the next activation."""
    assert limits_of(cat) == {"memory": str(200 * MIB), "cpu": "150000", "tasks": "300"}
    before = invocation(cat)
    await hive.ask("POST", f"/v1/agents/{cat}/limits", {"memory_max": "150M", "tasks_max": 250})
    assert limits_of(cat) == {"memory": str(150 * MIB), "cpu": "150000", "tasks": "250"}
    assert invocation(cat) == before
    await hive.ask("POST", f"/v1/agents/{cat}/restart", {})
    await hive.idle(cat)
    assert limits_of(cat) == {"memory": str(200 * MIB), "cpu": "150000", "tasks": "300"}


@pytest.mark.thorough
async def test_a_flood_on_the_console_leaves_the_journal_to_others(hive: HostHive, cat: str) -> None:
    """The journal takes a small part of it, and says so; the daemon's lines from before and after are there."""
    lines = 200_000
    flood = f"i=0; while [ $i -lt {lines} ]; do echo flood $i {'x' * 200}; i=$((i+1)); done > /dev/console"
    await program("nixos-container", "run", container(cat), "--", "/bin/sh", "-c", flood)
    await hive.ask("POST", f"/v1/agents/{cat}/restart", {})
    await hive.idle(cat)
    kept = await program("journalctl", "--quiet", "-u", service(cat), "--grep", "^flood", "-o", "cat", check=False)
    assert 0 < len(kept.splitlines()) < lines / 10
    said = await program("journalctl", "--quiet", "-u", SERVICE, "-o", "cat")
    assert '"event":"ready"' in said.replace('": "', '":"')


def dropin_of(agent: str, text: str | None = None) -> str:
    """The drop-in of an agent's container, with this text if one is given."""
    file = Path(f"/run/systemd/system/{service(agent)}.d/10-hyperhive.conf")
    if text is not None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return file.read_text()


@pytest.mark.thorough
@needs_limits
async def test_a_drop_in_that_systemd_has_not_read(hive: HostHive) -> None:
    """A daemon that died when it had written the drop-in leaves it as the next one wants it. What it says is in force
    all the same, whether systemd knew nothing of it, or an older one.
    """
    await hive.ask("POST", "/v1/agents", {"name": "dog", "config": {"memory_max": "100M"}, "start": False})
    hidden = [HostPaths().nix_daemon]
    wanted = dropin(Limits(memory_max="100M"), STOP_TIMEOUT, sealed=True, hidden=hidden)
    dropin_of("dog", wanted)
    await hive.ask("POST", "/v1/agents/dog/start", {})
    assert limits_of("dog")["memory"] == str(100 * MIB)
    assert dropin_of("dog") == wanted, "this is not what the hive writes: nothing was tried here"
    await hive.ask("POST", "/v1/agents/dog/stop", {})
    dropin_of("dog", dropin(Limits(memory_max="150M"), STOP_TIMEOUT, sealed=True, hidden=hidden))
    call("systemctl", "daemon-reload")
    assert unit(service("dog"), "MemoryMax") == str(150 * MIB)
    dropin_of("dog", wanted)
    await hive.ask("POST", "/v1/agents/dog/start", {})
    assert limits_of("dog")["memory"] == str(100 * MIB)
    await hive.ask("POST", "/v1/agents/dog/destroy", {})


async def test_people_step_into_a_container(hive: HostHive, cat: str, tmp_path: Path) -> None:
    """Commands and copies work in a container; a session outlives a restart of the harness and of the daemon."""
    assert await program("hive-c0re", "exec", cat, "--", "sh", "-c", "id -u; cat /proc/1/comm") == "0\nsystemd\n"
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content")
    await program("hive-c0re", "cp", str(tmp_path / "tree"), f"{cat}:/state/")
    await program("hive-c0re", "cp", f"{cat}:/state/tree/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    session = await asyncio.create_subprocess_exec(
        *("hive-c0re", "exec", cat, "-i", "--", "sh", "-c", SESSION),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert session.stdout is not None
    assert await asyncio.wait_for(session.stdout.readline(), PATIENCE) == b"up\n"
    await program("hive-c0re", "exec", cat, "--", "systemctl", "restart", "hive-harness.service")
    await hive.restart()
    out, _ = await asyncio.wait_for(session.communicate(b"here\n"), PATIENCE)
    assert (out, session.returncode) == (b"still here\n", 4)
    assert (await program("hive-c0re", "exec", cat, "--", "echo", "again")).strip() == "again"


async def test_a_program_outlives_the_harness(hive: HostHive, cat: str) -> None:
    """A program that an agent has started to stay is a unit in its container: it goes on without the harness."""

    async def agent(*words: str) -> str:
        return await program("hive-c0re", "exec", cat, "--", "hive-ag3nt", *words)

    await agent("run", "--name", "web", "--", "python3", "-m", "http.server", "0")
    [started] = json.loads(await agent("ps", "--json"))
    assert inside(cat, "systemctl", "is-active", "hive-program-web").strip() == "active"
    inside(cat, "systemctl", "restart", "hive-harness")
    await hive.idle(cat)
    [kept] = json.loads(await agent("ps", "--json"))
    assert (kept["state"], kept["pid"]) == ("running", started["pid"])
    assert (len(kept["ports"]), kept["restart_reason"]) == (1, "")
    assert "web is stopped" in await agent("stop", "web")
    await until(lambda: inside(cat, "systemctl", "is-active", "hive-program-web", check=False).strip() == "inactive")


@needs_limits
async def test_a_hog_is_killed_and_the_manager_told(hive: HostHive, cat: str) -> None:
    """It is killed at the container's limit; the agent goes on, and the manager hears of it once."""
    before = invocation(cat)
    inside(cat, "systemctl", "start", "--no-block", "hog")
    await until(lambda: inside(cat, "systemctl", "is-failed", "hog", check=False).strip() == "failed")
    assert inside(cat, "systemctl", "show", "hog", "-p", "ExecMainStatus").strip() == "ExecMainStatus=9"
    told = await until(lambda: hive.told("hm1nd", f"{cat} "))
    assert len(told) == 1
    assert told[0].startswith(f"{cat} ran out of memory: a process of its was killed, and it goes on.")
    assert invocation(cat) == before
    assert await hive.ask_agent(cat, "still there?") == f"{cat} heard: still there?"


async def test_a_killed_container_is_one_crash(hive: HostHive, cat: str) -> None:
    """The manager is told once, with the cause and the last lines of its log; the hive starts it again."""
    before = invocation(cat)
    began = time.monotonic()
    call("systemctl", "kill", "--signal=KILL", "--kill-who=main", service(cat))
    (told,) = await until(lambda: hive.told("hm1nd", f"{cat} crashed"))
    took = time.monotonic() - began
    assert "SIGKILL" in told.splitlines()[0]
    assert "its log" in told
    status = await hive.idle(cat)
    assert (status["lifecycle"], status["restarts"]) == ("running", 1)
    assert invocation(cat) != before
    assert await hive.ask_agent(cat, "and again?") == f"{cat} heard: and again?"
    assert hive.told("hm1nd", f"{cat} crashed") == [told]
    assert took < 5.0


async def test_stopping_is_no_crash(hive: HostHive, cat: str) -> None:
    """Stopped and started on request, an agent is stopped and running, and nobody is told of anything."""
    heard = hive.sql("SELECT count(*) FROM messages WHERE sender = 'system'")
    await hive.ask("POST", f"/v1/agents/{cat}/stop", {})
    assert unit(service(cat), "ActiveState") == "inactive"
    assert (await hive.agents())[cat]["lifecycle"] == "stopped"
    await hive.ask("POST", f"/v1/agents/{cat}/start", {})
    await hive.idle(cat)
    assert hive.sql("SELECT count(*) FROM messages WHERE sender = 'system'") == heard


@pytest.mark.parametrize("how", thorough_but(("restart", "kill"), "kill"))
async def test_containers_outlive_the_daemon(hive: HostHive, cat: str, how: str) -> None:
    """While it is gone they go on, the one that dies is known to have died, and messages flow when it is back."""
    before = invocation(cat), unit(service(cat), "MainPID")
    await (hive.restart() if how == "restart" else hive.kill())
    status = await hive.idle(cat)
    assert (status["lifecycle"], str(status["pid"])) == ("running", before[1])
    if systemd_release() >= KEEPS_DESCRIPTORS:
        # The harness has gone on to listen on the port of the page, and systemd has kept it for the daemon.
        assert (await hive.ask("POST", f"/v1/agents/{cat}/page-tickets"))["held"] and not status["page_problem"]
    assert await hive.ask_agent(cat, f"after {how}") == f"{cat} heard: after {how}"
    assert (invocation(cat), unit(service(cat), "MainPID")) == before


async def test_nothing_is_left_of_a_destroyed_agent(hive: HostHive, cat: str) -> None:
    """Destroyed and purged, an agent has no container, no unit and no directory any more."""
    await hive.ask("POST", f"/v1/agents/{cat}/destroy", {"purge": True})
    assert left_of(cat) == [] and unit(service(cat), "ActiveState") == "inactive"
    assert cat not in await hive.agents()
