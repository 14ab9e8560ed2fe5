"""Where turns run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hive_agent.environment import AgentEnvironment
from hive_agent.repositories.places import Workplace, find_places, find_workplace
from hive_core.protocol import AgentConfig, AgentRepository, Profile

SETTINGS = (".cli/settings.json",)


def agent(tmp_path: Path, *names: str, shown: Sequence[str] | None = None) -> tuple[Profile, AgentEnvironment]:
    """An agent with these repositories, whose instructions may be read but for those of `closed`."""
    mirrors = {name: f"/repos/{name}.git" for name in (names if shown is None else shown)}
    variables = {
        "HIVE_AGENT_CODE": str(tmp_path / "code"),
        "HIVE_AGENT_STATE": str(tmp_path / "state"),
        "HIVE_AGENT_REPOS": json.dumps(mirrors),
    }
    repositories = [AgentRepository(name=name, branch="main", instructions=name != "closed") for name in names]
    profile = Profile(
        name="ada",
        kind="agent",
        config=AgentConfig(repos=list(names)),
        prompt="",
        deployment=1,
        lease_seconds=60,
        repositories=repositories,
    )
    return profile, AgentEnvironment.read(variables)


def test_without_repositories(tmp_path: Path) -> None:
    """An agent without repositories works in its own directory, as does one whose mirrors are not shown."""
    (tmp_path / "code/web").mkdir(parents=True)
    assert find_workplace(*agent(tmp_path)) == Workplace(tmp_path / "state")
    assert find_places(*agent(tmp_path, "web", shown=[])) == []
    assert find_workplace(*agent(tmp_path, "web", shown=[])) == Workplace(tmp_path / "state")


def test_one_repository(tmp_path: Path) -> None:
    """Turns run in the clone, and above it as long as it is missing or has what a CLI would obey."""
    code = tmp_path / "code"
    code.mkdir()
    assert find_workplace(*agent(tmp_path, "web"), SETTINGS) == Workplace(code)
    (code / "web").mkdir()
    assert find_workplace(*agent(tmp_path, "web"), SETTINGS) == Workplace(code / "web", code / "web")
    (code / "web/.cli").mkdir()
    (code / "web/.cli/settings.json").symlink_to("nowhere")
    assert find_workplace(*agent(tmp_path, "web"), SETTINGS) == Workplace(code, code / "web")
    (code / ".cli").mkdir()
    (code / ".cli/settings.json").touch()
    assert find_workplace(*agent(tmp_path, "web"), SETTINGS) == Workplace(tmp_path / "state")


def test_instructions_that_may_not_be_read(tmp_path: Path) -> None:
    """A repository whose instructions are not allowed is a working directory, and nothing of it is to be read."""
    (tmp_path / "code/closed").mkdir(parents=True)
    assert find_workplace(*agent(tmp_path, "closed")) == Workplace(tmp_path / "code/closed")


def test_several_repositories(tmp_path: Path) -> None:
    """With several repositories turns run where all clones are."""
    (tmp_path / "code/web").mkdir(parents=True)
    (tmp_path / "code/app").mkdir()
    assert find_workplace(*agent(tmp_path, "web", "app")) == Workplace(tmp_path / "code")
