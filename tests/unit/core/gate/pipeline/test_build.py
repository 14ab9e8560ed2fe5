"""The build of a proposal, over real repositories."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.gate.pipeline import build
from hive_core.protocol import AgentConfig, ProposeRequest, SpawnRequest
from tests.unit.core.gate.gate_hive import ADA, OPERATOR, GateHive


async def test_a_host_that_builds_nothing_fails_no_proposal(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken in while builds worked, it waits while they do not, in the state that it has, and is built afterwards."""
    monkeypatch.setattr(build, "_CHECK_SECONDS", 0.01)
    calls = 0

    async def check_can_build() -> None:
        nonlocal calls
        calls += 1
        if 1 < calls < 5:
            raise HiveError("no_build_user", "builds do not work", status=503)

    monkeypatch.setattr(gate_hive.runtime, "check_can_build", check_can_build)
    proposal = await gate_hive.propose("ada", "You sing.")
    assert proposal.state == "proposal"
    built = await gate_hive.until("ada", proposal.number, "built")
    assert (calls, built.outcome) == (5, "")
    await gate_hive.check()


async def test_differences_that_take_too_long_are_a_reason_to_deny(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison that does not end holds up no decision: the proposal is built, and reviewers read that they see
    nothing of it.
    """

    async def endless(*_: object) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(build, "_COMPARE_SECONDS", 0.01)
    monkeypatch.setattr(gate_hive.runtime, "compare", endless)
    proposal = await gate_hive.propose("ada", "You sing.")
    built = await gate_hive.until("ada", proposal.number, "built")
    assert built.waits_for is not None
    assert built.closure_changes == [build._NOT_COMPARED]
    assert "a reason to deny" in build._NOT_COMPARED
    await gate_hive.check()


async def test_unknown_names_are_told_of_a_new_agent(gate_hive: GateHive) -> None:
    """The answer of a spawn names the tools, recipients and models that nobody knows; the agent is created."""
    unknown: dict[str, Any] = {"model": "sonet", "tools": ["Bsh"], "allowed_recipients": ["nobody"]}
    config = AgentConfig(backend="claude", allowed_hosts=["anthropic"], **unknown)
    request = SpawnRequest(name="cy", config=config, start=False)
    answer = await gate_hive.gate.agent_submissions.spawn(request, OPERATOR)
    assert answer.warnings == [
        "tools: no tool Bsh is known, did you mean 'Bash'?",
        "model: no model sonet is known, did you mean 'sonnet'?",
        "allowed_recipients: there is no agent nobody now",
    ]
    known = SpawnRequest(name="dan", config=AgentConfig(tools=["Bash"], allowed_recipients=["cy"]), start=False)
    assert (await gate_hive.gate.agent_submissions.spawn(known, OPERATOR)).warnings == []


async def test_unknown_names_are_told_of_a_proposal(gate_hive: GateHive) -> None:
    """Reviewers read the unknown names that a proposal adds, and not again those that were deployed before."""

    async def told(toml: str) -> list[str]:
        sha = await asyncio.to_thread(gate_hive.commit, "ada", {"agent.toml": toml}, on=gate_hive.main("ada"))
        request = ProposeRequest(commit=sha, note="a tool", agent="ada")
        number = (await gate_hive.gate.config_submissions.propose(request, ADA)).number
        built = await gate_hive.until("ada", number, "built")
        await gate_hive.approve("ada", number)
        await gate_hive.until("ada", number, "deployed")
        return [line for line in built.settings if "is known" in line or "there is no agent" in line]

    bash = "tools: no tool Bsh is known, did you mean 'Bash'?"
    assert await told('backend = "scripted"\ntools = ["Bsh"]\n') == [bash]
    added = 'backend = "scripted"\ntools = ["Bsh"]\nallowed_recipients = ["nobody"]\n'
    assert await told(added) == ["allowed_recipients: there is no agent nobody now"]
