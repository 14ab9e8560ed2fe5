"""A real daemon whose builds need fetches: what is named, who may allow it, and what a killed daemon builds with.

The local runtime builds nothing, so its builder is a fake one (`fetching_daemon_program`).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.fake_fetches import fake_fetch
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Json
from tests.integration.api.refusal_checks import Bad, check_refused
from tests.integration.gate.crashing_daemon import BROKEN, CrashingDaemon, mortal_with

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRAPPER = (sys.executable, "-m", "tests.integration.fetches.fetching_daemon_program")
URL, PROGRAM = "https://a.example/x.tar", "/nix/store/ccc-bash/bin/bash"
NEEDS = f"# FETCHES {URL}\n# FETCHES https://b.example/ {PROGRAM}\n{{ }}\n"
BY_NIX, BY_PROGRAM = fake_fetch(URL), fake_fetch("https://b.example/", PROGRAM)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hive() -> AsyncIterator[CrashingDaemon]:
    """A manager and an agent, neither of which runs."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with mortal_with(WRAPPER, Path(home), {}) as started:
            await started.daemon.spawn("ada", start=False)
            yield started


async def failed(hive: CrashingDaemon, agent_nix: str = NEEDS) -> Json:
    """A proposal of ada that has failed."""
    body = {"commit": hive.commit("ada", agent_nix), "note": "it needs x"}
    number = (await hive.ask("POST", "/v1/proposals", body, agent="ada"))["number"]
    return await hive.until("ada", number, "failed")


def path(proposal: Json, verb: str = "allow-fetches") -> str:
    return f"/v1/proposals/{proposal['agent']}/{proposal['number']}/{verb}"


async def run(hive: CrashingDaemon, *words: str) -> tuple[int, str, str]:
    """Exit code and output of `hive-c0re`."""
    command = [sys.executable, "-m", "hive_core", "--socket", str(hive.daemon.host_socket), *words]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


async def approve(hive: CrashingDaemon, number: int) -> Json:
    await hive.ask("POST", f"/v1/proposals/ada/{number}/approve", {"expect": "built"}, agent="hm1nd")
    return await hive.until("ada", number, "deployed")


def told(hive: CrashingDaemon, name: str) -> list[str]:
    """First lines of the hive's messages to a party."""
    query = """SELECT body FROM messages JOIN deliveries ON message = id
        WHERE sender = 'system' AND deliveries.recipient = ? ORDER BY id"""
    return [body.partition("\n")[0] for (body,) in hive.daemon.sql(query, name)]


async def test_from_failure_to_deployment(hive: CrashingDaemon) -> None:
    """On the command line: the fetches are shown, exactly these are allowed, and the commit is built and deployed."""
    found = await failed(hive)
    name, after = f"ada/{found['number']}", found["number"] + 1
    code, out, err = await run(hive, "proposals", "allow-fetches", name)
    assert code == 0, err
    for part in (URL, BY_NIX.hash, BY_NIX.derivation, BY_PROGRAM.derivation, PROGRAM, "ANY host"):
        assert part in out
    command = err.strip().splitlines()[-1].split()
    assert command[:4] == ["hive-c0re", "proposals", "allow-fetches", name]
    assert await hive.proposals("ada", "open") == []
    code, out, err = await run(hive, *command[1:])
    assert (code, out) == (0, f"ada/{after} is built and waits for the manager\n"), err
    shown = json.loads((await run(hive, "proposals", "show", f"ada/{after}", "--json"))[1])
    assert (shown["by"], shown["note"], shown["commit"]) == ("ada", "it needs x", found["commit"])
    assert shown["allowed_fetches"]["failed"] == found["number"]
    assert shown["allowed_fetches"]["fetches"] == found["missing_fetches"]
    await approve(hive, after)
    assert f"Proposal ada/{after} is ada/{found['number']} once more, with its fetches allowed." in told(hive, "ada")
    assert f"Proposal {name} failed." in told(hive, "ada")
    tag = git(hive.daemon.state_dir / "applied" / "ada.git", "for-each-ref", "--format=%(contents:trailers)",
              f"refs/tags/deployed/{after}")  # fmt: skip
    (line,) = [line for line in tag.splitlines() if line.startswith("Allowed-Fetches: ")]
    assert {fetch["derivation"] for fetch in json.loads(line.partition(" ")[2])["fetches"]} == {
        BY_NIX.derivation, BY_PROGRAM.derivation,
    }  # fmt: skip
    await hive.check_with_the_command()


