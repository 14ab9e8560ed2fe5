"""The ways of proposals: how each is prepared, gone, and ended. Every step looks first at what is done already."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.helpers.real_daemon import Json
from tests.integration.gate.consistency_check import TERMINAL
from tests.integration.gate.crashing_daemon import CrashingDaemon

MANAGER = "hm1nd"
_names = itertools.count()


@dataclass
class Scenario:
    """One proposal of one agent; `commit` for a configuration."""

    agent: str
    commit: str = ""


# --- steps, which may be taken again --------------------------------------------------------------------------


async def newest(hive: CrashingDaemon, scenario: Scenario) -> Json | None:
    """The trip's proposal."""
    for found in await hive.proposals(scenario.agent):
        if found["commit"] == scenario.commit or not scenario.commit:
            return found
    return None


async def propose(hive: CrashingDaemon, scenario: Scenario) -> Json:
    """Propose, as the agent, and wait for the end of the build."""
    found = await newest(hive, scenario)
    if found is None:
        body = {"commit": scenario.commit, "note": "it is better so"}
        found = await hive.ask("POST", "/v1/proposals", body, agent=scenario.agent)
    return await hive.until(scenario.agent, found["number"], "built", *TERMINAL)


async def decide(hive: CrashingDaemon, scenario: Scenario, verb: str = "approve") -> Json:
    """Have whoever is asked decide, and wait for what comes of it."""
    found = await newest(hive, scenario)
    assert found is not None
    while found["state"] not in TERMINAL:
        found = await hive.until(scenario.agent, found["number"], "built", *TERMINAL)
        if found["state"] == "built":
            agent = MANAGER if found["waits_for"] == "manager" else None
            path, body = (
                f"/v1/proposals/{scenario.agent}/{found['number']}",
                {"expect": "built", "note": "I have seen it"},
            )
            found = await hive.ask("POST", f"{path}/{verb}", body, agent=agent)
            if found["state"] == "approved":
                found = await hive.until(scenario.agent, found["number"], *TERMINAL)
    return found


async def exists(hive: CrashingDaemon, agent: str) -> bool:
    answer = await hive.ask("GET", "/v1/agents")
    return agent in {status["name"] for status in answer["agents"]}


# --- beginnings -----------------------------------------------------------------------------------------------


def with_commit(agent: str, agent_nix: str) -> Callable[[CrashingDaemon], Awaitable[Scenario]]:
    async def begin(hive: CrashingDaemon) -> Scenario:
        return Scenario(agent, hive.commit(agent, agent_nix))

    return begin


def with_built(agent: str) -> Callable[[CrashingDaemon], Awaitable[Scenario]]:
    async def begin(hive: CrashingDaemon) -> Scenario:
        scenario = Scenario(agent, hive.commit(agent))
        assert (await propose(hive, scenario))["state"] == "built"
        return scenario

    return begin


def with_two_of(agent: str) -> Callable[[CrashingDaemon], Awaitable[Scenario]]:
    """Two deployments, of which the newer one is no rollback: there is something to go back to."""

    async def begin(hive: CrashingDaemon) -> Scenario:
        scenario = await with_built(agent)(hive)
        assert (await decide(hive, scenario))["state"] == "deployed"
        return Scenario(agent)

    return begin


async def with_new_name(_: CrashingDaemon) -> Scenario:
    return Scenario(f"n{next(_names)}")


async def with_new_agent(hive: CrashingDaemon) -> Scenario:
    scenario = Scenario(f"n{next(_names)}")
    await hive.daemon.spawn(scenario.agent, start=False)
    return scenario


async def with_open_proposal(hive: CrashingDaemon) -> Scenario:
    """A new agent, of which a configuration waits for its decision."""
    scenario = await with_new_agent(hive)
    await propose(hive, Scenario(scenario.agent, hive.commit(scenario.agent)))
    return scenario


async def with_requested_spawn(hive: CrashingDaemon) -> Scenario:
    scenario = await with_new_name(hive)
    await request_spawn(hive, scenario)
    return scenario


def with_requested_destroy(*, purge: bool) -> Callable[[CrashingDaemon], Awaitable[Scenario]]:
    async def begin(hive: CrashingDaemon) -> Scenario:
        scenario = await with_open_proposal(hive)
        await request_destroy(hive, scenario, purge=purge)
        return scenario

    return begin


