"""Pruning: the files of ended proposals go, what was decided stays, and nothing goes that is needed."""

from __future__ import annotations

import asyncio
import os

import pytest

from hive_core.errors import HiveError
from hive_core.gate.pipeline import submit
from hive_core.gate.records import transitions
from hive_core.gate.subject import pruning
from hive_core.layout import Layout
from hive_core.protocol import ProposeRequest, PruneAnswer, PrunedAgent, PruneRequest, RollbackRequest
from tests.unit.core.gate.gate_hive import ADA, OPERATOR, GateHive, git, opened, quick
from tests.unit.core.gate.queries import refused

MIB = 1024 * 1024


async def prune(gate_hive: GateHive, *, days: float = 0.0, dry_run: bool = False, agent: str = "ada") -> PrunedAgent:
    request = PruneRequest(agent=agent, older_than_days=days, dry_run=dry_run)
    answer: PruneAnswer = await gate_hive.gate.pruning.prune(request, OPERATOR)
    (one,) = answer.agents
    return one


async def denied(gate_hive: GateHive, size: int = MIB) -> tuple[int, str]:
    """Let the manager deny a proposal with a file that cannot be packed. Returns its number and commit."""
    commit = gate_hive.commit("ada", {"data.txt": os.urandom(size // 2).hex()}, on=gate_hive.main("ada"))
    request = ProposeRequest(commit=commit, note="all of this, please")
    number = (await gate_hive.gate.config_submissions.propose(request, ADA)).number
    await gate_hive.until("ada", number, "built")
    await gate_hive.deny("ada", number, note="that is far too much")
    return number, commit


def has(gate_hive: GateHive, commit: str) -> bool:
    return bool(git(gate_hive.layout.applied_repository("ada"), "rev-list", "--ignore-missing", "-1", commit))


async def test_files_go_and_decisions_stay(gate_hive: GateHive) -> None:
    """A denied proposal keeps its tags, texts, parties and rows, and its files make room for others."""
    number, commit = await denied(gate_hive)
    before, rows = await gate_hive.show("ada", number), await gate_hive.rows("ada")
    used = gate_hive.repository("ada").packed_bytes()
    tags = {tag.name: tag for tag in gate_hive.repository("ada").read_tags()}
    would = await prune(gate_hive, dry_run=True)
    assert (would.proposals, would.used_bytes) == ([number], used)
    assert would.freed_bytes > MIB // 3 and has(gate_hive, commit)
    done = await prune(gate_hive)
    assert done.proposals == [number] and done.freed_bytes > MIB // 3
    assert done.used_bytes == gate_hive.repository("ada").packed_bytes() == used - done.freed_bytes
    assert not has(gate_hive, commit)
    after = await gate_hive.show("ada", number)
    assert await gate_hive.rows("ada") == rows and after.pruned and not before.pruned
    assert (after.commit, after.note, after.outcome, after.by) == (commit, before.note, before.outcome, before.by)
    assert (after.files, after.diff) == ([], "")
    for tag in gate_hive.repository("ada").read_tags():
        assert (tag.tagger, tag.when) == (tags[tag.name].tagger, tags[tag.name].when)
        if tag.name.endswith(f"/{number}"):
            assert f"\nPruned: {commit}\n" in tag.message
        else:
            assert tag == tags[tag.name]
    assert (await gate_hive.gate.maintenance.reindex()).changed == 0
    git(gate_hive.layout.applied_repository("ada"), "fsck", "--strict")
    await gate_hive.check()
    assert (await gate_hive.actions("ada"))[-1] == "prune"
    # The same again finds nothing, and the commit can be proposed again.
    assert (await prune(gate_hive)).proposals == []
    again = await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=commit, note="smaller"), ADA)
    assert (await gate_hive.until("ada", again.number, "built")).files


async def test_nothing_goes_that_is_needed(gate_hive: GateHive) -> None:
    """Deployments, open proposals, what they build on, and what ended lately stay as they are."""
    await gate_hive.deploy("ada", "You bake.")
    await gate_hive.deploy("ada", "You sing.")
    number, commit = await denied(gate_hive)
    waiting = await gate_hive.built("ada", "You help.")
    assert (await prune(gate_hive, days=1)).proposals == []
    assert has(gate_hive, commit)
    assert (await prune(gate_hive)).proposals == [number]
    await gate_hive.check()
    assert (await gate_hive.show("ada", waiting.number)).files
    rolled_back = await gate_hive.gate.decisions.rollback("ada", RollbackRequest(number=1, note="back"), OPERATOR)
    await gate_hive.until("ada", rolled_back.number, "deployed")
    assert (await gate_hive.show("ada", 1)).files
    await gate_hive.check()


async def test_a_mark_that_was_packed_blocks_nothing(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment between a pruning that could not be audited and its end may pack the refs; the next prunes on."""
    await denied(gate_hive)

    def pack(step: str) -> None:
        if step == "tags replaced":
            git(gate_hive.layout.applied_repository("ada"), "pack-refs", "--all", "--prune")

    with monkeypatch.context() as patch:
        patch.setattr(transitions, "crash_point", pack)
        await prune(gate_hive)
    number, commit = await denied(gate_hive)
    assert (await prune(gate_hive)).proposals == [number]
    assert not has(gate_hive, commit)


async def test_a_commit_that_is_just_taken_in_stays(gate_hive: GateHive) -> None:
    """Between its import and its tag a commit is not removed."""
    await denied(gate_hive)
    commit = gate_hive.commit("ada", {"prompt.md": "You wait.\n"}, on=gate_hive.main("ada"))
    async with gate_hive.gate._context.locks["ada"]:
        proposing = asyncio.create_task(
            gate_hive.gate.config_submissions.propose(ProposeRequest(commit=commit, note="wait"), ADA)
        )
        async with asyncio.timeout(30):
            while not has(gate_hive, commit):
                await asyncio.sleep(0.01)
        removing = asyncio.create_task(prune(gate_hive))
        await asyncio.sleep(0)
    proposed, removed = await asyncio.gather(proposing, removing)
    assert removed.proposals == [1]
    assert (await gate_hive.until("ada", proposed.number, "built")).commit == commit
    assert (await prune(gate_hive)).proposals == []
    await gate_hive.check()


async def test_room_is_made_when_it_is_needed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal that has no space lets those go that ended long ago; without any it is refused, with the command."""
    async with opened(layout, quick(layout, proposal_space=MIB)) as gate_hive:
        while gate_hive.repository("ada").packed_bytes() < MIB:
            await denied(gate_hive)
        error = await refused(denied(gate_hive))
        assert (error.code, error.status) == ("proposal_space_full", 429)
        assert "hive-c0re proposals prune ada" in error.hint
        # They ended a moment ago. A hostile agent does not have the hive look again and again.
        monkeypatch.setattr(submit, "_PRUNED_DAYS", 0.0)
        assert (await refused(denied(gate_hive))).code == "proposal_space_full"
        monkeypatch.setattr(pruning, "_PAUSE_SECONDS", 0.0)
        gate_hive.gate.pruning._not_before.clear()
        await denied(gate_hive)
        assert {row.state.value for row in await gate_hive.rows("ada")} == {"deployed", "denied"}
        assert "prune" in await gate_hive.actions("ada")
        await gate_hive.check()


async def test_fetches_of_pruned_proposals_are_not_allowed(gate_hive: GateHive) -> None:
    """A proposal without files is not built again: the commit has to be proposed anew."""
    failed = await gate_hive.fail_for("ada", "https://a.example/x")
    await prune(gate_hive)
    error = await refused(gate_hive.allow_fetches("ada", failed.number))
    assert (error.code, error.status) == ("no_missing_fetches", 409)
    assert error.hint.startswith("propose the commit again")


async def test_who_can_be_pruned(gate_hive: GateHive) -> None:
    """All agents with a repository, destroyed ones too; a name that no agent has is refused."""
    await denied(gate_hive)
    answer = await gate_hive.gate.pruning.prune(PruneRequest(older_than_days=0), OPERATOR)
    assert [one.agent for one in answer.agents] == ["ada", "bob", "hm1nd"]
    assert [one.proposals for one in answer.agents] == [[1], [], []]
    with pytest.raises(HiveError) as unknown:
        await prune(gate_hive, agent="nobody")
    assert unknown.value.code == "unknown_agent"
