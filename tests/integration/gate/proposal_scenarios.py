"""The ways of proposals: how each is prepared, gone, and ended. Every step looks first at what is done already."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.helpers.real_daemon import Json
from tests.integration.gate.consistency_check import TERMINAL
from tests.integration.gate.crashing_daemon import Mortal

MANAGER = "hm1nd"
_names = itertools.count()


@dataclass
class Trip:
    """One proposal of one agent; `commit` for a configuration."""

    agent: str
    commit: str = ""


# --- steps, which may be taken again --------------------------------------------------------------------------


async def newest(hive: Mortal, trip: Trip) -> Json | None:
    """The trip's proposal."""
    for found in await hive.proposals(trip.agent):
        if found["commit"] == trip.commit or not trip.commit:
            return found
    return None


async def propose(hive: Mortal, trip: Trip) -> Json:
    """Propose, as the agent, and wait for the end of the build."""
    found = await newest(hive, trip)
    if found is None:
        body = {"commit": trip.commit, "note": "it is better so"}
        found = await hive.ask("POST", "/v1/proposals", body, agent=trip.agent)
    return await hive.until(trip.agent, found["number"], "built", *TERMINAL)


async def decide(hive: Mortal, trip: Trip, verb: str = "approve") -> Json:
    """Have whoever is asked decide, and wait for what comes of it."""
    found = await newest(hive, trip)
    assert found is not None
    while found["state"] not in TERMINAL:
        found = await hive.until(trip.agent, found["number"], "built", *TERMINAL)
        if found["state"] == "built":
            agent = MANAGER if found["waits_for"] == "manager" else None
            path, body = f"/v1/proposals/{trip.agent}/{found['number']}", {"expect": "built", "note": "I have seen it"}
            found = await hive.ask("POST", f"{path}/{verb}", body, agent=agent)
            if found["state"] == "approved":
                found = await hive.until(trip.agent, found["number"], *TERMINAL)
    return found


async def exists(hive: Mortal, agent: str) -> bool:
    answer = await hive.ask("GET", "/v1/agents")
    return agent in {status["name"] for status in answer["agents"]}


# --- beginnings -----------------------------------------------------------------------------------------------


def with_commit(agent: str, agent_nix: str) -> Callable[[Mortal], Awaitable[Trip]]:
    async def begin(hive: Mortal) -> Trip:
        return Trip(agent, hive.commit(agent, agent_nix))

    return begin


def with_built(agent: str) -> Callable[[Mortal], Awaitable[Trip]]:
    async def begin(hive: Mortal) -> Trip:
        trip = Trip(agent, hive.commit(agent))
        assert (await propose(hive, trip))["state"] == "built"
        return trip

    return begin


def with_two_of(agent: str) -> Callable[[Mortal], Awaitable[Trip]]:
    """Two deployments, of which the newer one is no rollback: there is something to go back to."""

    async def begin(hive: Mortal) -> Trip:
        trip = await with_built(agent)(hive)
        assert (await decide(hive, trip))["state"] == "deployed"
        return Trip(agent)

    return begin


async def with_new_name(_: Mortal) -> Trip:
    return Trip(f"n{next(_names)}")


async def with_new_agent(hive: Mortal) -> Trip:
    trip = Trip(f"n{next(_names)}")
    await hive.daemon.spawn(trip.agent, start=False)
    return trip


async def with_open_proposal(hive: Mortal) -> Trip:
    """A new agent, of which a configuration waits for its decision."""
    trip = await with_new_agent(hive)
    await propose(hive, Trip(trip.agent, hive.commit(trip.agent)))
    return trip


async def with_requested_spawn(hive: Mortal) -> Trip:
    trip = await with_new_name(hive)
    await request_spawn(hive, trip)
    return trip


def with_requested_destroy(*, purge: bool) -> Callable[[Mortal], Awaitable[Trip]]:
    async def begin(hive: Mortal) -> Trip:
        trip = await with_open_proposal(hive)
        await request_destroy(hive, trip, purge=purge)
        return trip

    return begin


