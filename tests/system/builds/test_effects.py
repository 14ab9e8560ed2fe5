"""Effects of configurations with a real Nix: the attacks on rules that look at paths, and the exposure of a system."""

from __future__ import annotations

import pytest

from hive_core.runtimes.base import BuildFailed
from tests.system.builds.build_hive import Hive, host, opened
from tests.system.host_hive import thorough_but

TOML = 'memory_max = "2G"\n'


USES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "import": ("import ./prompt.md", {"prompt.md": '"1"'}, {"prompt.md": '"2"'}),
    "pathExists": ('if builtins.pathExists ./docs then "1" else "2"', {}, {"docs": ""}),
    "readFile": (
        'if builtins.readFile ./prompt.md == "" then "1" else "2"',
        {"prompt.md": "x"},
        {"prompt.md": ""},
    ),
    "readDir": ("toString (builtins.attrNames (builtins.readDir ./.))", {}, {"docs": ""}),
    "fromTOML": (
        "(builtins.fromTOML (builtins.readFile ./agent.toml)).memory_max",
        {},
        {"agent.toml": 'memory_max = "1G"\n'},
    ),
    "directory": ('"${./.}"', {"prompt.md": "x"}, {"prompt.md": "y"}),
    "file": ('"${./prompt.md}"', {"prompt.md": "x"}, {"prompt.md": "y"}),
}
"""Ways to a file that a rule covers: a value in `agent.nix`, and the other files before and after a change."""


@pytest.mark.parametrize("use", thorough_but(USES, "import", "readDir"))
async def test_a_covered_file_that_is_used_changes_the_effect(hive: Hive, use: str) -> None:
    """Whatever way `agent.nix` takes to a file that a rule covers, the effect is another one."""
    value, old, new = USES[use]
    text = f"{{ ... }}: {{ hyperhive.environment.X = {value}; }}"
    async with opened(hive) as builder:
        base = {"prompt.md": "same", "agent.toml": TOML, **old}
        before = await builder.effect(hive.propose(text, files=base))
        assert before == await builder.effect(hive.propose(text, files=base))
        assert before != await builder.effect(hive.propose(text, files={**base, **new}))


def ignore(_line: str) -> None:
    pass


COPIES = {
    "etc": 'let place = config.environment.etc."hyperhive/agent".source; in TEST "${place}/prompt.md"',
    "files": 'let place = hive.files; in TEST "${place}/prompt.md"',
    "agent": 'let place = hive.agent; in TEST "${place}/prompt.md"',
    "etc or": 'let place = config.environment.etc."hyperhive/agent".source or "/nowhere"; in TEST "${place}/prompt.md"',
    "files or": 'let place = hive.files or "/nowhere"; in TEST "${place}/prompt.md"',
    "any etc": "let many = map (name: config.environment.etc.${name}) (builtins.attrNames config.environment.etc); "
    "in import (builtins.head (builtins.filter builtins.pathExists (map (one: one.source or ./none) many ++ "
    '[ "${hive.agent}/prompt.md" ])))',
}
"""Places where an agent.nix may look for a copy of its files that a judgement of rules would leave out."""


@pytest.mark.parametrize("place", thorough_but(COPIES, "files", "any etc"))
async def test_no_configuration_knows_whether_it_is_judged_or_built(hive: Hive, place: str) -> None:
    """One that takes code from a copy of its files if there is one: what is judged is what is built, or neither is.

    The derivation that is judged is that of the build, so equal effects of two commits are equal systems.
    """
    value = COPIES[place].replace("TEST", '(file: if builtins.pathExists file then import file else "true")')
    text = f"{{ config, hive, ... }}: {{ hyperhive.environment.X = {value}; }}"
    found = []
    async with opened(hive) as builder:
        for prompt in ('"one"', '"two"'):
            order = hive.propose(text, files={"prompt.md": prompt})
            try:
                effect = await builder.effect(order)
            except BuildFailed as error:
                with pytest.raises(BuildFailed) as caught:
                    await builder.build(order, ignore)
                assert place in ("etc", "files") and "missing" in str(error) and "missing" in str(caught.value)
                continue
            closure = await builder.build(order, ignore)
            found.append((effect, closure))
            with_code = f"X={prompt[1:-1]}" in host("cat", f"{closure}/etc/systemd/system/hive-harness.service")
            assert with_code == (place in ("agent", "any etc"))
    assert len(found) == (0 if place in ("etc", "files") else 2)
    assert len({effect for effect, _ in found}) == len(set(found))


async def test_the_effect_is_the_derivation_of_the_build(hive: Hive) -> None:
    """Nix records which derivation it has built a system from: the one that is compared, before and after the build."""
    order = hive.propose('{ hyperhive.environment.X = "here"; }', files={"prompt.md": "x"})
    async with opened(hive) as builder:
        before = await builder.effect(order)
        closure = await builder.build(order, ignore)
        assert host("nix-store", "--query", "--deriver", closure).strip() == before == await builder.effect(order)
        assert host("find", closure, "-name", "prompt.md") == ""


async def test_files_that_nothing_uses_have_no_effect(hive: Hive) -> None:
    """A rule can approve a change of prompt, settings or documents of a configuration that does not read them."""
    text = "{ ... }: { hyperhive.environment.X = import ./value.nix; }"
    base = {"prompt.md": "x", "agent.toml": TOML, "value.nix": '"1"'}
    async with opened(hive) as builder:
        before = await builder.effect(hive.propose(text, files=base))
        for changed in ({"prompt.md": "y"}, {"agent.toml": ""}, {"docs": "text"}):
            assert before == await builder.effect(hive.propose(text, files={**base, **changed}))
        assert before != await builder.effect(hive.propose(text, files={**base, "value.nix": '"2"'}))
