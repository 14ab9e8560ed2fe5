"""From a proposal to its end, over real repositories, with a real database and real builds."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

import pytest

from hive_core.agents import files
from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.intake.import_commit import CommitImporter
from hive_core.gate.intake.tree_check import CheckedConfig
from hive_core.layout import Layout
from hive_core.protocol import (
    HistoryQuery,
    LogsQuery,
    ProposeRequest,
    SpawnProposal,
    SpawnRequest,
    WithdrawRequest,
)
from tests.unit.core.gate.gate_hive import (
    ADA,
    BOB,
    MANAGER,
    NOT_BUILDABLE,
    OPERATOR,
    PATIENCE,
    GateHive,
    config,
    opened,
    quick,
)
from tests.unit.core.gate.queries import begun, prompt, refused


async def test_a_proposal_is_built_approved_and_deployed(gate_hive: GateHive) -> None:
    """Every step has its tag, row and message; main moves with the deployment and what runs is what was approved."""
    before = gate_hive.main("ada")
    proposal = await gate_hive.propose("ada", "You sing.")
    assert (proposal.state, proposal.number, proposal.by, proposal.base) == ("proposal", 1, "ada", before)
    built = await gate_hive.until("ada", 1, "built")
    assert built.waits_for == "manager" and built.closure and "You sing." in built.diff
    assert gate_hive.main("ada") == before
    assert any("prompt.md" in line for line in built.closure_changes)
    assert await gate_hive.notified("hm1nd") == ["Review proposal ada/1: approve or deny it (state built)."]
    approved = await gate_hive.approve("ada", 1)
    assert (approved.approvals, approved.outcome) == (["hm1nd"], "fine")
    deployed = await gate_hive.until("ada", 1, "deployed")
    assert gate_hive.main("ada") == deployed.commit == proposal.commit
    assert gate_hive.tags("ada") >= {
        f"{state}/1" for state in ("proposal", "building", "built", "approved", "deployed")
    }
    assert prompt(gate_hive, "ada") == "You sing.\n"
    assert gate_hive.runtime.specs["ada"].closure == built.closure
    for name in ("hm1nd", "ada"):
        assert (await gate_hive.notified(name))[-1] == "Proposal ada/1 is deployed."
    log = await gate_hive.gate.queries.build_log("ada", 1, LogsQuery(lines=10), ADA)
    assert log.lines[-1].endswith(f"built {built.closure}")
    history = await gate_hive.gate.queries.history("ada", HistoryQuery())
    assert [(each.number, each.current) for each in history.deployments] == [(1, True), (0, False)]
    await gate_hive.check()


async def test_where_nothing_can_be_built_nothing_is_begun(gate_hive: GateHive) -> None:
    """Proposals, spawns and rebuilds are refused with what is missing, and leave no trace; later the same goes well."""
    gate_hive.runtime.unable = HiveError("no_build_user", "builds do not work", hint="start the Nix daemon", status=503)
    sha = gate_hive.commit("ada", {"prompt.md": "You sing.\n"}, on=gate_hive.main("ada"))
    asked = ProposeRequest(commit=sha, note="I like to sing")
    for request in (
        gate_hive.gate.config_submissions.propose(asked, ADA),
        gate_hive.spawn("eve"),
        gate_hive.rebuild("ada"),
    ):
        assert (await refused(request)).code == "no_build_user"
    assert not any(tag.endswith("/1") for tag in gate_hive.tags("ada"))
    assert not gate_hive.layout.applied_repository("eve").exists()
    gate_hive.runtime.unable = None
    assert (await gate_hive.gate.config_submissions.propose(asked, ADA)).number == 1
    await gate_hive.until("ada", 1, "built")
    await gate_hive.spawn("eve")


async def test_a_setting_that_cannot_be_enforced_is_refused(gate_hive: GateHive) -> None:
    """Nobody is asked to decide on it: proposals and spawns are refused before they get a number; no trace is left."""
    gate_hive.runtime.unsupported = {"network"}
    host = files.config_as_toml(config(network="host"))
    sha = gate_hive.commit("ada", {"agent.toml": host}, on=gate_hive.main("ada"))
    submissions = gate_hive.gate.agent_submissions
    for request in (
        gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="quiet"), ADA),
        submissions.spawn(SpawnRequest(name="eve", config=config(network="host")), OPERATOR),
        submissions.request_spawn(SpawnProposal(name="eve", config=config(network="host"), note="x"), MANAGER),
    ):
        assert (await refused(request)).code == "cannot_seal"
    assert not any(tag.endswith("/1") for tag in gate_hive.tags("ada"))
    assert not gate_hive.layout.applied_repository("eve").exists()
    await gate_hive.deploy("ada")
    await gate_hive.check()


async def test_what_cannot_be_built_fails(gate_hive: GateHive) -> None:
    """A build that does not succeed ends the proposal with the reason, told to who proposed; nothing else changes."""
    sha = gate_hive.commit("ada", NOT_BUILDABLE)
    await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="oops"), ADA)
    failed = await gate_hive.until("ada", 1, "failed")
    assert "agent.nix" in failed.outcome
    assert (await gate_hive.notified("ada"))[0] == "Proposal ada/1 failed."
    assert await gate_hive.notified("hm1nd") == []
    assert gate_hive.runtime.specs["ada"].deployment == 0
    await gate_hive.check()


@pytest.mark.parametrize(
    ("role", "why"),
    [("SILENT", "did not report in"), ("CRASHES", "exit code 7"), ("STALE", "deployment 0 instead of 1")],
)
async def test_what_does_not_come_up_is_put_back(gate_hive: GateHive, role: str, why: str) -> None:
    """What was deployed before runs again, main stays, and everybody concerned hears why."""
    before = gate_hive.main("ada")
    await gate_hive.built("ada", role)
    await gate_hive.approve("ada", 1)
    failed = await gate_hive.until("ada", 1, "failed")
    assert why in failed.outcome and "its last words" in failed.outcome
    assert gate_hive.main("ada") == before
    assert [number for name, number in gate_hive.runtime.activated if name == "ada"] == [1, 0]
    for name in ("ada", "hm1nd"):
        assert (await gate_hive.notified(name))[-1] == "Proposal ada/1 failed."
    await gate_hive.check()


async def test_an_error_of_the_hives_own_ends_the_proposal(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised while building or deploying, the proposal fails and the agent runs as before."""

    async def broken(*_: object) -> str:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(gate_hive.runtime, "compare", broken)
        await gate_hive.propose("ada", "one")
        assert "ZeroDivisionError" in (await gate_hive.until("ada", 1, "failed")).outcome
    await gate_hive.built("ada", "two")
    monkeypatch.setattr(gate_hive.hive.deployments, "wait_healthy", broken)
    await gate_hive.approve("ada", 2)
    assert "ZeroDivisionError" in (await gate_hive.until("ada", 2, "failed")).outcome
    await gate_hive.check()


