"""Who decides, when, and what is refused; several proposals and agents side by side."""

from __future__ import annotations

import asyncio

from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    DestroyRequest,
    FileDiffQuery,
    LogsQuery,
    ProposalsQuery,
    ProposeRequest,
    RollbackRequest,
)
from hive_core.settings import Approval, AutoRule
from tests.unit.core.gate.gate_hive import ADA, BOB, MANAGER, OPERATOR, PATIENCE, GateHive, opened, quick
from tests.unit.core.gate.queries import begun, refused

BOTH = Approval(config="both")
PROMPTS = Approval(rules=[AutoRule(name="prompts", when="prompt_only")])


async def test_both_in_order(layout: Layout) -> None:
    """Where two have to approve, the operator is asked when the manager has; the deployment comes after both."""
    async with opened(layout, quick(layout, BOTH)) as gate_hive:
        await gate_hive.built("ada")
        assert (await refused(gate_hive.approve("ada", 1, OPERATOR))).code == "not_decider"
        endorsed = await gate_hive.approve("ada", 1, note="good idea")
        assert (endorsed.state, endorsed.waits_for, endorsed.approvals) == ("built", "operator", ["hm1nd"])
        assert "endorsed/1" in gate_hive.tags("ada")
        assert [text.partition("\n")[0] for text in await gate_hive.inbox()] == [
            "Review proposal ada/1: approve or deny it (state built)."
        ]
        assert (await refused(gate_hive.approve("ada", 1))).code == "not_decider"
        await gate_hive.check()
        await gate_hive.approve("ada", 1, OPERATOR)
        deployed = await gate_hive.until("ada", 1, "deployed")
        assert deployed.approvals == ["hm1nd", "operator:alice"]
        await gate_hive.check()


async def test_the_second_of_two_may_deny(layout: Layout) -> None:
    """An endorsed proposal is denied like any other."""
    async with opened(layout, quick(layout, BOTH)) as gate_hive:
        await gate_hive.built("ada")
        await gate_hive.approve("ada", 1)
        assert (await gate_hive.deny("ada", 1, OPERATOR)).state == "denied"
        await gate_hive.check()


async def test_a_rule_approves(layout: Layout) -> None:
    """What a rule allows is deployed without anybody being asked, and says by which rule; what it does not, waits."""
    async with opened(layout, quick(layout, PROMPTS)) as gate_hive:
        await gate_hive.propose("ada", "You sing.")
        assert (await gate_hive.until("ada", 1, "deployed")).approvals == ["rule: prompts"]
        assert await gate_hive.notified("hm1nd") == []
        sha = gate_hive.commit("ada", {"notes.md": "more than the prompt\n"}, on=gate_hive.main("ada"))
        await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="notes"), ADA)
        assert (await gate_hive.until("ada", 2, "built")).waits_for == "manager"
        await gate_hive.check()


async def test_without_a_manager_the_operator_decides_and_proposes_alone(layout: Layout) -> None:
    """Nothing waits for a manager that is not there, nor for the operator's word on the operator's own."""
    async with opened(layout) as gate_hive:
        await gate_hive.gate.agent_submissions.destroy("hm1nd", DestroyRequest(), OPERATOR)
        assert (await gate_hive.built("ada")).waits_for == "operator"
        await gate_hive.approve("ada", 1, OPERATOR)
        await gate_hive.until("ada", 1, "deployed")
        await gate_hive.propose("ada", "the operator's", OPERATOR)
        assert (await gate_hive.until("ada", 2, "deployed")).approvals == ["operator:alice"]
        await gate_hive.check()


async def test_proposals_that_waited_for_a_destroyed_manager_wait_for_the_operator(layout: Layout) -> None:
    """The operator decides on all that waited for the manager when it is destroyed, also on their own edit."""
    async with opened(layout) as gate_hive:
        await gate_hive.built("ada")
        await gate_hive.built("bob", "the operator's", OPERATOR)
        assert "hm1nd decides on it" in (await refused(gate_hive.approve("bob", 1, OPERATOR))).hint
        await gate_hive.gate.agent_submissions.destroy("hm1nd", DestroyRequest(), OPERATOR)
        listed = await gate_hive.gate.queries.proposals(ProposalsQuery(), OPERATOR)
        assert {each.agent: each.waits_for for each in listed.proposals} == {"ada": "operator", "bob": "operator"}
        assert (await gate_hive.gate.queries.show("bob", 1, OPERATOR)).waits_for == "operator"
        for agent in ("ada", "bob"):
            await gate_hive.approve(agent, 1, OPERATOR)
            assert (await gate_hive.until(agent, 1, "deployed")).approvals == ["operator:alice"]
        await gate_hive.check()


