"""Approval by rules: only of configurations that do the same as the last one that a party decided on."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from hive_core.errors import HiveError
from hive_core.gate.auto_approval import Change
from hive_core.gate.pipeline.rules import RuleStep
from hive_core.gate.records.commit import read_config
from hive_core.infra.git.objects import Person
from hive_core.infra.git.repository import Repository
from hive_core.layout import Layout
from hive_core.protocol import LogsQuery, ProposalDetail, ProposeRequest
from hive_core.runtimes.base import BuildFailed, BuildOrder
from hive_core.settings import Approval, AutoRule
from tests.unit.core.gate.gate_hive import ADA, OPERATOR, GateHive, opened, quick

RULES = Approval(
    rules=[
        AutoRule(name="prompts", when="prompt_only"),
        AutoRule(name="documents", when="paths", paths=["docs-*", "*.md"]),
        AutoRule(name="less", when="limits_lowered"),
    ]
)


LESS = {"agent.toml": 'memory_max = "1G"'}


def nix_effect(order: BuildOrder) -> str:
    """A model of NixOS: the effect depends on `agent.nix` and on the files that it names, on all of them with `./.`."""
    with Repository.open(order.repository) as repository:
        files = {entry.path: entry.sha for entry in repository.entries(order.commit, 100)}
        text = (repository.read(order.commit, "agent.nix", 100_000) or b"").decode()
    named = set(re.findall(r"\./([\w.-]+)", text))
    used = files if "." in named else {path: sha for path, sha in files.items() if path in {*named, "agent.nix"}}
    return hashlib.sha256(repr(sorted(used.items())).encode()).hexdigest()


@pytest.fixture
async def hive(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GateHive]:
    """A hive with rules, whose runtime evaluates configurations as `nix_effect` does."""
    async with opened(layout, quick(layout, RULES)) as made:

        async def effect(order: BuildOrder) -> str:
            return await asyncio.to_thread(nix_effect, order)

        monkeypatch.setattr(made.runtime, "effect", effect)
        yield made


async def proposed(hive: GateHive, files: dict[str, str]) -> ProposalDetail:
    """Propose a commit of ada's with these files, and wait until it is decided on or waits for a decision."""
    sha = await asyncio.to_thread(hive.commit, "ada", files, on=hive.main("ada"))
    made = await hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="a change"), ADA)
    return await hive.until("ada", made.number, "built", "deployed")


async def decided(hive: GateHive, files: dict[str, str]) -> None:
    """Deploy these files with the approval of the manager."""
    made = await proposed(hive, files)
    assert made.state == "built", "a rule approved what a person has to see"
    await hive.approve("ada", made.number)
    await hive.until("ada", made.number, "deployed")


async def log_of(hive: GateHive, number: int) -> str:
    return "\n".join((await hive.gate.queries.build_log("ada", number, LogsQuery(), OPERATOR)).lines)


@pytest.mark.parametrize(
    ("agent_nix", "changed"),
    [
        ("{ ... }: import ./prompt.md", {"prompt.md": '{ systemd.services.evil.script = "id"; }\n'}),
        ("{ ... }: if builtins.pathExists ./docs-x then { evil = 1; } else { }", {"docs-x": "\n"}),
        ('{ ... }: if builtins.readFile ./prompt.md == "" then { evil = 1; } else { }', {"prompt.md": ""}),
        ("{ ... }: if (builtins.readDir ./.) ? docs-y then { evil = 1; } else { }", {"docs-y": "\n"}),
        (
            "{ ... }: { x = (fromTOML (builtins.readFile ./agent.toml)).memory_max; }",
            {"agent.toml": 'memory_max = "1G"'},
        ),
        ("{ ... }: { environment.etc.all.source = ./.; }", {"prompt.md": "You sing.\n"}),
    ],
)
async def test_no_rule_approves_what_changes_the_system(
    hive: GateHive, agent_nix: str, changed: dict[str, str]
) -> None:
    """A file that a rule covers, and that `agent.nix` imports, reads, looks for or copies, is left to a person."""
    toml = 'backend = "scripted"\n'
    await decided(hive, {"agent.nix": agent_nix, "agent.toml": toml + 'memory_max = "2G"\n'})
    changed = {path: toml + text if path == "agent.toml" else text for path, text in changed.items()}
    made = await proposed(hive, changed)
    assert (made.state, made.waits_for, made.approvals) == ("built", "manager", [])
    assert "does not approve: it changes the system, compared with ada/1" in await log_of(hive, made.number)
    await hive.check()


async def test_a_rule_approves_what_changes_nothing(hive: GateHive) -> None:
    """The same changes pass where `agent.nix` reads none of the files, and the log says so."""
    await decided(hive, {"agent.nix": "{ ... }: { }", "agent.toml": 'backend = "scripted"\nmemory_max = "2G"\n'})
    for files, rule in (
        ({"prompt.md": "You sing.\n"}, "prompts"),
        ({"docs-x": "text\n"}, "documents"),
        ({"agent.toml": 'backend = "scripted"\nmemory_max = "1G"\n'}, "less"),
    ):
        made = await proposed(hive, files)
        deployed = await hive.until("ada", made.number, "deployed")
        assert deployed.approvals == [f"rule: {rule}"]
        assert f'the rule "{rule}" approves: no effect changes' in await log_of(hive, made.number)