async def test_a_closure_that_is_gone_is_not_deployed(gate_hive: GateHive) -> None:
    """An approved proposal of which the build is gone fails without stopping what runs."""
    built = await gate_hive.built("ada")
    assert built.closure
    shutil.rmtree(gate_hive.runtime.locate(built.closure))
    await gate_hive.approve("ada", 1)
    assert "is gone" in (await gate_hive.until("ada", 1, "failed")).outcome
    assert ("ada", 1) not in gate_hive.runtime.activated
    await gate_hive.check()


async def test_a_stopped_agent_is_deployed_and_stays_stopped(gate_hive: GateHive) -> None:
    """Nothing has to come up of an agent that is not to run; its next start is on the new deployment."""
    await gate_hive.hive.lifecycle.stop("ada", "operator")
    await gate_hive.deploy("ada", "SILENT")
    assert "ada" not in gate_hive.runtime.running
    await gate_hive.hive.lifecycle.start("ada", "operator")
    assert prompt(gate_hive, "ada") == "SILENT\n"
    await gate_hive.check()


async def test_denied(gate_hive: GateHive) -> None:
    """A denial ends a proposal and tells who proposed it why."""
    await gate_hive.built("ada")
    assert (await gate_hive.deny("ada", 1)).state == "denied"
    assert (await gate_hive.messages("ada"))[-1].startswith(
        "Proposal ada/1 was denied by hm1nd.\n\nThe reason:\n> too risky\n\n"
    )
    await gate_hive.check()


async def test_withdrawn(gate_hive: GateHive) -> None:
    """Who proposed may take it back, once; who was asked hears of it, others may not."""
    await gate_hive.built("ada")
    request = WithdrawRequest(note="changed my mind")
    assert (await refused(gate_hive.gate.decisions.withdraw("ada", 1, request, BOB))).code == "unknown_proposal"
    assert (await refused(gate_hive.gate.decisions.withdraw("ada", 1, request, MANAGER))).code == "not_yours"
    assert (await gate_hive.gate.decisions.withdraw("ada", 1, request, ADA)).state == "withdrawn"
    assert (await gate_hive.messages("hm1nd"))[-1].startswith(
        "Proposal ada/1 was withdrawn by ada.\n\nThe reason:\n> changed my mind\n\n"
    )
    assert await gate_hive.notified("ada") == []
    assert (await refused(gate_hive.gate.decisions.withdraw("ada", 1, request, ADA))).code == "stale_state"
    await gate_hive.check()


