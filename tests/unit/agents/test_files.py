"""An agent's files, and an agent that leaves traps among them."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.agents import files
from hive_core.errors import HiveError
from hive_core.layout import AgentPaths, Layout
from hive_core.protocol import AgentConfig, ScriptRule, ScriptSend, SpawnRequest


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def paths(layout: Layout) -> AgentPaths:
    return layout.agent("bob")


def test_a_new_agent_gets_its_three_files(paths: AgentPaths) -> None:
    """The configuration repository starts with the system, the settings and the role; only its owner can read it."""
    files.prepare(paths, SpawnRequest(name="bob", prompt="You count words."))
    assert sorted(path.name for path in paths.config.iterdir()) == ["agent.nix", "agent.toml", "prompt.md"]
    assert (paths.config / "prompt.md").read_text() == "You count words.\n"
    assert "environment.systemPackages" in (paths.config / "agent.nix").read_text()
    assert paths.config.stat().st_mode & 0o077 == 0


def test_a_link_that_an_agent_left_is_replaced_and_not_followed(paths: AgentPaths, tmp_path: Path) -> None:
    """A re-created agent cannot make the daemon write through a link of its predecessor."""
    files.make_directories(paths)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("agent.toml", ".agent.toml.new"):
        (paths.config / name).symlink_to(victim)
    files.prepare(paths, SpawnRequest(name="bob"))
    assert victim.read_text() == "untouched"
    assert not (paths.config / "agent.toml").is_symlink()


@pytest.mark.parametrize("name", ["prompt.md", ".agent.toml.new", "agent.nix"])
def test_a_directory_in_the_way_is_refused(paths: AgentPaths, name: str) -> None:
    """What cannot be replaced is named, with what to do."""
    files.make_directories(paths)
    (paths.config / name).mkdir()
    with pytest.raises(HiveError, match=name.removeprefix(".").removesuffix(".new")) as refusal:
        files.prepare(paths, SpawnRequest(name="bob"))
    assert (refusal.value.code, refusal.value.status) == ("config_in_the_way", 409)
    assert "--purge" in refusal.value.hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("failing", ["replace", "mkdir"])
def test_a_full_disk_is_told_as_such(
    paths: AgentPaths, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    """Neither a disk nor a quota that is used up is a failure of the daemon."""

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(HiveError) as refusal:
        files.prepare(paths, SpawnRequest(name="bob"))
    assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)


def test_nobody_else_gets_into_an_agents_directories(layout: Layout, paths: AgentPaths) -> None:
    """Whatever the umask is and whatever modes the agent has left, all its directories are the daemon's alone."""
    before = os.umask(0)
    try:
        files.make_directories(paths)
    finally:
        os.umask(before)
    directories = [layout.agent_home("bob"), paths.config, paths.state, paths.claude, paths.run, paths.own]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}
    for path, mode in ((paths.state, 0o777), (paths.claude, 0), (paths.own, 0o2755)):
        path.chmod(mode)
    files.make_directories(paths)
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


def test_a_link_in_place_of_a_directory_is_not_followed(paths: AgentPaths, tmp_path: Path) -> None:
    """No agent can have the mode of a directory elsewhere changed."""
    files.make_directories(paths)
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o755)
    paths.state.rmdir()
    paths.state.symlink_to(outside)
    with pytest.raises(HiveError) as refusal:
        files.make_directories(paths)
    assert refusal.value.code == "config_in_the_way"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


@given(
    model=st.none() | texts,
    tools=st.lists(texts, max_size=3),
    allowed=st.none() | st.lists(st.sampled_from(["bob", "*", "operator"]), max_size=3),
    match=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    text=texts,
)
def test_agent_toml_reads_back_as_it_was(
    model: str | None, tools: list[str], allowed: list[str] | None, match: str, text: str
) -> None:
    """Whatever the settings hold, the TOML written for them means the same."""
    rule = ScriptRule(match=match, remember="job", send=[ScriptSend(to="@job", text=text)])
    config = AgentConfig(model=model, tools=tools, allowed_recipients=allowed, script=[rule])
    assert AgentConfig.model_validate(tomllib.loads(files.config_as_toml(config))) == config
