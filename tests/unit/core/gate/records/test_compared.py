"""Proposals that an older hive has built, and never compared with their commits."""

from __future__ import annotations

from unittest.mock import patch

from structlog.testing import capture_logs

from hive_core.gate.pipeline.deploy import DeployStep
from hive_core.gate.records.compared import NOT_COMPARED
from hive_core.gate.records.tag_message import parse_message
from hive_core.layout import Layout
from hive_core.protocol import DestroyProposal, RollbackRequest, SpawnProposal
from hive_core.settings import Approval
from tests.unit.core.gate.faults.crash_points import SimulatedCrash
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, GateHive, opened, quick
from tests.unit.core.gate.hive_template import Template
from tests.unit.core.gate.queries import older_hive, prompt, refused


def tree_in_tag(gate_hive: GateHive, agent: str, number: int) -> str | None:
    """Return the tree that `built/N` names."""
    (tag,) = gate_hive.repository(agent).read_tags([f"built/{number}"])
    return parse_message(tag.message).tree


async def test_a_build_names_the_tree_that_it_was_compared_with(gate_hive: GateHive) -> None:
    """The tag has the tree of the commit, for a configuration, a spawn and a rebuild."""
    deployed = await gate_hive.deploy("ada")
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.until("ada", (await gate_hive.rebuild("ada")).number, "deployed")
    tree = gate_hive.repository("ada").tree(deployed.commit)
    spawned = (await gate_hive.show("ada", 0)).commit
    assert [tree_in_tag(gate_hive, "ada", number) for number in range(3)] == [
        gate_hive.repository("ada").tree(spawned),
        tree,
        tree,
    ]


async def test_what_an_older_hive_has_built_is_withdrawn(layout: Layout) -> None:
    """The next hive withdraws it and tells the proposer and the decider why; the same commit proposed again passes."""
    with older_hive():
        async with opened(layout) as gate_hive:
            assert (await gate_hive.built("ada", "You sing.")).number == 1
    async with opened(layout) as gate_hive:
        ended = await gate_hive.until("ada", 1, "withdrawn")
        assert ended.outcome == NOT_COMPARED
        for name in ("ada", "hm1nd"):
            told = [text for text in await gate_hive.messages(name) if text.startswith("Proposal ada/1 was withdrawn")]
            assert len(told) == 1 and NOT_COMPARED in told[0]
        await gate_hive.check()
        await gate_hive.deploy("ada", "You sing.")
        await gate_hive.check()
    async with opened(layout) as gate_hive:
        assert (await gate_hive.show("ada", 2)).state == "deployed"


async def test_what_an_older_hive_has_built_is_not_approved(gate_hive: GateHive) -> None:
    """Should it still be open, its approval is refused with the reason, and it can be denied and withdrawn."""
    with older_hive():
        await gate_hive.built("ada", "first")
        await gate_hive.built("ada", "second")
    for principal in (MANAGER, OPERATOR):
        refusal = await refused(gate_hive.approve("ada", 1, principal))
        assert (refusal.code, refusal.status) == ("not_built", 409)
        assert "older hive" in refusal.message and "propose it again" in refusal.hint
    assert (await gate_hive.show("ada", 1)).state == "built"
    assert (await gate_hive.deny("ada", 1)).state == "denied"
    assert (await gate_hive.withdraw("ada", 2, ADA)).state == "withdrawn"
    await gate_hive.check()


async def test_the_first_of_two_approvals_does_not_help(layout: Layout) -> None:
    """A proposal that the manager has endorsed in an older hive is withdrawn, too."""
    settings = quick(layout, Approval(config="both"))
    async with opened(layout, settings) as gate_hive:
        with older_hive():
            await gate_hive.built("ada")
        with patch("hive_core.gate.pipeline.decide.compared.was_compared", lambda *_: True):
            await gate_hive.approve("ada", 1)
        assert "endorsed/1" in gate_hive.tags("ada")
    async with opened(layout, settings) as gate_hive:
        assert (await gate_hive.until("ada", 1, "withdrawn")).outcome == NOT_COMPARED
        await gate_hive.check()


async def test_what_an_older_hive_has_approved_is_not_deployed(layout: Layout) -> None:
    """An approval that no deployment followed ends as failed, and the agent runs on what it did."""
    async with opened(layout) as gate_hive:
        await gate_hive.deploy("ada", "before")
        with (
            older_hive(),
            patch("hive_core.gate.pipeline.decide.compared.was_compared", lambda *_: True),
            patch.object(DeployStep, "start", lambda *_: None),
        ):
            await gate_hive.built("ada", "after")
            await gate_hive.approve("ada", 2)
    async with opened(layout) as gate_hive:
        assert (await gate_hive.until("ada", 2, "failed")).outcome == NOT_COMPARED
        assert prompt(gate_hive, "ada") == "before\n"
        assert any(text.startswith("Proposal ada/2 failed") for text in await gate_hive.messages("ada"))
        await gate_hive.check()


async def test_only_what_is_built_needs_the_proof(layout: Layout) -> None:
    """A spawn is withdrawn; the end of an agent waits on, what is deployed runs on, and can be gone back to."""
    with older_hive():
        async with opened(layout) as gate_hive:
            await gate_hive.gate.agent_submissions.request_spawn(SpawnProposal(name="cy", note="please"), MANAGER)
            await gate_hive.until("cy", 0, "built")
            await gate_hive.gate.agent_submissions.request_destroy("bob", DestroyProposal(note="idle"), MANAGER)
            with patch("hive_core.gate.pipeline.decide.compared.was_compared", lambda *_: True):
                await gate_hive.deploy("ada", "first")
                await gate_hive.deploy("ada", "second")
    async with opened(layout) as gate_hive:
        assert (await gate_hive.until("cy", 0, "withdrawn")).outcome == NOT_COMPARED
        assert prompt(gate_hive, "ada") == "second\n"
        await gate_hive.approve("bob", 1, OPERATOR)
        await gate_hive.until("bob", 1, "deployed")
        await gate_hive.gate.decisions.rollback("ada", RollbackRequest(number=1, note="back"), OPERATOR)
        await gate_hive.until("ada", 3, "deployed")
        assert prompt(gate_hive, "ada") == "first\n"
        await gate_hive.check()


async def recover(layout: Layout, at: int | None) -> SimulatedCrash:
    """Start a hive that dies at that crash point of its recovery."""
    death = SimulatedCrash(at)
    with capture_logs(), death.armed():
        async with opened(layout, born=death.born) as gate_hive:
            await death.during(gate_hive.gate.verification.verify())
            await gate_hive.gate.close()
    return death


async def test_a_death_while_it_is_withdrawn(template: Template) -> None:
    """Whichever step of the recovery was the last, it is withdrawn in the end, and everybody is told once."""

    async def prepare(gate_hive: GateHive) -> None:
        with older_hive():
            await gate_hive.built("ada", "first")
            await gate_hive.built("bob", "second")

    copied = await template.grown(prepare, quick(template.layout))
    whole = await recover(copied(), None)
    assert not whole.dead and whole.reached.count("tags planted") == 2
    for at in range(1, len(whole.reached) + 1):
        layout = copied()
        assert (await recover(layout, at)).dead
        async with opened(layout) as gate_hive:
            for agent in ("ada", "bob"):
                assert (await gate_hive.until(agent, 1, "withdrawn")).outcome == NOT_COMPARED
                told = [line for line in await gate_hive.notified(agent) if "withdrawn" in line]
                assert len(told) == 1, (at, told)
            await gate_hive.check()
