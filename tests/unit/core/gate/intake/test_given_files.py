"""An operator's own change of an agent's files: read, checked, committed and proposed through the gate."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest

from hive_core.errors import HiveError
from hive_core.gate.intake import given_files
from hive_core.layout import Layout
from hive_core.protocol import ConfigurationFiles, EditRequest, Proposal
from hive_core.settings import LimitCeilings
from tests.unit.core.gate.gate_hive import MANAGER, OPERATOR, GateHive, opened, quick


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


async def deployed(gate_hive: GateHive) -> ConfigurationFiles:
    return await gate_hive.gate.queries.deployed_files("ada")


async def edit(
    gate_hive: GateHive, changes: Mapping[str, str | bytes | None], *, base: str = "", programs: tuple[str, ...] = ()
) -> Proposal:
    """Propose the deployed files with `changes`, of which None removes a file."""
    now = await deployed(gate_hive)
    files = now.files | {path: encoded(text) for path, text in changes.items() if text is not None}
    kept = {path: text for path, text in files.items() if changes.get(path, "") is not None}
    request = EditRequest(base=base or now.commit, files=kept, executables=list(programs), note="mine")
    return await gate_hive.gate.config_submissions.edit("ada", request, OPERATOR)


async def test_an_edit_goes_through_the_gate(gate_hive: GateHive) -> None:
    """What the operator has edited is a proposal of theirs on top of what is deployed, and runs once it is approved."""
    before = gate_hive.main("ada")
    proposal = await edit(gate_hive, {"prompt.md": "You sing.\n", "x": "#!/bin/sh\n"}, programs=("x",))
    assert (proposal.kind, proposal.by, proposal.base) == ("config", OPERATOR.label, before)
    built = await gate_hive.until("ada", proposal.number, "built")
    assert built.waits_for == "manager" and "You sing." in built.diff
    assert gate_hive.repository("ada").author(proposal.commit) == gate_hive.repository("ada").author(before or "")
    await gate_hive.approve("ada", proposal.number, MANAGER)
    await gate_hive.until("ada", proposal.number, "deployed")
    after = await deployed(gate_hive)
    assert after.commit == proposal.commit and after.executables == ["x"]
    assert base64.b64decode(after.files["prompt.md"]) == b"You sing.\n"
    await gate_hive.check()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "nothing_changed"),
        ({"agent.nix": None}, "bad_tree"),
        ({"../x": "x"}, "bad_tree"),
        ({".git/config": "x"}, "bad_tree"),
        ({"agent.toml/x": "x"}, "bad_tree"),
        ({"agent.toml": "nonsense = true\n"}, "bad_agent_toml"),
        ({"prompt.md": "x" * 100_001}, "bad_prompt"),
        ({"notes.txt": "a\u202eb"}, "bad_text"),
    ],
)
async def test_an_edit_passes_the_checks_of_a_commit(
    gate_hive: GateHive, changes: dict[str, str | None], code: str
) -> None:
    """Files that no commit may have are refused by the same names, and nothing is proposed."""
    with pytest.raises(HiveError) as error:
        await edit(gate_hive, changes)
    assert error.value.code == code
    assert [row.kind for row in await gate_hive.rows("ada")] == ["spawn"]


async def test_an_edit_keeps_to_the_ceilings(layout: Layout) -> None:
    """The operator's own change asks for no more than the settings allow."""
    async with opened(layout, quick(layout, ceilings=LimitCeilings(tasks_max=100))) as gate_hive:
        with pytest.raises(HiveError) as error:
            await edit(gate_hive, {"agent.toml": "tasks_max = 101\n"})
        assert error.value.code == "above_ceiling"


async def test_an_edit_of_older_files_is_refused(gate_hive: GateHive) -> None:
    """An edit that began before another deployment replaces nothing of it."""
    base = (await deployed(gate_hive)).commit
    await gate_hive.deploy("ada", "You dance.")
    with pytest.raises(HiveError, match="deployed meanwhile"):
        await edit(gate_hive, {"notes.txt": "x\n"}, base=base)


async def test_too_many_bytes_are_not_sent(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a request could not bring back are not sent, and the error says what to do instead."""
    monkeypatch.setattr(given_files, "MOST_BYTES", 10)
    with pytest.raises(HiveError, match="together") as error:
        await deployed(gate_hive)
    assert error.value.code == "too_large" and "hive-c0re propose" in error.value.hint
