"""Killed at any milestone of a proposal's way, the daemon finishes or undoes what it had begun.

The milestones are those at which `hive_core.gate` calls `transitions.crash_point`. On each way the daemon dies at the
first of them, then, with another proposal, at the second, and so on until the way has none left.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import hive_core
from tests.integration.gate import proposal_scenarios as scenarios
from tests.integration.gate.crashing_daemon import BROKEN, GOOD, CrashingDaemon, mortal
from tests.integration.gate.proposal_scenarios import Scenario


@dataclass(frozen=True)
class Way:
    """If there is little time, milestones before `first` are left out, and ways of `soak`: the daemon dies at the same
    ones on another way.
    """

    begin: Callable[[CrashingDaemon], Awaitable[Scenario]]
    go: Callable[[CrashingDaemon, Scenario], Awaitable[None]]
    first: int = 1
    soak: bool = False


@dataclass(frozen=True)
class Hive:
    """A hive, its one agent beside the manager, and the ways that are gone in it."""

    ways: Mapping[str, Way]
    agent: str
    runs: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)


_BOTH = {"approval": '{"config": "both"}'}
_ADA, _BOB = scenarios.with_built("ada"), scenarios.with_built("bob")
HIVES = {
    "resting": Hive(
        {
            "propose": Way(scenarios.with_commit("ada", GOOD), scenarios.go_propose),
            "build that fails": Way(scenarios.with_commit("ada", BROKEN), scenarios.go_propose, 7, soak=True),
            "approve": Way(_ADA, scenarios.go_approve),
            "deny": Way(_ADA, scenarios.go_deny),
            "prune": Way(_ADA, scenarios.go_prune, 4),
            "withdraw": Way(_ADA, scenarios.go_withdraw, soak=True),
            "roll back": Way(scenarios.with_two_of("ada"), scenarios.go_rollback),
            "rebuild": Way(scenarios.with_two_of("ada"), scenarios.go_rebuild, 7, soak=True),
        },
        "ada",
        settings=_BOTH,
    ),
    "changing": Hive(
        {
            "operator's spawn": Way(scenarios.with_new_name, scenarios.go_spawn),
            "requested spawn": Way(scenarios.with_new_name, scenarios.request_spawn, 7, soak=True),
            "approved spawn": Way(scenarios.with_requested_spawn, scenarios.go_approve, 4),
            "operator's destroy": Way(scenarios.with_open_proposal, scenarios.go_destroy),
            "requested destroy": Way(scenarios.with_new_agent, scenarios.request_destroy, soak=True),
            "approved destroy": Way(scenarios.with_requested_destroy(purge=False), scenarios.go_approve, 4, soak=True),
            "approved purge": Way(scenarios.with_requested_destroy(purge=True), scenarios.go_purge, 4),
        },
        "ada",
    ),
    "running": Hive(
        {
            "approve": Way(_BOB, scenarios.go_approve, 4),
            "roll back": Way(scenarios.with_two_of("bob"), scenarios.go_rollback, 7),
        },
        "bob",
        runs=True,
    ),
    # No harness reports in as fast as that.
    "failing": Hive(
        {"approve": Way(_BOB, scenarios.go_approve, 4)}, "bob", runs=True, settings={"health_timeout": 0.01}
    ),
}


async def _die_everywhere(hive: CrashingDaemon, way: Way, first: int) -> None:
    """Go the way again and again; each time the daemon dies one milestone later, until there is none."""
    died, milestone = True, first
    while died:
        scenario = await way.begin(hive)
        hive.arm(milestone)
        async with asyncio.timeout(60):
            await hive.through(lambda trip=scenario: way.go(hive, trip))  # type: ignore[misc]
            died = await hive.disarm()
            await scenarios.finish(hive, scenario)
        await hive.check()
        await scenarios.clear_away(hive, scenario)
        milestone += 1
    assert milestone > first + 2, "it died nowhere"


async def _die(name: str, *, everywhere: bool) -> set[str]:
    """Go all ways of a hive; the milestones at which its daemon died."""
    scene = HIVES[name]
    if everywhere:
        # An agent makes 60 proposals an hour at most, so each way needs a hive of its own.
        deaths = [await _die_on({title: way}, name, scene, everywhere=True) for title, way in scene.ways.items()]
        return set().union(*deaths)
    few = {title: way for title, way in scene.ways.items() if not way.soak}
    return await _die_on(few, name, scene, everywhere=False)


async def _die_on(chosen: Mapping[str, Way], name: str, scene: Hive, *, everywhere: bool) -> set[str]:
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with mortal(Path(home), **scene.settings) as hive:
            await hive.daemon.spawn(scene.agent, start=scene.runs)
            for title, way in chosen.items():
                try:
                    await _die_everywhere(hive, way, 1 if everywhere else way.first)
                except BaseException as error:
                    error.add_note(f"in the hive {name!r} on the way {title!r}; it died at {hive.deaths}")
                    raise
            await hive.check_with_the_command()
            return set(hive.deaths)


def _named() -> set[str]:
    """All milestones, as the code names them."""
    found = [re.findall(r'\bcrash_point\("([^"]+)"\)', path.read_text()) for path in _modules()]
    return {name for names in found for name in names}


def _modules() -> list[Path]:
    return sorted(Path(hive_core.__path__[0], "gate").rglob("*.py"))


@pytest.mark.thorough
@pytest.mark.timeout(400)
async def test_killed_at_every_milestone() -> None:
    """One terminal tag each; `main`, what runs, index and audit table agree with the tags: wherever it died."""
    deaths = await asyncio.gather(*(_die(name, everywhere=False) for name in HIVES))
    assert set().union(*deaths) == _named()


@pytest.mark.soak
@pytest.mark.timeout(1_200)
async def test_killed_at_every_milestone_of_every_way() -> None:
    """The same without leaving out what two ways have in common."""
    await asyncio.gather(*(_die(name, everywhere=True) for name in HIVES))
