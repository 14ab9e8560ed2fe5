"""New agents and their end, by the operator at once and by the manager as proposals."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
from pathlib import Path

import pytest

from hive_core.agents import files
from hive_core.errors import HiveError
from hive_core.protocol import (
    DestroyProposal,
    DestroyRequest,
    ProposalQuery,
    SpawnProposal,
    SpawnRequest,
)
from hive_core.runtimes.base import BuildFailed
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, PATIENCE, GateHive, config
from tests.unit.core.gate.queries import begun, refused


async def test_spawned_by_the_operator(gate_hive: GateHive) -> None:
    """A new agent has all tags of an ordinary proposal, and a repository of its own that begins with its commit."""
    status = await gate_hive.gate.agent_submissions.spawn(
        SpawnRequest(name="cy", start=False, config=config(model="large")), OPERATOR
    )
    assert (status.deployment, status.lifecycle, status.model) == (0, "stopped", "large")
    states = ("proposal", "building", "built", "approved", "deployed")
    assert gate_hive.tags("cy") == {f"{state}/0" for state in states}
    again = gate_hive.gate.agent_submissions.spawn(SpawnRequest(name="cy"), OPERATOR)
    assert (await refused(again)).code == "agent_exists"
    await gate_hive.deploy("cy")
    await gate_hive.check()


def encoded(**files: bytes) -> dict[str, str]:
    return {path: base64.b64encode(data).decode() for path, data in files.items()}


async def test_spawned_with_more_files(gate_hive: GateHive) -> None:
    """All files of a spawn are in the commit and in the agent's repository, programs as programs."""
    files = encoded(**{"tools.nix": b"{ }\n", "go": b"#!/bin/sh\n", "a.png": b"\x89PNG\0"})
    request = SpawnRequest(
        name="cy", start=False, config=config(binary_files=["*.png"]), files=files, executables=["go"]
    )
    await gate_hive.gate.agent_submissions.spawn(request, OPERATOR)
    directory = gate_hive.hive.layout.agent("cy").config
    assert (directory / "tools.nix").read_text() == "{ }\n"
    assert (directory / "a.png").read_bytes() == b"\x89PNG\0"
    assert os.access(directory / "go", os.X_OK) and not os.access(directory / "tools.nix", os.X_OK)
    await gate_hive.check()


@pytest.mark.parametrize(
    ("files", "executables", "code"),
    [
        ({".git/config": b""}, [], "bad_tree"),
        ({"nix/.gitattributes": b""}, [], "bad_tree"),
        ({"../up": b""}, [], "bad_tree"),
        ({"/etc/x": b""}, [], "bad_tree"),
        ({"a": b"", "a/b": b""}, [], "bad_tree"),
        ({"a\u202eb": b""}, [], "bad_tree"),
        ({"a": b""}, ["b"], "bad_tree"),
        ({"data": b"\0"}, [], "bad_text"),
        ({"x.nix": b"\xef\xbb\xbf{ }"}, [], "bad_text"),
        ({"large": b"x" * 6_000_000}, [], "too_large"),
        ({str(number): b"" for number in range(1_001)}, [], "too_many_files"),
        ({"agent.nix": b"{ }"}, [], "invalid_request"),
    ],
)
async def test_files_of_a_spawn_that_no_commit_may_have(
    files: dict[str, bytes], executables: list[str], code: str, gate_hive: GateHive
) -> None:
    """They are refused as in a commit, and nothing of an agent is there."""
    request = SpawnRequest(name="cy", start=False, files=encoded(**files), executables=executables)
    assert (await refused(gate_hive.gate.agent_submissions.spawn(request, OPERATOR))).code == code
    assert not gate_hive.hive.agents.exists("cy")


