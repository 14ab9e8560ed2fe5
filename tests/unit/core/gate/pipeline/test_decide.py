"""Who decides, when, and what is refused; several proposals and agents side by side."""

from __future__ import annotations

import asyncio

from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    DestroyRequest,
    LogsQuery,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    RollbackRequest,
)
from hive_core.settings import Approval, AutoRule
from tests.unit.core.gate.gate_hive import ADA, BOB, MANAGER, OPERATOR, PATIENCE, Scene, opened, quick
from tests.unit.core.gate.queries import begun, refused

BOTH = Approval(config="both")
PROMPTS = Approval(rules=[AutoRule(name="prompts", when="prompt_only")])


async def test_both_in_order(layout: Layout) -> None:
    """Where two have to approve, the operator is asked when the manager has; the deployment comes after both."""
    async with opened(layout, quick(layout, BOTH)) as scene:
        await scene.built("ada")
        assert (await refused(scene.approve("ada", 1, OPERATOR))).code == "not_decider"
        endorsed = await scene.approve("ada", 1, note="good idea")
        assert (endorsed.state, endorsed.waits_for, endorsed.approvals) == ("built", "operator", ["hm1nd"])
        assert "endorsed/1" in scene.tags("ada")
        assert [text.partition("\n")[0] for text in await scene.inbox()] == [
            "Review proposal ada/1: approve or deny it (state built)."
        ]
        assert (await refused(scene.approve("ada", 1))).code == "not_decider"
        await scene.check()
        await scene.approve("ada", 1, OPERATOR)
        deployed = await scene.until("ada", 1, "deployed")
        assert deployed.approvals == ["hm1nd", "operator:alice"]
        await scene.check()


async def test_the_second_of_two_may_deny(layout: Layout) -> None:
    """An endorsed proposal is denied like any other."""
    async with opened(layout, quick(layout, BOTH)) as scene:
        await scene.built("ada")
        await scene.approve("ada", 1)
        assert (await scene.deny("ada", 1, OPERATOR)).state == "denied"
        await scene.check()


async def test_a_rule_approves(layout: Layout) -> None:
    """What a rule allows is deployed without anybody being asked, and says by which rule; what it does not, waits."""
    async with opened(layout, quick(layout, PROMPTS)) as scene:
        await scene.propose("ada", "You sing.")
        assert (await scene.until("ada", 1, "deployed")).approvals == ["rule: prompts"]
        assert await scene.told("hm1nd") == []
        sha = scene.commit("ada", {"notes.md": "more than the prompt\n"}, on=scene.main("ada"))
        await scene.gate.propose(ProposeRequest(commit=sha, note="notes"), ADA)
        assert (await scene.until("ada", 2, "built")).waits_for == "manager"
        await scene.check()


async def test_without_a_manager_the_operator_decides_and_proposes_alone(layout: Layout) -> None:
    """Nothing waits for a manager that is not there, nor for the operator's word on the operator's own."""
    async with opened(layout) as scene:
        await scene.gate.destroy("hm1nd", DestroyRequest(), OPERATOR)
        assert (await scene.built("ada")).waits_for == "operator"
        await scene.approve("ada", 1, OPERATOR)
        await scene.until("ada", 1, "deployed")
        await scene.propose("ada", "the operator's", OPERATOR)
        assert (await scene.until("ada", 2, "deployed")).approvals == ["operator:alice"]
        await scene.check()


async def test_who_may_not_decide(scene: Scene) -> None:
    """Nobody decides on their own, agents decide on nothing, and the manager's own waits for the operator."""
    await scene.built("ada")
    assert (await refused(scene.approve("ada", 1, ADA))).code == "own_proposal"
    assert (await refused(scene.approve("ada", 1, BOB))).code == "not_decider"
    assert (await refused(scene.deny("ada", 1, BOB))).code == "not_decider"
    assert (await scene.built("hm1nd", "You rule.", MANAGER)).waits_for == "operator"
    assert (await refused(scene.approve("hm1nd", 1))).code == "own_proposal"
    await scene.built("ada", "by the manager", MANAGER)
    assert (await refused(scene.approve("ada", 2))).code == "own_proposal"
    await scene.approve("hm1nd", 1, OPERATOR)
    await scene.until("hm1nd", 1, "deployed")
    await scene.check()


async def test_a_decision_is_taken_once(scene: Scene) -> None:
    """A second decision, or one about another state, is refused with the state that the proposal is in."""
    scene.runtime.may_build.clear()
    await scene.propose("ada")
    await begun(scene)
    assert "ada/1 is building" in (await refused(scene.approve("ada", 1))).message
    early = scene.gate.approve("ada", 1, ApproveRequest(expect="building"), MANAGER)
    assert (await refused(early)).code == "stale_state"
    scene.runtime.may_build.set()
    await scene.until("ada", 1, "built")
    await scene.approve("ada", 1)
    await scene.until("ada", 1, "deployed")
    for party in (MANAGER, OPERATOR):
        for late in (scene.approve("ada", 1, party), scene.deny("ada", 1, party)):
            refusal = await refused(late)
            assert (refusal.code, refusal.status) == ("stale_state", 409)
            assert "ada/1 is deployed" in refusal.message
    await scene.check()


