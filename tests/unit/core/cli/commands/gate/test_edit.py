"""`hive-c0re edit`: a person's own change of an agent's configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hive_core.protocol import EditRequest, ProposalDetail
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.fake_host_http import Refusal
from tests.unit.core.cli.run_cli import Ended, Program

DEPLOYED = {"agent.nix": "{ }\n", "agent.toml": "model = 'x'\n", "prompt.md": "You help.\n"}


class Person:
    """Somebody who runs `edit` with an editor that is a shell script."""

    def __init__(self, hive: Program, place: Path) -> None:
        self._hive = hive
        self._place = place

    async def edits(self, script: str, *words: str, note: str = "better") -> Ended:
        editor = self._place / "editor"
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(0o700)
        env = {"VISUAL": str(editor), "TMPDIR": str(self._place)}
        return await self._hive.run("edit", "ada", *words, "--note", note, env=env)

    def kept(self) -> list[Path]:
        """The directories of edits that are there."""
        return sorted(self._place.glob("hive-edit-ada-*"))


@pytest.fixture
def person(hive: Program, tmp_path: Path) -> Person:
    return Person(hive, tmp_path)


async def test_an_edit_is_proposed(person: Person, daemon: FakeHost) -> None:
    """The editor gets the three files; the change, with new files and programs, is proposed on what was deployed."""
    daemon.gate.files["tools/old.orig"] = "kept"
    daemon.gate.executables = {"tools/old.orig"}
    script = (
        'echo "You sing." > prompt.md; mkdir -p tools; echo x > tools/new; chmod +x tools/new; cp $2 $2~; echo "$@"'
    )
    ended = await person.edits(script)
    assert (ended.code, ended.out) == (
        0, "agent.nix agent.toml prompt.md\nada/3 is built and waits for the operator\n"
    ), ended.err  # fmt: skip
    assert "changed: prompt.md, tools/new" in ended.err
    body = daemon.asked[1][2]
    assert isinstance(body, EditRequest)
    assert (body.base, body.note, body.executables) == ("b" * 40, "better", ["tools/new", "tools/old.orig"])
    assert daemon.gate.edited == DEPLOYED | {"prompt.md": "You sing.\n", "tools/new": "x\n", "tools/old.orig": "kept"}
    assert person.kept() == []


async def test_json_has_the_answer_alone(person: Person, daemon: FakeHost) -> None:
    """With --json stdout is the proposal, whatever the editor prints."""
    ended = await person.edits("echo noise; echo x >> prompt.md", "--json")
    assert ProposalDetail.model_validate(ended.json).number == 3


async def test_nothing_changed(person: Person, daemon: FakeHost) -> None:
    """An editor that leaves all as it was proposes nothing, and nothing is left behind."""
    ended = await person.edits("true")
    assert (ended.code, ended.out) == (0, "") and "nothing was changed" in ended.err
    assert len(daemon.asked) == 1 and person.kept() == []


async def test_a_refused_edit_goes_on(person: Person, daemon: FakeHost) -> None:
    """What was edited is kept when it is refused, for its owner alone, and proposed after it was mended."""
    daemon.gate.refused_edit = Refusal(400, "bad_agent_toml", "agent.toml, line 1: no", "mend it")
    ended = await person.edits("echo nonsense > agent.toml; rm agent.nix")
    (kept,) = person.kept()
    assert ended.code == 1 and "agent.toml, line 1: no" in ended.err
    assert f"hive-c0re edit ada --continue {kept}" in ended.err
    assert os.stat(kept).st_mode & 0o777 == 0o700  # noqa: PTH116 - of a test
    daemon.gate.refused_edit = None
    ended = await person.edits("grep -q nonsense agent.toml && echo > agent.nix", "--continue", str(kept))
    assert ended.code == 0, ended.err
    assert daemon.gate.edited == DEPLOYED | {"agent.toml": "nonsense\n", "agent.nix": "\n"}
    assert person.kept() == []


async def test_an_editor_that_fails(person: Person, daemon: FakeHost) -> None:
    """An editor that fails or is none proposes nothing and loses nothing."""
    ended = await person.edits("echo x >> prompt.md; exit 3")
    assert ended.code == 1 and "exit code 3" in ended.err and "--continue" in ended.err
    assert len(daemon.asked) == 1
    (kept,) = person.kept()
    assert (kept / "config" / "prompt.md").read_text() == "You help.\nx\n"


async def test_a_deployment_meanwhile(person: Person, daemon: FakeHost) -> None:
    """An edit that goes on takes over what was deployed meanwhile, and names what both have changed."""
    daemon.gate.refused_edit = Refusal(409, "not_rebased", "another one was deployed meanwhile")
    await person.edits("echo mine > prompt.md; echo mine > agent.nix")
    (kept,) = person.kept()
    daemon.gate.deployed, daemon.gate.refused_edit = "d" * 40, None
    daemon.gate.files |= {"prompt.md": "theirs\n", "agent.toml": "model = 'y'\n", "added": "x"}
    ended = await person.edits("true", "--continue", str(kept))
    assert ended.code == 0, ended.err
    assert "changes these files too: prompt.md\n" in ended.err
    body = daemon.asked[-1][2]
    assert isinstance(body, EditRequest) and body.base == "d" * 40
    assert daemon.gate.edited == {
        "agent.nix": "mine\n", "prompt.md": "mine\n", "agent.toml": "model = 'y'\n", "added": "x"
    }  # fmt: skip


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b"])
async def test_files_stay_in_their_directory(path: str, person: Person, daemon: FakeHost) -> None:
    """A path that leads out of the directory is not written."""
    daemon.gate.files[path] = "x"
    ended = await person.edits("true")
    assert ended.code == 1 and "none of a configuration" in ended.err
    assert person.kept() == []


async def test_what_is_wrong_is_said_before_the_editor_opens(hive: Program, daemon: FakeHost, person: Person) -> None:
    """Without a reason, or with a directory of something else, no editor is started."""
    ended = await hive.run("edit", "ada")
    assert ended.code == 2 and "add --note" in ended.err
    ended = await person.edits("touch ran", "--continue", "/")
    assert ended.code == 1 and "is no directory of an edit" in ended.err


async def test_an_edit_that_waits_for_the_manager_says_how_to_go_on(person: Person, daemon: FakeHost) -> None:
    """An operator whose change waits for the manager reads who decides, and that a manager without a model does not."""
    daemon.agents = [agent("hm1nd", backend="scripted")]
    daemon.gate.waits_for = "manager"
    ended = await person.edits('echo "You sing." > prompt.md')
    assert ended.out == "ada/3 is built and waits for the manager\n", ended.err
    assert "remind it with \"hive-c0re ask hm1nd 'Please decide on ada/3.'\"" in ended.err
    assert 'take the change back with "hive-c0re withdraw ada 3"' in ended.err
    assert "hm1nd has no model, so it decides only if its script says so" in ended.err