async def test_who_may_not_decide(gate_hive: GateHive) -> None:
    """Nobody decides on their own, agents decide on nothing, and the manager's own waits for the operator."""
    await gate_hive.built("ada")
    assert (await refused(gate_hive.approve("ada", 1, ADA))).code == "own_proposal"
    assert (await refused(gate_hive.approve("ada", 1, BOB))).code == "not_decider"
    assert (await refused(gate_hive.deny("ada", 1, BOB))).code == "not_decider"
    assert (await gate_hive.built("hm1nd", "You rule.", MANAGER)).waits_for == "operator"
    assert (await refused(gate_hive.approve("hm1nd", 1))).code == "own_proposal"
    await gate_hive.built("ada", "by the manager", MANAGER)
    assert (await refused(gate_hive.approve("ada", 2))).code == "own_proposal"
    await gate_hive.approve("hm1nd", 1, OPERATOR)
    await gate_hive.until("hm1nd", 1, "deployed")
    await gate_hive.check()


async def test_a_decision_is_taken_once(gate_hive: GateHive) -> None:
    """A second decision, or one about another state, is refused with the state that the proposal is in."""
    gate_hive.runtime.may_build.clear()
    await gate_hive.propose("ada")
    await begun(gate_hive)
    assert "ada/1 is building" in (await refused(gate_hive.approve("ada", 1))).message
    early = gate_hive.gate.decisions.approve("ada", 1, ApproveRequest(expect="building"), MANAGER)
    assert (await refused(early)).code == "stale_state"
    gate_hive.runtime.may_build.set()
    await gate_hive.until("ada", 1, "built")
    await gate_hive.approve("ada", 1)
    await gate_hive.until("ada", 1, "deployed")
    for principal in (MANAGER, OPERATOR):
        for late in (gate_hive.approve("ada", 1, principal), gate_hive.deny("ada", 1, principal)):
            refusal = await refused(late)
            assert (refusal.code, refusal.status) == ("stale_state", 409)
            assert "ada/1 is deployed" in refusal.message
    await gate_hive.check()


async def test_a_decision_about_another_commit(gate_hive: GateHive) -> None:
    """A decision that names a commit is about that one: the number may be another proposal's by now."""
    sha = (await gate_hive.built("ada", "first")).commit
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(purge=True), OPERATOR)
    await gate_hive.spawn("ada")
    now = (await gate_hive.built("ada", "second")).commit
    approve = gate_hive.gate.decisions.approve("ada", 1, ApproveRequest(expect="built", commit=sha), MANAGER)
    deny = gate_hive.gate.decisions.deny("ada", 1, DenyRequest(expect="built", commit=sha, note="no"), MANAGER)
    for decision in (approve, deny):
        refusal = await refused(decision)
        assert (refusal.code, refusal.status) == ("other_commit", 409)
        assert sha in refusal.message and now in refusal.message
    await gate_hive.gate.decisions.approve("ada", 1, ApproveRequest(expect="built", commit=now), MANAGER)
    await gate_hive.until("ada", 1, "deployed")
    await gate_hive.check()


async def test_decisions_at_the_same_moment(gate_hive: GateHive) -> None:
    """Of two that decide at once one is heard, the other is told that it comes too late."""
    await gate_hive.built("ada")
    deny = gate_hive.gate.decisions.deny("ada", 1, DenyRequest(expect="built", note="no"), OPERATOR)
    answers = await asyncio.gather(gate_hive.approve("ada", 1), deny, return_exceptions=True)
    codes = sorted(answer.code if isinstance(answer, HiveError) else "" for answer in answers)
    assert codes == ["", "stale_state"]
    await gate_hive.settled()
    await gate_hive.check()


async def test_one_deployment_at_a_time(gate_hive: GateHive) -> None:
    """While one is carried out, another of the same agent is refused, a rollback too; other agents go on."""
    await gate_hive.deploy("ada", "first")
    await gate_hive.built("ada", "second")
    await gate_hive.built("ada", "third")
    await gate_hive.built("bob", "beside")
    gate_hive.runtime.held.clear()
    await gate_hive.approve("ada", 2)
    assert (await refused(gate_hive.approve("ada", 3))).code == "deployment_under_way"
    back = gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="back"), MANAGER)
    assert (await refused(back)).code == "deployment_under_way"
    await gate_hive.approve("bob", 1)
    async with asyncio.timeout(PATIENCE):
        while ("bob", 1) not in gate_hive.runtime.activated or ("ada", 2) not in gate_hive.runtime.activated:
            await gate_hive.runtime.began.get()
    gate_hive.runtime.held.set()
    await gate_hive.until("ada", 2, "deployed")
    await gate_hive.until("bob", 1, "deployed")
    await gate_hive.check()