async def test_a_decision_about_another_commit(scene: Scene) -> None:
    """A decision that names a commit is about that one: the number may be another proposal's by now."""
    sha = (await scene.built("ada", "first")).commit
    await scene.gate.destroy("ada", DestroyRequest(purge=True), OPERATOR)
    await scene.spawn("ada")
    now = (await scene.built("ada", "second")).commit
    approve = scene.gate.approve("ada", 1, ApproveRequest(expect="built", commit=sha), MANAGER)
    deny = scene.gate.deny("ada", 1, DenyRequest(expect="built", commit=sha, note="no"), MANAGER)
    for decision in (approve, deny):
        refusal = await refused(decision)
        assert (refusal.code, refusal.status) == ("other_commit", 409)
        assert sha in refusal.message and now in refusal.message
    await scene.gate.approve("ada", 1, ApproveRequest(expect="built", commit=now), MANAGER)
    await scene.until("ada", 1, "deployed")
    await scene.check()


async def test_decisions_at_the_same_moment(scene: Scene) -> None:
    """Of two that decide at once one is heard, the other is told that it comes too late."""
    await scene.built("ada")
    deny = scene.gate.deny("ada", 1, DenyRequest(expect="built", note="no"), OPERATOR)
    answers = await asyncio.gather(scene.approve("ada", 1), deny, return_exceptions=True)
    codes = sorted(answer.code if isinstance(answer, HiveError) else "" for answer in answers)
    assert codes == ["", "stale_state"]
    await scene.settled()
    await scene.check()


async def test_one_deployment_at_a_time(scene: Scene) -> None:
    """While one is carried out, another of the same agent is refused, a rollback too; other agents go on."""
    await scene.deploy("ada", "first")
    await scene.built("ada", "second")
    await scene.built("ada", "third")
    await scene.built("bob", "beside")
    scene.runtime.held.clear()
    await scene.approve("ada", 2)
    assert (await refused(scene.approve("ada", 3))).code == "deployment_under_way"
    back = scene.gate.rollback("ada", RollbackRequest(note="back"), MANAGER)
    assert (await refused(back)).code == "deployment_under_way"
    await scene.approve("bob", 1)
    async with asyncio.timeout(PATIENCE):
        while ("bob", 1) not in scene.runtime.activated or ("ada", 2) not in scene.runtime.activated:
            await scene.runtime.began.get()
    scene.runtime.held.set()
    await scene.until("ada", 2, "deployed")
    await scene.until("bob", 1, "deployed")
    await scene.check()


async def test_what_is_refused_at_the_door(scene: Scene) -> None:
    """Another's configuration, what is deployed already, the same twice, a commit that is not there."""
    sha = (await scene.built("ada")).commit
    request = ProposeRequest(commit=sha, note="again")
    assert (await refused(scene.gate.propose(request, ADA))).code == "already_proposed"
    other = request.model_copy(update={"agent": "bob"})
    assert (await refused(scene.gate.propose(other, ADA))).code == "not_yours"
    assert (await refused(scene.gate.propose(request, OPERATOR))).code == "invalid_request"
    missing = ProposeRequest(commit="0" * 39 + "1", note="no such")
    assert (await refused(scene.gate.propose(missing, ADA))).code == "no_such_commit"
    await scene.approve("ada", 1)
    await scene.until("ada", 1, "deployed")
    assert (await refused(scene.gate.propose(request, ADA))).code == "nothing_changed"
    sha = scene.commit("bob", {"prompt.md": "unrelated\n"})
    for role in ("SILENT", "You bake."):
        await scene.built("bob", role)
    await scene.approve("bob", 2)
    await scene.until("bob", 2, "deployed")
    assert (await refused(scene.gate.propose(ProposeRequest(commit=sha, note="old base"), BOB))).code == "not_rebased"
    await scene.check()


async def test_who_sees_what(scene: Scene) -> None:
    """An agent sees the proposals about itself only; another's is to it as one that does not exist."""
    await scene.built("ada")
    assert (await refused(scene.gate.show("ada", 1, ProposalQuery(), BOB))).code == "unknown_proposal"
    assert (await refused(scene.gate.build_log("ada", 1, LogsQuery(), BOB))).code == "unknown_proposal"
    assert (await scene.gate.proposals(ProposalsQuery(state="all"), BOB)).total == 1
    found = await scene.gate.proposals(ProposalsQuery(), MANAGER)
    assert [(each.agent, each.number) for each in found.proposals] == [("ada", 1)]


async def test_agents_side_by_side(scene: Scene) -> None:
    """Two agents' proposals are built and deployed at the same time, each with numbers of its own."""
    scene.runtime.may_build.clear()
    await asyncio.gather(scene.propose("ada", "one"), scene.propose("bob", "other"))
    assert {(await begun(scene)).name, (await begun(scene)).name} == {"ada", "bob"}
    scene.runtime.may_build.set()
    for name in ("ada", "bob"):
        await scene.until(name, 1, "built")
    await asyncio.gather(scene.approve("ada", 1), scene.approve("bob", 1))
    for name in ("ada", "bob"):
        await scene.until(name, 1, "deployed")
    await scene.check()


async def test_several_proposals_at_once(scene: Scene) -> None:
    """Proposals made at the same moment get numbers of their own, and too many of them are refused."""
    shas = [scene.commit("ada", {"prompt.md": f"{number}\n"}, on=scene.main("ada")) for number in range(3)]
    made = await asyncio.gather(*(scene.gate.propose(ProposeRequest(commit=sha, note="one of"), ADA) for sha in shas))
    assert sorted(each.number for each in made) == [1, 2, 3]
    await scene.settled()
    await scene.check()
