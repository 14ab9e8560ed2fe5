"""Fetches that a build needs: named by the failed proposal, allowed by the operator, exactly these."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hive_core.gate.policy import MAIN_MOVED
from hive_core.layout import Layout
from hive_core.protocol import (
    AllowFetchesRequest,
    ApproveRequest,
    DestroyRequest,
    HistoryQuery,
    ProposalDetail,
    ProposeRequest,
    RollbackRequest,
    SpawnProposal,
    SpawnRequest,
)
from hive_core.runtimes.base import BuildOrder, FetchesMissing
from hive_core.settings import Approval
from tests.helpers.fake_fetches import fake_fetch
from tests.unit.core.gate.gate_hive import ADA, BOB, MANAGER, NOT_BUILDABLE, OPERATOR, GateHive, opened, quick
from tests.unit.core.gate.queries import begun, refused

URL, OTHER = "https://a.example/x", "https://b.example/y /nix/store/ccc-bash/bin/bash"
BY_NIX, BY_PROGRAM = fake_fetch(URL), fake_fetch(*OTHER.split())


def allowed(proposal: ProposalDetail) -> set[str]:
    assert proposal.allowed_fetches is not None
    return {fetch.derivation for fetch in proposal.allowed_fetches.fetches}


async def test_failure_names_the_fetches(gate_hive: GateHive) -> None:
    """The failed proposal has each fetch with its URLs, hash, derivation and program, in its reason and as data."""
    failed = await gate_hive.fail_for("ada", URL, OTHER)
    assert [fetch.model_dump() for fetch in failed.missing_fetches] == [
        {"name": "source", "urls": [URL], "hash": BY_NIX.hash, "derivation": BY_NIX.derivation,
         "program": "builtin:fetchurl", "by_nix": True},
        {"name": "source", "urls": ["https://b.example/y"], "hash": BY_PROGRAM.hash,
         "derivation": BY_PROGRAM.derivation, "program": "/nix/store/ccc-bash/bin/bash", "by_nix": False},
    ]  # fmt: skip
    assert failed.allowed_fetches is None
    for part in (URL, BY_NIX.hash, BY_NIX.derivation, "https://b.example/y", BY_PROGRAM.derivation, "any host"):
        assert part in failed.outcome
    assert failed.outcome.startswith("the build needs 2 fetches from the network that no operator has allowed:\n")
    (text,) = [text for text in await gate_hive.messages("ada") if text.startswith("Proposal ada/1 failed.\n")]
    assert f"\nThe reason:\n> {failed.outcome.splitlines()[0]}\n" in text
    await gate_hive.check()


async def test_allowed_and_deployed(gate_hive: GateHive) -> None:
    """The same commit is proposed again with proposer and note, built with exactly these, decided on, and deployed."""
    failed = await gate_hive.fail_for("ada", URL, OTHER)
    assert (await begun(gate_hive)).allowed_fetches == frozenset()
    made = await gate_hive.allow_fetches("ada", 1)
    assert (made.number, made.state, made.kind, made.by) == (2, "proposal", "config", "ada")
    assert (made.commit, made.note, made.base) == (failed.commit, failed.note, failed.base)
    assert made.expires_at is not None
    assert (await begun(gate_hive)).allowed_fetches == {BY_NIX.derivation, BY_PROGRAM.derivation}
    built = await gate_hive.until("ada", 2, "built")
    assert built.waits_for == "manager"
    assert built.allowed_fetches is not None
    assert (built.allowed_fetches.by, built.allowed_fetches.failed) == ("operator:alice", 1)
    await gate_hive.approve("ada", 2)
    deployed = await gate_hive.until("ada", 2, "deployed")
    assert allowed(deployed) == {BY_NIX.derivation, BY_PROGRAM.derivation}
    assert (await gate_hive.show("ada", 1)).missing_fetches == failed.missing_fetches
    await gate_hive.check()


async def test_everybody_hears(gate_hive: GateHive) -> None:
    """The proposer hears that the fetches are allowed, the decider which; the audit table who allowed what."""
    await gate_hive.fail_for("ada", URL)
    await gate_hive.allow_fetches("ada", 1)
    await gate_hive.until("ada", 2, "built")
    assert "Proposal ada/2 is ada/1 once more, with its fetches allowed." in await gate_hive.notified("ada")
    query = """SELECT body FROM messages JOIN deliveries ON message = id
        WHERE deliveries.recipient = 'hm1nd' ORDER BY id DESC LIMIT 1"""
    (review,) = await gate_hive.database.read(lambda db: db.execute(query).fetchone())
    assert review.startswith("Review proposal ada/2")
    assert "operator:alice allowed these fetches from the network for the build, and no others, after ada/1" in review
    assert f"> Nix itself fetches: derivation {BY_NIX.derivation}, hash {BY_NIX.hash}, URLs {URL}" in review
    query = "SELECT actor, detail FROM audit WHERE action = 'allow_fetches' AND subject = 'ada'"
    ((actor, detail),) = await gate_hive.database.read(lambda db: db.execute(query).fetchall())
    assert actor == "operator:alice"
    assert json.loads(detail) == {
        "failed": 1, "number": 2, "commit": (await gate_hive.show("ada", 1)).commit, "derivations": [BY_NIX.derivation],
    }  # fmt: skip
    await gate_hive.check()


async def test_second_decider_sees_them(layout: Layout) -> None:
    """With two deciders the second one is told of the fetches, too."""
    async with opened(layout, quick(layout, Approval(config="both"))) as gate_hive:
        await gate_hive.fail_for("ada", URL)
        await gate_hive.allow_fetches("ada", 1)
        await gate_hive.until("ada", 2, "built")
        await gate_hive.approve("ada", 2)
        assert any(BY_NIX.derivation in body for body in await gate_hive.inbox() if "hm1nd has approved it" in body)
        await gate_hive.approve("ada", 2, OPERATOR)
        await gate_hive.until("ada", 2, "deployed")
        await gate_hive.check()


async def test_exactly_these(gate_hive: GateHive) -> None:
    """Another URL of the next commit is another derivation, which needs a permission of its own."""
    await gate_hive.fail_for("ada", URL)
    await gate_hive.allow_fetches("ada", 1)
    await gate_hive.until("ada", 2, "built")
    failed = await gate_hive.fail_for("ada", "https://a.example/X")
    assert [fetch.urls for fetch in failed.missing_fetches] == [["https://a.example/X"]]
    # Nor does the permission count for another commit that needs the same.
    assert (await gate_hive.fail_for("ada", URL, "https://c.example/z")).allowed_fetches is None
    await gate_hive.check()


async def test_only_the_operator(gate_hive: GateHive) -> None:
    """Neither the agent nor the manager may allow fetches, whatever they know of the proposal."""
    await gate_hive.fail_for("ada", URL)
    for principal in (ADA, BOB, MANAGER):
        assert (await refused(gate_hive.allow_fetches("ada", 1, principal))).code == "not_decider"
    assert len(await gate_hive.rows("ada")) == 2
    assert "allow_fetches" not in await gate_hive.actions("ada")


async def test_what_names_no_fetches(gate_hive: GateHive) -> None:
    """There is nothing to allow of a proposal that there is not, that is open, or that failed for another reason."""
    await gate_hive.built("ada", "You sing.")
    sha = gate_hive.commit("ada", NOT_BUILDABLE, on=gate_hive.main("ada"))
    await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="oops"), ADA)
    await gate_hive.until("ada", 2, "failed")
    for number in (1, 2):
        assert (await refused(gate_hive.allow_fetches("ada", number))).code == "no_missing_fetches"
    request = AllowFetchesRequest(commit=sha)
    unknown = gate_hive.gate.fetch_permissions.allow("ada", 9, request, OPERATOR)
    assert (await refused(unknown)).code == "unknown_proposal"


async def test_another_commit(gate_hive: GateHive) -> None:
    """A permission about another commit is refused: after a purge the numbers begin again."""
    await gate_hive.fail_for("ada", URL)
    request = AllowFetchesRequest(commit="d" * 40)
    assert (await refused(gate_hive.gate.fetch_permissions.allow("ada", 1, request, OPERATOR))).code == "other_commit"


async def test_only_once_at_a_time(gate_hive: GateHive) -> None:
    """While the new proposal is open, the permission is not given again."""
    await gate_hive.fail_for("ada", URL)
    await gate_hive.allow_fetches("ada", 1)
    await gate_hive.until("ada", 2, "built")
    error = await refused(gate_hive.allow_fetches("ada", 1))
    assert (error.code, "ada/2" in error.message) == ("already_proposed", True)


async def test_main_has_moved(gate_hive: GateHive) -> None:
    """A proposal on top of an older deployment is not built again; deployed meanwhile, it is withdrawn."""
    await gate_hive.fail_for("ada", URL)
    await gate_hive.built("ada", "You sing.")
    gate_hive.runtime.may_build.clear()
    await gate_hive.allow_fetches("ada", 1)
    await gate_hive.approve("ada", 2)
    await gate_hive.until("ada", 2, "deployed")
    gate_hive.runtime.may_build.set()
    assert (await gate_hive.until("ada", 3, "withdrawn")).outcome == MAIN_MOVED
    assert (await refused(gate_hive.allow_fetches("ada", 1))).code == "not_rebased"
    await gate_hive.check()


async def test_agent_is_gone(gate_hive: GateHive) -> None:
    """Nothing is built for an agent that was destroyed."""
    await gate_hive.fail_for("ada", URL)
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)
    assert (await refused(gate_hive.allow_fetches("ada", 1))).code == "unknown_agent"


async def test_permissions_add_up(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the build then needs more, the next permission has both, so that no two of them take turns in missing."""
    # As if the second fetch were known only when the first has been made.
    build, second = gate_hive.runtime.build, fake_fetch("https://c.example/z")

    async def in_steps(order: BuildOrder, say: Callable[[str], None]) -> str:
        for fetch in (BY_NIX, second):
            if fetch.derivation not in order.allowed_fetches:
                raise FetchesMissing((fetch,))
        return await build(order, say)

    monkeypatch.setattr(gate_hive.runtime, "build", in_steps)
    await gate_hive.fail_for("ada", URL, "https://c.example/z")
    await gate_hive.allow_fetches("ada", 1)
    failed = await gate_hive.until("ada", 2, "failed")
    assert ([fetch.derivation for fetch in failed.missing_fetches], allowed(failed)) == (
        [second.derivation], {BY_NIX.derivation},
    )  # fmt: skip
    await gate_hive.allow_fetches("ada", 2)
    assert allowed(await gate_hive.until("ada", 3, "built")) == {BY_NIX.derivation, second.derivation}
    await gate_hive.check()


