"""Configurations of agents as people write them, evaluated with a real nixpkgs where there is one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.project.nix.evaluation import enabled_features, evaluate

pytestmark = [pytest.mark.nixpkgs, pytest.mark.timeout(600)]


def evaluated(agent: str) -> Any:
    """Return the attribute of agents.nix."""
    done = evaluate("agents.nix", "--attr", agent)
    assert done.returncode == 0, done.stderr[-5_000:]
    return json.loads(done.stdout)


def test_unfree_packages_of_all_who_allow_some() -> None:
    """What an agent.nix, a file that it imports, `hyperhive.unfreePackages` and the backend allow holds together."""
    programs = evaluated("unfree")
    assert {"terraform", "nomad", "vault", "claude-code"} <= set(programs)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        pytest.param("refused", ["vault", "has an unfree license"], id="unfree"),
        pytest.param(
            "forced", ["allowUnfreePredicate in ", "/agent.nix has to be a function"], id="predicate-with-priority"
        ),
        pytest.param(
            "unknown", ["The option `services.nonesuch' does not exist", "-unknown/agent.nix"], id="unknown-option"
        ),
    ],
)
def test_refusals(agent: str, words: list[str]) -> None:
    """A configuration that cannot be is refused, and the message names the fault and where it is."""
    done = evaluate("agents.nix", "--attr", agent)
    assert done.returncode != 0
    assert [word for word in words if word not in done.stderr] == [], done.stderr[-5_000:]


@pytest.mark.parametrize("agent", ["feature-string", "feature-list"])
def test_experimental_features(agent: str) -> None:
    """An agent.nix may write experimental features as one string or as a list; they come beside the hive's."""
    assert enabled_features(evaluated(agent)) == {"nix-command", "flakes", "ca-derivations"}


def test_imports() -> None:
    """An agent.nix of several files brings a service, a user and a package of its own into the system."""
    agent = evaluated("imports")
    assert agent["failed"] == agent["warnings"] == []
    assert agent["user"] == {"group": "notes", "isSystemUser": True, "home": "/state/notes"}
    assert agent["unit"]["wantedBy"] == ["multi-user.target"]
    service = agent["unit"]["serviceConfig"]
    assert service["User"] == "notes"
    assert service["ExecStart"].endswith("-notes-1/bin/notes")
    assert agent["programs"]["notes"].endswith("-notes-1.drv")
    assert agent["postgresql"] is True
    assert agent["greeting"] == "hello"
    assert agent["toplevel"].endswith(".drv")