async def test_a_spawn_that_cannot_be_built(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of an agent is there after it; the next attempt has the next number."""

    async def fake_build(*_: object) -> str:
        raise BuildFailed("error: syntax error, unexpected end of file")

    with monkeypatch.context() as patch:
        patch.setattr(gate_hive.runtime, "build", fake_build)
        assert (
            await refused(gate_hive.gate.agent_submissions.spawn(SpawnRequest(name="cy"), OPERATOR))
        ).code == "build_failed"
    assert not gate_hive.hive.agents.exists("cy") and gate_hive.main("cy") is None
    await gate_hive.check()
    await gate_hive.spawn("cy")
    assert gate_hive.hive.agents.record("cy").deployment == 1
    await gate_hive.check()


async def test_a_spawn_that_cannot_be_run(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that the runtime refuses is not there afterwards, and its proposal failed."""

    async def refuse(*_: object) -> None:
        raise HiveError("no_room", "there is no room")

    with monkeypatch.context() as patch:
        patch.setattr(gate_hive.runtime, "activate", refuse)
        assert (
            await refused(gate_hive.gate.agent_submissions.spawn(SpawnRequest(name="cy"), OPERATOR))
        ).code == "no_room"
    assert (await gate_hive.show("cy", 0)).state == "failed"
    assert not gate_hive.hive.agents.exists("cy")
    await gate_hive.check()
    await gate_hive.spawn("cy")
    await gate_hive.check()


async def test_the_manager_proposes_an_agent(gate_hive: GateHive) -> None:
    """It is built, the operator is asked and agrees, and it is there; a denied one is not."""
    request = SpawnProposal(name="cy", note="for the night")
    assert (await refused(gate_hive.gate.agent_submissions.request_spawn(request, ADA))).code == "not_yours"
    await gate_hive.gate.agent_submissions.request_spawn(request, MANAGER)
    assert (await refused(gate_hive.gate.agent_submissions.request_spawn(request, MANAGER))).code == "already_proposed"
    assert (await gate_hive.until("cy", 0, "built")).waits_for == "operator"
    assert (await gate_hive.notified("operator")) == ["Review proposal cy/0: approve or deny it (state built)."]
    assert (await refused(gate_hive.approve("cy", 0))).code == "own_proposal"
    await gate_hive.deny("cy", 0, OPERATOR)
    await gate_hive.check()
    assert not gate_hive.hive.agents.exists("cy")
    again = await gate_hive.gate.agent_submissions.request_spawn(request, MANAGER)
    await gate_hive.until("cy", again.number, "built")
    await gate_hive.approve("cy", 1, OPERATOR)
    await gate_hive.until("cy", 1, "deployed")
    assert (await gate_hive.notified("hm1nd"))[-1] == "Proposal cy/1 is deployed."
    assert gate_hive.hive.agents.status("cy").deployment == 1
    await gate_hive.check()


async def test_the_operator_is_faster_than_a_proposed_spawn(gate_hive: GateHive) -> None:
    """What the manager has proposed is withdrawn when the operator makes the agent first."""
    await gate_hive.gate.agent_submissions.request_spawn(SpawnProposal(name="cy", note="please"), MANAGER)
    await gate_hive.until("cy", 0, "built")
    await gate_hive.spawn("cy")
    assert (await gate_hive.show("cy", 0)).state == "withdrawn"
    await gate_hive.check()


async def test_the_manager_proposes_an_end(gate_hive: GateHive) -> None:
    """There is nothing to build; what is open of the agent ends with it, and main stays."""
    main = gate_hive.main("ada")
    await gate_hive.built("ada")
    asked = await gate_hive.gate.agent_submissions.request_destroy("ada", DestroyProposal(note="idle"), MANAGER)
    assert (asked.state, asked.waits_for, asked.number) == ("built", "operator", 2)
    again = gate_hive.gate.agent_submissions.request_destroy("ada", DestroyProposal(note="idle"), MANAGER)
    assert (await refused(again)).code == "already_proposed"
    await gate_hive.approve("ada", 2, OPERATOR)
    await gate_hive.until("ada", 2, "deployed")
    assert not gate_hive.hive.agents.exists("ada")
    assert (await gate_hive.show("ada", 1)).state == "withdrawn"
    assert gate_hive.main("ada") == main
    assert (await gate_hive.notified("hm1nd"))[-1] == "Proposal ada/2 is deployed."
    await gate_hive.check()


async def test_a_proposed_purge(gate_hive: GateHive) -> None:
    """Everything goes, the proposal too; the audit table tells of it."""
    await gate_hive.gate.agent_submissions.request_destroy("ada", DestroyProposal(note="for good", purge=True), MANAGER)
    await gate_hive.approve("ada", 1, OPERATOR)
    async with asyncio.timeout(PATIENCE):
        while gate_hive.layout.applied_repository("ada").exists() or await gate_hive.rows("ada"):
            query = ProposalQuery(unlike="approved", wait_seconds=PATIENCE)
            waiting = gate_hive.gate.queries.wait_for_change("ada", 1, query, OPERATOR)
            assert (await refused(waiting)).code == "unknown_proposal"
    assert (await gate_hive.actions("ada"))[-2:] == ["gate.approved", "destroy"]
    await gate_hive.check()


async def test_destroyed_with_open_proposals(gate_hive: GateHive) -> None:
    """What waits is withdrawn, what is being built or deployed fails, and nothing of it goes on."""
    await gate_hive.built("ada", "waits")
    gate_hive.runtime.may_build.clear()
    await gate_hive.propose("ada", "builds")
    await begun(gate_hive), await begun(gate_hive)
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)
    assert [row.state for row in await gate_hive.rows("ada")] == ["deployed", "withdrawn", "failed"]
    assert (await gate_hive.notified("hm1nd"))[-1].startswith("Proposal ada/1 was withdrawn by system")
    gate_hive.runtime.may_build.set()
    await gate_hive.built("bob")
    await gate_hive.check()