async def test_a_build_under_way_is_not_withdrawn(gate_hive: GateHive) -> None:
    """While it is built a proposal cannot be taken back; the refusal says to wait."""
    gate_hive.runtime.may_build.clear()
    await gate_hive.propose("ada")
    await begun(gate_hive)
    assert (await refused(gate_hive.gate.decisions.withdraw("ada", 1, WithdrawRequest(), ADA))).code == "stale_state"
    gate_hive.runtime.may_build.set()
    await gate_hive.until("ada", 1, "built")
    await gate_hive.gate.decisions.withdraw("ada", 1, WithdrawRequest(), ADA)
    await gate_hive.check()


async def test_nobody_decided_in_time(layout: Layout) -> None:
    """A proposal that waited for too long is withdrawn by the hive."""
    async with opened(layout, quick(layout, proposal_days=0.2 / 86_400)) as gate_hive:
        await gate_hive.propose("ada")  # On a busy machine the time is up before it is built.
        gone = await gate_hive.until("ada", 1, "withdrawn")
        assert gone.outcome == policy.EXPIRED
        assert (await gate_hive.notified("ada"))[-1] == "Proposal ada/1 was withdrawn by system."
        await gate_hive.check()


async def test_a_deployment_withdraws_what_was_proposed_on_the_old_one(gate_hive: GateHive) -> None:
    """Both what waits and what is being built; the proposers and those asked are told to look no more."""
    await gate_hive.built("ada", "first")
    await gate_hive.built("ada", "second")
    gate_hive.runtime.may_build.clear()
    await gate_hive.propose("ada", "third")
    await begun(gate_hive), await begun(gate_hive), await begun(gate_hive)
    await gate_hive.approve("ada", 1)
    await gate_hive.until("ada", 1, "deployed")
    assert (await gate_hive.show("ada", 2)).outcome == policy.MAIN_MOVED
    gate_hive.runtime.may_build.set()
    assert (await gate_hive.until("ada", 3, "withdrawn")).outcome == policy.MAIN_MOVED
    for name in ("ada", "hm1nd"):
        assert (
            sum(line.startswith("Proposal ada/2 was withdrawn by system") for line in await gate_hive.notified(name))
            == 1
        )
    await gate_hive.check()


async def test_the_space_of_proposals_is_bounded(layout: Layout) -> None:
    """Only the operator can propose for an agent whose proposals take up so much; others still may."""
    async with opened(layout, quick(layout, proposal_space=1_048_576)) as gate_hive:
        noise = secrets.token_hex(1_100_000)  # Packs to half its size.
        big = gate_hive.commit("ada", {"notes.txt": noise})
        proposed = await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=big, note="a"), ADA)
        await gate_hive.until("ada", proposed.number, "built")
        await gate_hive.deny("ada", proposed.number)
        error = await refused(gate_hive.propose("ada", "more"))
        assert (error.code, error.status) == ("proposal_space_full", 429)
        assert "1.0 MiB" in error.message
        assert (await gate_hive.propose("bob")).number == 1
        assert (await gate_hive.propose("ada", "more", OPERATOR)).number == 2
        await gate_hive.settled()
        await gate_hive.check()


async def test_slow_intakes_of_an_agent_delay_no_other(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent has one intake at a time and seven that wait; meanwhile another's proposal is taken in."""
    slow, end = gate_hive.layout.agent("ada").config, asyncio.Event()
    under_way: list[str] = []
    real = CommitImporter.import_commit

    async def import_commit(
        self: CommitImporter, config: Path, repository: Path, commit: str, base: str | None
    ) -> CheckedConfig:
        if config == slow:
            under_way.append(commit)
            await end.wait()
        return await real(self, config, repository, commit, base)

    monkeypatch.setattr(CommitImporter, "import_commit", import_commit)
    commits = [gate_hive.commit("ada", {"prompt.md": f"{number}\n"}) for number in range(9)]
    submissions = gate_hive.gate.config_submissions
    asking = [
        asyncio.create_task(submissions.propose(ProposeRequest(commit=commit, note="a"), ADA)) for commit in commits[:8]
    ]
    async with asyncio.timeout(PATIENCE):
        while not under_way:
            await asyncio.sleep(0.01)
        assert (await gate_hive.propose("bob")).number == 1
    last = submissions.propose(ProposeRequest(commit=commits[8], note="a"), ADA)
    assert (await refused(last)).code == "intake_under_way"
    assert under_way == commits[:1]
    end.set()
    await asyncio.gather(*asking)
    await gate_hive.settled()
    await gate_hive.check()