async def test_what_is_refused_at_the_door(gate_hive: GateHive) -> None:
    """Another's configuration, what is deployed already, the same twice, a commit that is not there."""
    sha = (await gate_hive.built("ada")).commit
    request = ProposeRequest(commit=sha, note="again")
    assert (await refused(gate_hive.gate.config_submissions.propose(request, ADA))).code == "already_proposed"
    other = request.model_copy(update={"agent": "bob"})
    assert (await refused(gate_hive.gate.config_submissions.propose(other, ADA))).code == "not_yours"
    assert (await refused(gate_hive.gate.config_submissions.propose(request, OPERATOR))).code == "invalid_request"
    missing = ProposeRequest(commit="0" * 39 + "1", note="no such")
    assert (await refused(gate_hive.gate.config_submissions.propose(missing, ADA))).code == "no_such_commit"
    await gate_hive.approve("ada", 1)
    await gate_hive.until("ada", 1, "deployed")
    assert (await refused(gate_hive.gate.config_submissions.propose(request, ADA))).code == "nothing_changed"
    sha = gate_hive.commit("bob", {"prompt.md": "unrelated\n"})
    for role in ("SILENT", "You bake."):
        await gate_hive.built("bob", role)
    await gate_hive.approve("bob", 2)
    await gate_hive.until("bob", 2, "deployed")
    assert (
        await refused(gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="old base"), BOB))
    ).code == "not_rebased"
    await gate_hive.check()


async def test_who_sees_what(gate_hive: GateHive) -> None:
    """An agent sees the proposals about itself only; another's is to it as one that does not exist."""
    await gate_hive.built("ada")
    assert (await refused(gate_hive.gate.queries.show("ada", 1, BOB))).code == "unknown_proposal"
    assert (await refused(gate_hive.gate.queries.build_log("ada", 1, LogsQuery(), BOB))).code == "unknown_proposal"
    query = FileDiffQuery(context=0)
    assert (await refused(gate_hive.gate.queries.file_diff("ada", 1, 0, query, BOB))).code == "unknown_proposal"
    assert (await refused(gate_hive.gate.queries.file_diff("ada", 1, 1, query, OPERATOR))).code == "unknown_file"
    file = await gate_hive.gate.queries.file_diff("ada", 1, 0, query, OPERATOR)
    assert (file.path, file.commit) == ("prompt.md", (await gate_hive.show("ada", 1)).commit)
    assert "+You help.\n" in file.diff and file.diff_bytes == len(file.diff)
    assert (await gate_hive.gate.queries.proposals(ProposalsQuery(state="all"), BOB)).total == 1
    found = await gate_hive.gate.queries.proposals(ProposalsQuery(), MANAGER)
    assert [(each.agent, each.number) for each in found.proposals] == [("ada", 1)]


async def test_agents_side_by_side(gate_hive: GateHive) -> None:
    """Two agents' proposals are built and deployed at the same time, each with numbers of its own."""
    gate_hive.runtime.may_build.clear()
    await asyncio.gather(gate_hive.propose("ada", "one"), gate_hive.propose("bob", "other"))
    assert {(await begun(gate_hive)).name, (await begun(gate_hive)).name} == {"ada", "bob"}
    gate_hive.runtime.may_build.set()
    for name in ("ada", "bob"):
        await gate_hive.until(name, 1, "built")
    await asyncio.gather(gate_hive.approve("ada", 1), gate_hive.approve("bob", 1))
    for name in ("ada", "bob"):
        await gate_hive.until(name, 1, "deployed")
    await gate_hive.check()


async def test_several_proposals_at_once(gate_hive: GateHive) -> None:
    """Proposals made at the same moment get numbers of their own, and too many of them are refused."""
    shas = [gate_hive.commit("ada", {"prompt.md": f"{number}\n"}, on=gate_hive.main("ada")) for number in range(3)]
    made = await asyncio.gather(
        *(gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="one of"), ADA) for sha in shas)
    )
    assert sorted(each.number for each in made) == [1, 2, 3]
    await gate_hive.settled()
    await gate_hive.check()
