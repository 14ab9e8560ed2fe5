"""Effects of configurations with a real Nix: the attacks on rules that look at paths, and the exposure of a system."""

from __future__ import annotations

import pytest

from tests.system.builds.build_hive import Hive, opened

TOML = 'memory_max = "2G"\n'


@pytest.mark.parametrize(
    ("value", "old", "new"),
    [
        ("import ./prompt.md", {"prompt.md": '"1"'}, {"prompt.md": '"2"'}),
        ('if builtins.pathExists ./docs then "1" else "2"', {}, {"docs": ""}),
        ('if builtins.readFile ./prompt.md == "" then "1" else "2"', {"prompt.md": "x"}, {"prompt.md": ""}),
        ("toString (builtins.attrNames (builtins.readDir ./.))", {}, {"docs": ""}),
        ("(builtins.fromTOML (builtins.readFile ./agent.toml)).memory_max", {}, {"agent.toml": 'memory_max = "1G"\n'}),
        ('"${./.}"', {"prompt.md": "x"}, {"prompt.md": "y"}),
        ('"${./prompt.md}"', {"prompt.md": "x"}, {"prompt.md": "y"}),
    ],
    ids=["import", "pathExists", "readFile", "readDir", "fromTOML", "directory", "file"],
)
async def test_a_covered_file_that_is_used_changes_the_effect(
    hive: Hive, value: str, old: dict[str, str], new: dict[str, str]
) -> None:
    """Whatever way `agent.nix` takes to a file that a rule covers, the effect is another one."""
    text = f"{{ ... }}: {{ hyperhive.environment.X = {value}; }}"
    async with opened(hive) as builder:
        base = {"prompt.md": "same", "agent.toml": TOML, **old}
        before = await builder.effect(hive.propose(text, files=base))
        assert before == await builder.effect(hive.propose(text, files=base))
        assert before != await builder.effect(hive.propose(text, files={**base, **new}))


async def test_files_that_nothing_uses_have_no_effect(hive: Hive) -> None:
    """A rule can approve a change of prompt, settings or documents of a configuration that does not read them."""
    text = "{ ... }: { hyperhive.environment.X = import ./value.nix; }"
    base = {"prompt.md": "x", "agent.toml": TOML, "value.nix": '"1"'}
    async with opened(hive) as builder:
        before = await builder.effect(hive.propose(text, files=base))
        for changed in ({"prompt.md": "y"}, {"agent.toml": ""}, {"docs": "text"}):
            assert before == await builder.effect(hive.propose(text, files={**base, **changed}))
        assert before != await builder.effect(hive.propose(text, files={**base, "value.nix": '"2"'}))