async def test_agents_and_the_manager_cannot(hive: CrashingDaemon) -> None:
    """On an agent's socket, the manager's included, there is no way to allow fetches."""
    found = await failed(hive)
    body = {"commit": found["commit"]}
    for agent in ("ada", "hm1nd"):
        await check_refused(hive.daemon, [Bad("POST", path(found), 404, "not_found", body)], agent)
    assert (await hive.ask("GET", f"/v1/proposals/ada/{found['number']}", agent="hm1nd"))["missing_fetches"]


async def test_what_is_refused(hive: CrashingDaemon) -> None:
    """A permission for nothing, for another commit, or without a commit changes nothing."""
    found, other = await failed(hive), await failed(hive, BROKEN)
    body = {"commit": found["commit"]}
    table = [
        Bad("POST", path(found), 400, "invalid_request", {}),
        Bad("POST", path(found), 400, "invalid_request", body | {"derivations": []}),
        Bad("POST", path(found), 409, "other_commit", {"commit": "d" * 40}),
        Bad("POST", path(other), 409, "no_missing_fetches", {"commit": other["commit"]}),
        Bad("POST", path(found | {"number": 999}), 404, "unknown_proposal", body),
        Bad("POST", path(found | {"agent": "bob"}), 404, "unknown_proposal", body),
    ]
    await check_refused(hive.daemon, table)
    made = await hive.ask("POST", path(found), body)
    await hive.until("ada", made["number"], "built")
    await check_refused(hive.daemon, [Bad("POST", path(found), 409, "already_proposed", body)])
    await approve(hive, made["number"])
    await check_refused(hive.daemon, [Bad("POST", path(found), 409, "not_rebased", body)])


async def test_agent_is_gone() -> None:
    """For an agent that was destroyed nothing is allowed, nor for a purged one, of which the numbers begin again."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with mortal_with(WRAPPER, Path(home), {}) as hive:
            await hive.daemon.spawn("ada", start=False)
            found = await failed(hive)
            body = {"commit": found["commit"]}
            await hive.ask("POST", "/v1/agents/ada/destroy", {})
            await check_refused(hive.daemon, [Bad("POST", path(found), 404, "unknown_agent", body)])
            await hive.daemon.spawn("ada", start=False)
            await hive.ask("POST", "/v1/agents/ada/destroy", {"purge": True})
            await check_refused(hive.daemon, [Bad("POST", path(found), 404, "unknown_proposal", body)])


@pytest.mark.timeout(300)
async def test_killed_at_every_milestone() -> None:
    """Wherever the daemon dies, the next one builds with exactly what was allowed, and tells and audits it once."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with mortal_with(WRAPPER, Path(home), {}) as hive:
            await hive.daemon.spawn("ada", start=False)
            died, milestone = True, 1
            while died:
                found = await failed(hive)
                hive.arm(milestone)
                async with asyncio.timeout(60):
                    made = await hive.through(lambda found=found: allowed_and_built(hive, found))  # type: ignore[misc]
                    died = await hive.disarm()
                assert {fetch["derivation"] for fetch in made["allowed_fetches"]["fetches"]} == {
                    BY_NIX.derivation, BY_PROGRAM.derivation,
                }  # fmt: skip
                await hive.ask("POST", path(made, "withdraw"), {}, agent="ada")
                await hive.check()
                line = f"Proposal ada/{made['number']} is ada/{found['number']} once more, with its fetches allowed."
                assert told(hive, "ada").count(line) == 1
                query = "SELECT count(*) FROM audit WHERE action = 'allow_fetches' AND detail ->> 'number' = ?"
                assert hive.daemon.sql(query, made["number"]) == [(1,)]
                milestone += 1
            assert milestone > 8, "it died nowhere"
            await hive.check_with_the_command()


async def allowed_and_built(hive: CrashingDaemon, found: Json) -> Json:
    """Allow the fetches unless that is done already, and wait for the build."""
    newest = (await hive.proposals("ada"))[0]
    if newest["number"] == found["number"]:
        newest = await hive.ask("POST", path(found), {"commit": found["commit"]})
    return await hive.until("ada", newest["number"], "built")
