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


def test_a_new_agent_starts_with_three_files() -> None:
    """The configuration repository starts with the system, the settings and the role."""
    request = SpawnRequest(name="bob", prompt="You count words.\n\n", config=AgentConfig(model="large"))
    found = files.first_files(request)
    assert sorted(found) == ["agent.nix", "agent.toml", "prompt.md"]
    assert found["prompt.md"] == b"You count words.\n"
    assert b"hyperhive.packages" in found["agent.nix"]
    assert AgentConfig.model_validate(tomllib.loads(found["agent.toml"].decode())) == request.config


def test_a_first_script_can_be_added() -> None:
    """To the agent.toml of an agent without a script, rules of one can be appended."""
    text = files.config_as_toml(AgentConfig()) + '\n[[script]]\nmatch = "x"\n'
    assert len(AgentConfig.model_validate(tomllib.loads(text)).script) == 1


def test_what_is_asked_for_comes_before_the_templates() -> None:
    """A system of one's own is taken as it is; an agent without a role is told so."""
    found = files.first_files(SpawnRequest(name="bob", agent_nix="{ }  # mine"))
    assert found["agent.nix"] == b"{ }  # mine"
    assert found["prompt.md"].startswith(b"You are bob. No role")


def test_packages_stand_in_the_template() -> None:
    """Packages that are asked for are in agent.nix once, and with an agent.nix of one's own they are refused."""
    found = files.first_files(SpawnRequest(name="bob", packages=["nodejs", "python3Packages.requests", "nodejs"]))
    lines = [line.strip() for line in found["agent.nix"].decode().splitlines()]
    assert [line for line in lines if line.startswith("pkgs.")] == ["pkgs.nodejs", "pkgs.python3Packages.requests"]
    with pytest.raises(HiveError, match="packages and agent"):
        files.first_files(SpawnRequest(name="bob", packages=["nodejs"], agent_nix="{ }"))


@pytest.mark.parametrize("name", ["", "1x", "a b", "pkgs;", "a..b", "with", "x.in", "${x}", "a\n", "../x", "ä"])
def test_what_is_no_package(name: str) -> None:
    """Nothing but a name gets into Nix code."""
    with pytest.raises(ValueError, match="packages"):
        SpawnRequest(name="bob", packages=[name])


def test_a_new_place_has_no_configuration_yet(paths: AgentPaths) -> None:
    """All directories are there but `config`; one that is empty leaves nothing behind."""
    for _ in range(2):
        files.create_directories(paths)
        assert sorted(path.name for path in paths.state.parent.iterdir()) == ["claude", "code", "state"]
        paths.config.mkdir()


def test_a_link_in_place_of_the_configuration_is_moved_and_not_followed(paths: AgentPaths, tmp_path: Path) -> None:
    """A re-created agent cannot make the daemon write through a link of its predecessor, nor lose what it points to."""
    files.create_directories(paths)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    paths.config.symlink_to(outside)
    paths.config.with_name("config.1").symlink_to(tmp_path / "nowhere")
    files.create_directories(paths)
    assert not os.path.lexists(paths.config)
    assert paths.config.with_name("config.2").readlink() == outside
    assert (outside / "kept").exists()


def test_what_cannot_be_moved_aside_is_refused(paths: AgentPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the way is named, with what to do."""
    files.make_directories(paths)
    (paths.config / "agent.toml").touch()

    def busy(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", busy)
    with pytest.raises(HiveError, match="config") as refusal:
        files.create_directories(paths)
    assert (refusal.value.code, refusal.value.status) == ("config_in_the_way", 409)
    assert "--purge" in refusal.value.hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("failing", ["rename", "mkdir"])
def test_a_full_disk_is_told_as_such(
    paths: AgentPaths, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    """Neither a disk nor a quota that is used up is a failure of the daemon."""
    if failing == "rename":
        files.make_directories(paths)
        (paths.config / "agent.toml").touch()

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(HiveError) as refusal:
        files.create_directories(paths)
    assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)


def test_nobody_else_gets_into_an_agents_directories(layout: Layout, paths: AgentPaths) -> None:
    """Whatever the umask is and whatever modes the agent has left, all its directories are the daemon's alone."""
    before = os.umask(0)
    try:
        files.make_directories(paths)
    finally:
        os.umask(before)
    directories = [layout.agent_home("bob"), paths.config, paths.state, paths.claude, paths.code, paths.run]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}
    for path, mode in ((paths.state, 0o777), (paths.claude, 0), (paths.run, 0o2755)):
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