async def test_rebuild_has_the_permission(gate_hive: GateHive) -> None:
    """A permission for a commit holds for its rebuilds, also after a rollback, and is audited once."""
    await gate_hive.fail_for("ada", URL)
    await gate_hive.allow_fetches("ada", 1)
    await gate_hive.until("ada", 2, "built")
    await gate_hive.approve("ada", 2)
    await gate_hive.until("ada", 2, "deployed")
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.rebuild("ada")
    assert allowed(await gate_hive.until("ada", 3, "deployed")) == {BY_NIX.derivation}
    await gate_hive.deploy("ada", "You sing.")
    await gate_hive.gate.decisions.rollback("ada", RollbackRequest(number=2, note="back"), MANAGER)
    await gate_hive.until("ada", 5, "deployed")
    await gate_hive.rebuild("ada")
    assert allowed(await gate_hive.until("ada", 6, "deployed")) == {BY_NIX.derivation}
    assert (await gate_hive.actions("ada")).count("allow_fetches") == 1
    await gate_hive.check()


async def test_rebuild_that_needs_fetches(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild that failed for fetches is made again with the permission, and needs no decision."""
    assert gate_hive.runtime.builder is not None
    # The store has the source at first, and not any more when it is built anew.
    with monkeypatch.context() as stored:
        stored.setattr(gate_hive.runtime, "build", gate_hive.runtime.builder.build)
        await gate_hive.deploy("ada", f"FETCHES {URL}")
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.rebuild("ada", MANAGER)
    await gate_hive.until("ada", 2, "failed")
    made = await gate_hive.allow_fetches("ada", 2)
    assert (made.kind, made.by) == ("rebuild", "hm1nd")
    assert (await gate_hive.until("ada", 3, "deployed")).approvals == ["hm1nd", "as deployed/1"]
    assert "Proposal ada/3 is ada/2 once more, with its fetches allowed." in await gate_hive.notified("hm1nd")
    error = await refused(gate_hive.allow_fetches("ada", 2))
    assert (error.code, error.hint) == ("not_rebased", "rebuild what is deployed now: hive-c0re rebuild ada")
    assert (await gate_hive.gate.verification.verify()).ok


async def test_spawn_of_the_operator(gate_hive: GateHive) -> None:
    """A spawn that failed for fetches says how to allow them, and is then carried out as it was asked for."""
    request = SpawnRequest(name="cy", prompt=f"FETCHES {URL}", start=False)
    error = await refused(gate_hive.gate.agent_submissions.spawn(request, OPERATOR))
    assert error.code == "build_failed"
    assert error.message == "the build needs 1 fetch from the network that no operator has allowed"
    assert error.hint.endswith("hive-c0re proposals allow-fetches cy 0")
    await gate_hive.allow_fetches("cy", 0)
    deployed = await gate_hive.until("cy", 1, "deployed")
    assert (deployed.kind, deployed.by, deployed.approvals) == ("spawn", "operator:alice", ["operator:alice"])
    assert gate_hive.hive.agents.record("cy").desired == "stopped"
    assert (await refused(gate_hive.allow_fetches("cy", 0))).code == "agent_exists"
    await gate_hive.check()


async def test_spawn_of_the_manager(gate_hive: GateHive) -> None:
    """A new agent that the manager asked for still waits for the operator's decision."""
    request = SpawnProposal(name="cy", note="more hands", prompt=f"FETCHES {URL}")
    await gate_hive.gate.agent_submissions.request_spawn(request, MANAGER)
    await gate_hive.until("cy", 0, "failed")
    await gate_hive.allow_fetches("cy", 0)
    assert (await gate_hive.until("cy", 1, "built")).waits_for == "operator"
    decision = ApproveRequest(expect="built")
    await gate_hive.gate.decisions.approve("cy", 1, decision, OPERATOR)
    await gate_hive.until("cy", 1, "deployed")
    history = await gate_hive.gate.queries.history("cy", HistoryQuery())
    assert [each.by for each in history.deployments] == ["hm1nd"]
    await gate_hive.check()


async def test_permission_outlives_the_index(layout: Layout) -> None:
    """The tags hold the permission: a daemon with an empty index builds on with exactly the same fetches."""
    async with opened(layout) as gate_hive:
        await gate_hive.fail_for("ada", URL)
        gate_hive.runtime.may_build.clear()
        while not gate_hive.runtime.orders.empty():
            gate_hive.runtime.orders.get_nowait()
        await gate_hive.allow_fetches("ada", 1)
        await begun(gate_hive)
        before = await gate_hive.show("ada", 2)
        assert before.state == "building"
        await gate_hive.database.write(lambda db: db.execute("DELETE FROM proposals"))
    async with opened(layout) as gate_hive:
        assert (await begun(gate_hive)).allowed_fetches == {BY_NIX.derivation}
        built = await gate_hive.until("ada", 2, "built")
        assert built.allowed_fetches == before.allowed_fetches
        assert (await gate_hive.gate.maintenance.reindex()).changed == 0
        await gate_hive.check()