async def test_destroyed_while_it_is_deployed(gate_hive: GateHive) -> None:
    """The deployment fails, and the agent is gone."""
    await gate_hive.built("ada")
    gate_hive.runtime.held.clear()
    await gate_hive.approve("ada", 1)
    async with asyncio.timeout(PATIENCE):
        while ("ada", 1) not in gate_hive.runtime.activated:
            await gate_hive.runtime.began.get()
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)
    assert (await gate_hive.show("ada", 1)).state == "failed"
    assert not gate_hive.hive.agents.exists("ada")
    await gate_hive.check()


async def test_proposed_while_it_is_destroyed(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal whose commit is taken in while its agent goes finds no agent."""
    taking, taken = asyncio.Event(), asyncio.Event()
    real = gate_hive.gate.config_submissions._importer.import_commit

    async def slow(*arguments: Path) -> object:
        taking.set()
        await taken.wait()
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gate_hive.gate.config_submissions._importer, "import_commit", slow)
    proposing = asyncio.create_task(refused(gate_hive.propose("ada")))
    async with asyncio.timeout(PATIENCE):
        await taking.wait()
        await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)
        taken.set()
        assert (await proposing).code == "unknown_agent"
    assert [row.number for row in await gate_hive.rows("ada")] == [0]
    await gate_hive.check()


async def test_a_new_agent_of_the_same_name_goes_on(gate_hive: GateHive) -> None:
    """Its numbers and its history go on, on top of what was deployed last."""
    await gate_hive.deploy("ada")
    main = gate_hive.main("ada")
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)
    await gate_hive.spawn("ada")
    assert gate_hive.hive.agents.record("ada").deployment == 2
    assert gate_hive.repository("ada").descends(gate_hive.main("ada") or "", main or "")
    await gate_hive.deploy("ada", "once more")
    await gate_hive.check()


async def test_a_spawn_without_room_keeps_what_an_earlier_agent_left(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config of a destroyed agent is still there if a full disk keeps it from being moved aside."""
    config = gate_hive.hive.layout.agent("ada").config
    (config / "notes").write_text("not committed yet")
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)

    def without_room(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "_move_aside", without_room)
        assert (await refused(gate_hive.spawn("ada"))).code == "disk_full"
    assert (config / "notes").read_text() == "not committed yet"
    await gate_hive.spawn("ada")
    assert (config.with_name("config.1") / "notes").read_text() == "not committed yet"
    await gate_hive.check()


async def test_purged_and_spawned_again(gate_hive: GateHive) -> None:
    """Nothing of the earlier agent is left: the new one begins with number 0."""
    await gate_hive.deploy("ada")
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(purge=True), OPERATOR)
    assert await gate_hive.rows("ada") == []
    await gate_hive.check()
    await gate_hive.spawn("ada")
    assert gate_hive.hive.agents.record("ada").deployment == 0
    await gate_hive.deploy("ada")
    await gate_hive.check()
    for _ in range(2):
        await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(purge=True), OPERATOR)
        await gate_hive.spawn("ada")
    await gate_hive.check()


async def test_who_hangs_up_changes_nothing(gate_hive: GateHive) -> None:
    """A request is carried through also when its caller goes away in the middle of it."""
    gate_hive.runtime.may_build.clear()
    calling = asyncio.create_task(gate_hive.spawn("cy"))
    await begun(gate_hive)
    calling.cancel()
    await asyncio.wait([calling])
    gate_hive.runtime.may_build.set()
    await gate_hive.until("cy", 0, "deployed")
    await gate_hive.check()