# --- the parts in which the daemon dies -----------------------------------------------------------------------


async def go_propose(hive: Mortal, trip: Trip) -> None:
    await propose(hive, trip)


async def go_approve(hive: Mortal, trip: Trip) -> None:
    await decide(hive, trip)


async def go_deny(hive: Mortal, trip: Trip) -> None:
    await decide(hive, trip, "deny")


async def go_withdraw(hive: Mortal, trip: Trip) -> None:
    found = await newest(hive, trip)
    assert found is not None
    if found["state"] == "built":
        await hive.ask("POST", f"/v1/proposals/{trip.agent}/{found['number']}/withdraw", {}, agent=trip.agent)


async def go_rollback(hive: Mortal, trip: Trip) -> None:
    found = await newest(hive, trip)
    if found is None or found["kind"] != "rollback":
        note = {"note": "it was better before"}
        found = await hive.ask("POST", f"/v1/agents/{trip.agent}/rollback", note)
    await hive.until(trip.agent, found["number"], *TERMINAL)


async def go_rebuild(hive: Mortal, trip: Trip) -> None:
    found = await newest(hive, trip)
    if found is None or found["kind"] != "rebuild":
        found = await hive.ask("POST", f"/v1/agents/{trip.agent}/rebuild", {})
    await hive.until(trip.agent, found["number"], *TERMINAL)


async def go_spawn(hive: Mortal, trip: Trip) -> None:
    """The operator's own: what was begun is finished without being asked for again."""
    for found in await hive.proposals(trip.agent):
        await hive.until(trip.agent, found["number"], *TERMINAL)
    if not await exists(hive, trip.agent):
        await hive.ask("POST", "/v1/agents", {"name": trip.agent, "start": False})


async def go_destroy(hive: Mortal, trip: Trip) -> None:
    if await exists(hive, trip.agent):
        await hive.ask("POST", f"/v1/agents/{trip.agent}/destroy", {})


async def request_spawn(hive: Mortal, trip: Trip) -> None:
    if not await hive.proposals(trip.agent):
        await hive.ask("POST", "/v1/agents", {"name": trip.agent, "note": "more hands", "start": False}, agent=MANAGER)
    found = await newest(hive, trip)
    assert found is not None
    await hive.until(trip.agent, found["number"], "built", *TERMINAL)


async def request_destroy(hive: Mortal, trip: Trip, *, purge: bool = False) -> None:
    if any(found["kind"] == "destroy" for found in await hive.proposals(trip.agent)):
        return
    body = {"note": "not needed any more", "purge": purge}
    await hive.ask("POST", f"/v1/agents/{trip.agent}/destroy", body, agent=MANAGER)


async def go_purge(hive: Mortal, trip: Trip) -> None:
    """With the agent goes the proposal that asked for its end."""
    for found in await hive.proposals(trip.agent, "open"):
        if found["kind"] != "destroy":
            continue
        path, status = f"/v1/proposals/{trip.agent}/{found['number']}", 200
        if found["state"] == "built":
            await hive.ask("POST", f"{path}/approve", {"expect": "built"})
        while status == 200:
            status, _ = await hive.request("GET", f"{path}?unlike=approved&wait_seconds=30")


async def clear_away(hive: Mortal, trip: Trip) -> None:
    """Purge an agent that was made for this trip only: a hive that grows gets slower."""
    if trip.agent.startswith("n") and await exists(hive, trip.agent):
        await hive.ask("POST", f"/v1/agents/{trip.agent}/destroy", {"purge": True})


async def finish(hive: Mortal, trip: Trip) -> None:
    """Let nothing stay open."""
    while opened := await hive.proposals(trip.agent, "open"):
        found = opened[0]
        await decide(hive, Trip(trip.agent, found["commit"]) if found["kind"] == "config" else trip)