async def test_changes_are_compared_with_what_a_party_decided_on(
    hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that a rule let through where it had no effect is judged again where it has one."""
    await decided(hive, {"agent.nix": "{ ... }: import ./prompt.md", "prompt.md": "{ }\n"})
    with monkeypatch.context() as local:
        local.setattr(hive.runtime, "effect", _constant)
        assert (await proposed(hive, {"prompt.md": "{ evil = 1; }\n"})).approvals == ["rule: prompts"]
        await hive.settled()
    made = await proposed(hive, {"docs-x": "harmless\n"})
    assert made.state == "built"
    assert "compared with ada/1" in await log_of(hive, made.number)


async def test_a_rebuild_inherits_no_rule_of_another_runtime(hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a move of the hive, a configuration that a rule approved there is judged anew, and fails if that fails."""
    await decided(hive, {"agent.nix": "{ ... }: import ./prompt.md", "prompt.md": "{ }\n"})
    with monkeypatch.context() as local:
        local.setattr(hive.runtime, "effect", _constant)
        made = await proposed(hive, {"prompt.md": "{ evil = 1; }\n"})
        moved = await hive.until("ada", made.number, "deployed")
    assert moved.closure is not None
    await asyncio.to_thread(shutil.rmtree, hive.runtime.locate(moved.closure))
    rebuilt = await hive.rebuild("ada")
    ended = await hive.until("ada", rebuilt.number, "failed")
    assert "a rule approved ada/2, whose build output is not here" in ended.outcome
    assert "it changes the system, compared with ada/1" in ended.outcome


async def _constant(_: BuildOrder) -> str:
    return "local"


async def test_a_rebuild_inherits_a_rule_whose_effect_is_the_same(hive: GateHive) -> None:
    """A configuration that a rule approved, and whose files have no effect, is rebuilt without a question."""
    made = await proposed(hive, {"prompt.md": "You sing.\n"})
    moved = await hive.until("ada", made.number, "deployed")
    assert moved.closure is not None
    await asyncio.to_thread(shutil.rmtree, hive.runtime.locate(moved.closure))
    hive.runtime.hyperhive = "newer"
    rebuilt = await hive.rebuild("ada")
    assert "rule: prompts" in (await hive.until("ada", rebuilt.number, "deployed")).approvals


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda: BuildFailed("agent.nix:1: evil"), "the comparison with ada/0 failed: agent.nix:1: evil"),
        (lambda: HiveError("no_build_user", "nobody", status=503), "the comparison with ada/0 failed: nobody"),
        (lambda: OSError("disk"), "the comparison with ada/0 failed: disk"),
    ],
)
async def test_an_effect_that_is_not_known_is_no_approval(
    hive: GateHive, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception], why: str
) -> None:
    """If a configuration cannot be evaluated, a person decides, and the build's log says why."""

    async def effect(_: BuildOrder) -> str:
        raise fault()

    monkeypatch.setattr(hive.runtime, "effect", effect)
    made = await proposed(hive, {"prompt.md": "You sing.\n"})
    assert (made.state, made.approvals) == ("built", [])
    assert f'the rule "prompts" does not approve: {why}' in await log_of(hive, made.number)


async def test_an_effect_has_limited_time(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation that does not end leaves the decision to a person."""
    async with opened(layout, quick(layout, RULES, build_timeout=1.0)) as hive:

        async def effect(_: BuildOrder) -> str:
            await asyncio.sleep(60)
            return ""

        monkeypatch.setattr(hive.runtime, "effect", effect)
        made = await proposed(hive, {"prompt.md": "You sing.\n"})
        assert made.state == "built"
        assert "took longer than 1 s" in await log_of(hive, made.number)


async def test_nothing_is_evaluated_where_no_rule_fits(hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that no rule covers costs no evaluation."""
    orders: list[BuildOrder] = []

    async def effect(order: BuildOrder) -> str:
        orders.append(order)
        return ""

    monkeypatch.setattr(hive.runtime, "effect", effect)
    assert (await proposed(hive, {"agent.nix": "{ }"})).state == "built"
    assert orders == []


@pytest.mark.parametrize("content", [b"You sing.\0\n", b"\xff\xfe\n"])
async def test_no_rule_approves_what_is_no_text(hive: GateHive, content: bytes) -> None:
    """A file that no reader can be shown is left to a person, also if nothing reads it."""
    base = hive.main("ada")
    assert base is not None
    with hive.repository("ada") as repository:
        files = {entry.path: repository.read(base, entry.path, 10_000) or b"" for entry in repository.entries(base, 99)}
        files["docs-x"] = content
        # Commits from before the intake refused such files.
        commit = repository.write_commit(files, parents=[base], author=Person("ada", "a@h"), when=9, message="x")
        config = read_config(repository, base)
    row = replace((await hive.rows("ada"))[-1], number=9, kind="config", base=base, commit=commit)
    order = BuildOrder("ada", "agent", 9, hive.layout.applied_repository("ada"), commit)
    said: list[str] = []
    step = RuleStep(hive.gate._context)
    assert await step.find_rule(row, order, Change(["docs-x"], config, config), said.append) is None
    assert said == ['the rule "documents" does not approve: 1 of the changed files hold bytes that are no text']