# --- the parts in which the daemon dies -----------------------------------------------------------------------


async def go_propose(hive: CrashingDaemon, scenario: Scenario) -> None:
    await propose(hive, scenario)


async def go_approve(hive: CrashingDaemon, scenario: Scenario) -> None:
    await decide(hive, scenario)


async def go_deny(hive: CrashingDaemon, scenario: Scenario) -> None:
    await decide(hive, scenario, "deny")


async def go_prune(hive: CrashingDaemon, scenario: Scenario) -> None:
    await decide(hive, scenario, "deny")
    await hive.ask("POST", "/v1/proposals/prune", {"agent": scenario.agent, "older_than_days": 0})


async def go_withdraw(hive: CrashingDaemon, scenario: Scenario) -> None:
    found = await newest(hive, scenario)
    assert found is not None
    if found["state"] == "built":
        await hive.ask("POST", f"/v1/proposals/{scenario.agent}/{found['number']}/withdraw", {}, agent=scenario.agent)


async def go_rollback(hive: CrashingDaemon, scenario: Scenario) -> None:
    found = await newest(hive, scenario)
    if found is None or found["kind"] != "rollback":
        note = {"note": "it was better before"}
        found = await hive.ask("POST", f"/v1/agents/{scenario.agent}/rollback", note)
    await hive.until(scenario.agent, found["number"], *TERMINAL)


async def go_rebuild(hive: CrashingDaemon, scenario: Scenario) -> None:
    found = await newest(hive, scenario)
    if found is None or found["kind"] != "rebuild":
        found = await hive.ask("POST", f"/v1/agents/{scenario.agent}/rebuild", {})
    await hive.until(scenario.agent, found["number"], *TERMINAL)


async def go_spawn(hive: CrashingDaemon, scenario: Scenario) -> None:
    """The operator's own: what was begun is finished without being asked for again."""
    for found in await hive.proposals(scenario.agent):
        await hive.until(scenario.agent, found["number"], *TERMINAL)
    if not await exists(hive, scenario.agent):
        await hive.ask("POST", "/v1/agents", {"name": scenario.agent, "start": False})


async def go_destroy(hive: CrashingDaemon, scenario: Scenario) -> None:
    if await exists(hive, scenario.agent):
        await hive.ask("POST", f"/v1/agents/{scenario.agent}/destroy", {})


async def request_spawn(hive: CrashingDaemon, scenario: Scenario) -> None:
    if not await hive.proposals(scenario.agent):
        await hive.ask(
            "POST", "/v1/agents", {"name": scenario.agent, "note": "more hands", "start": False}, agent=MANAGER
        )
    found = await newest(hive, scenario)
    assert found is not None
    await hive.until(scenario.agent, found["number"], "built", *TERMINAL)


async def request_destroy(hive: CrashingDaemon, scenario: Scenario, *, purge: bool = False) -> None:
    if any(found["kind"] == "destroy" for found in await hive.proposals(scenario.agent)):
        return
    body = {"note": "not needed any more", "purge": purge}
    await hive.ask("POST", f"/v1/agents/{scenario.agent}/destroy", body, agent=MANAGER)


async def go_purge(hive: CrashingDaemon, scenario: Scenario) -> None:
    """With the agent goes the proposal that asked for its end."""
    for found in await hive.proposals(scenario.agent, "open"):
        if found["kind"] != "destroy":
            continue
        path, status = f"/v1/proposals/{scenario.agent}/{found['number']}", 200
        if found["state"] == "built":
            await hive.ask("POST", f"{path}/approve", {"expect": "built"})
        while status == 200:
            status, _ = await hive.request("GET", f"{path}?unlike=approved&wait_seconds=30")


async def clear_away(hive: CrashingDaemon, scenario: Scenario) -> None:
    """Purge an agent that was made for this trip only: a hive that grows gets slower."""
    if scenario.agent.startswith("n") and await exists(hive, scenario.agent):
        await hive.ask("POST", f"/v1/agents/{scenario.agent}/destroy", {"purge": True})


async def finish(hive: CrashingDaemon, scenario: Scenario) -> None:
    """Let nothing stay open."""
    while opened := await hive.proposals(scenario.agent, "open"):
        found = opened[0]
        await decide(hive, Scenario(scenario.agent, found["commit"]) if found["kind"] == "config" else scenario)
