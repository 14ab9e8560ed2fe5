"""Nix's settings: read from its JSON, whichever of the two commands this version has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.nix_settings import parse_nix_settings, read_nix_settings
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

ANSWER = json.dumps({"sandbox": {"value": True, "description": "whether"}, "cores": {"value": 0}})


def nix(directory: Path, script: str) -> str:
    """A program with this text in the place of Nix."""
    program = directory / "nix"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("knows", ["config show --json", "show-config --json"])
async def test_both_commands_are_known(tmp_path: Path, knows: str) -> None:
    """Nix 2.20 and Lix 2.90 renamed the command; what the other version does not know is no failure."""
    script = f"case \"$*\" in *' {knows}') printf %s '{ANSWER}' ;; *) echo 'error: no such command' >&2; exit 1 ;; esac"
    assert await read_nix_settings(nix(tmp_path, script)) == {"sandbox": True, "cores": 0}


async def test_a_nix_that_does_not_answer(tmp_path: Path) -> None:
    """The failure of the command is told, and a missing program as that."""
    with pytest.raises(HiveError) as refused:
        await read_nix_settings(nix(tmp_path, "echo broken >&2; exit 1"))
    assert (refused.value.code, "broken" in refused.value.message) == ("command_failed", True)
    with pytest.raises(HiveError) as refused:
        await read_nix_settings(str(tmp_path / "gone"))
    assert refused.value.code == "command_missing"


@pytest.mark.parametrize("answer", ["", "cores = 0", "[]", "{}", '{"sandbox": true}', '{"a": {"b": 1}}'])
def test_an_answer_of_another_form(answer: str) -> None:
    """A form that is not known is refused, not taken for a Nix without settings."""
    with pytest.raises(HiveError) as refused:
        parse_nix_settings(answer)
    assert refused.value.code == "nix_settings_unknown"


@needs_nix
async def test_real_nix_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Nix of this machine tells the settings that the hive asks for."""
    for name, text in OwnNix(tmp_path).variables.items():
        monkeypatch.setenv(name, text)
    found = await read_nix_settings()
    assert found["sandbox"] in (True, False, "relaxed") and found["sandbox-fallback"] in (True, False)
    assert found["build-users-group"] == ""
