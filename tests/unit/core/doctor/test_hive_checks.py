"""Checks of the hive itself: settings, daemon, deployments."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hive_core.doctor.findings import Severity, healthy
from hive_core.doctor.hive_checks import (
    CredentialFacts,
    DaemonFacts,
    RunningAgent,
    StateFacts,
    Unanswered,
    check_backends,
    check_credentials,
    check_deployed,
    check_hive,
    check_providers,
    check_settings,
    check_state,
)
from hive_core.doctor.probes import daemon_facts
from hive_core.doctor.state_probes import unusable_keys
from hive_core.errors import HiveError
from hive_core.protocol import AgentStatus, Deployment, HiveStatus
from hive_core.settings import LimitCeilings, Settings
from tests.unit.core.cli.fake_host_api import agent
from tests.unit.core.doctor.test_host_checks import severities

NOW = datetime.now(UTC)
CLOSURE = "/nix/store/0123-nixos-system"
DEPLOYMENT = Deployment(
    number=2, kind="config", commit="c" * 40, closure=CLOSURE, by="ada", approved_by=["hm1nd"], note="",
    deployed_at=NOW, current=True,
)  # fmt: skip
SETTINGS = Settings(state_dir=Path("/state"))


def status(**changes: Any) -> HiveStatus:
    fields: dict[str, Any] = {
        "version": "1.0", "pid": 1, "started_at": NOW, "state_dir": "/state", "runtime": "local", "confinement": "",
        "agents": {}, "messages_stored": 0, "messages_unacked": 0, "operator_unread": 0,
    }  # fmt: skip
    return HiveStatus.model_validate(fields | changes)


def test_settings() -> None:
    """Wrong ones are an error in the words of whoever reads them; a default above its ceiling is a warning."""
    assert severities(check_settings(Settings())) == {"settings": "ok"}
    (found,) = check_settings(HiveError("bad_setting", "setting 'x' is wrong", hint="known settings: a"))
    assert (found.severity, found.what, found.remedy) == ("error", "setting 'x' is wrong", "known settings: a")
    found = check_settings(Settings(limits=LimitCeilings(memory_max="2G"), ceilings=LimitCeilings(memory_max="1G")))[1]
    assert found.severity == "warning" and "limits.memory_max is 2G" in found.what


@pytest.mark.parametrize(
    ("code", "severity"), [("no_daemon", "error"), ("no_answer", "error"), ("no_permission", "warning")]
)
def test_a_daemon_that_does_not_answer(code: str, severity: Severity) -> None:
    """An error, unless it is this user who may not ask."""
    problem = Unanswered(code, "no daemon is listening", "start one")
    (found,) = check_hive(DaemonFacts(problem=problem), SETTINGS, "1.0")
    assert (found.severity, found.what, found.remedy) == (severity, "no daemon is listening", "start one")


def test_a_daemon_that_answers() -> None:
    """It is of this version and has these settings, or a warning says what differs."""
    assert severities(check_hive(DaemonFacts(status()), SETTINGS, "1.0")) == {"daemon": "ok"}
    (found,) = check_hive(DaemonFacts(status()), SETTINGS, "1.1")
    assert found.severity == "warning" and "is version 1.0, and installed is 1.1" in found.what
    for differs in ({"runtime": "nixos"}, {"state_dir": "/other"}):
        found = check_hive(DaemonFacts(status(**differs)), SETTINGS, "1.0")[1]
        assert (found.check, found.severity) == ("settings-in-use", "warning")


def running(started_on: str | None = CLOSURE, there: bool | None = True, **changes: Any) -> RunningAgent:
    return RunningAgent(agent("ada", **{"deployment": 2, **changes}), DEPLOYMENT, started_on, there)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (running(), {"deployed": "ok"}),
        (running(started_on=None), {"deployed": "ok"}),
        (running(there=None), {"deployed": "ok"}),
        (running(started_on="/nix/store/9999-other"), {"deployed": "error"}),
        (running(started_on="/nix/store/9999-older", lifecycle="stopped"), {"deployed": "ok"}),
        (running(started_on=""), {"deployed": "error"}),
        (running(started_on="", lifecycle="stopped"), {"deployed": "ok"}),
        (running(deployment=1, started_on="/nix/store/9999-older"), {"deployed": "warning"}),
        (running(there=False), {"closure": "error"}),
        (running(needs_update=True), {"updates": "warning"}),
        (RunningAgent(agent("ada"), None, CLOSURE, None), {"deployed": "error"}),
    ],
)
def test_drift(one: RunningAgent, found: dict[str, Severity]) -> None:
    """A container on what was not approved, a closure that is gone. A deployment under way is no drift, nor what a
    stopped agent ran before.
    """
    assert severities(check_deployed([one])) == found


def test_warnings_are_no_illness() -> None:
    """Only an error makes a host unhealthy."""
    assert healthy(check_deployed([running(needs_update=True)]))
    assert not healthy(check_deployed([running(needs_update=True), running(there=False)]))


def test_asking_the_daemon() -> None:
    """Its status, its agents, and the newest deployment of each; one that has none is left out."""
    answers: dict[str, Any] = {
        "/v1/status": status().model_dump(mode="json"),
        "/v1/agents": {"agents": [agent(name).model_dump(mode="json") for name in ("ada", "bob")]},
        "/v1/agents/ada/history?limit=1": {"agent": "ada", "deployments": [DEPLOYMENT.model_dump(mode="json")]},
        "/v1/agents/bob/history?limit=1": {"agent": "bob", "deployments": []},
    }
    found = daemon_facts(answers.__getitem__)
    assert found.problem is None and found.status == status()
    assert [one.name for one in found.agents] == ["ada", "bob"]
    assert found.newest == {"ada": DEPLOYMENT}


def test_a_daemon_of_another_version() -> None:
    """An answer that is not understood is told as such, with the field."""
    problem = daemon_facts(lambda _: {"version": "9"}).problem
    assert problem is not None
    assert (problem.code, "pid" in problem.message) == ("bad_answer", True)


def test_variables_that_the_daemon_lacks() -> None:
    """Variables of pass_environment that are not set are named."""
    found = check_hive(DaemonFacts(status(missing_environment=["ANTHROPIC_API_KEY"])), SETTINGS, "1.0")[1]
    assert (found.check, found.severity) == ("environment", "warning")
    assert "ANTHROPIC_API_KEY" in found.what and found.remedy


def test_the_database() -> None:
    """A database that is whole is ok; one that is damaged, missing or empty beside applied repositories is an error."""
    assert check_state(StateFacts()) == []
    assert severities(check_state(StateFacts(schema=7))) == {"database": "ok"}
    for state, words in (
        (StateFacts(problem=HiveError("database_damaged", "it is damaged", hint="restore")), "it is damaged"),
        (StateFacts(lost=["ada", "bob"]), "(ada, bob), and the database is missing"),
        (StateFacts(schema=7, lost=["ada"]), "(ada), and the database knows nothing of them"),
    ):
        (found,) = check_state(state)
        assert found.severity == "error" and words in found.what and found.remedy


def test_agents_that_cannot_work() -> None:
    """Agents without the program of their backend, or without a login, are named with what to do."""
    agents = [AgentStatus.model_validate(agent(name, backend=backend, state=state)) for name, backend, state in (
        ("ada", "codex", "idle"), ("bob", "claude", "needs_login"), ("cleo", "scripted", "idle"),
    )]  # fmt: skip
    found = check_backends(agents, {"codex": "codex", "gemini": "gemini"})
    assert [(one.check, one.what.split()[0]) for one in found] == [("program", "ada"), ("login", "bob")]
    assert "codex is not installed" in found[0].what and "hive-c0re open bob" in found[1].remedy


def test_protection_of_credentials_is_told() -> None:
    """The doctor says which of the two protects credentials, why it is not the better one, and which are lost."""
    assert check_credentials(CredentialFacts()) == []
    assert "systemd-creds seals to this host" in check_credentials(CredentialFacts("systemd-creds"))[0].what
    [found] = check_credentials(CredentialFacts("key-file", "only root may use the host's key"))
    assert (found.severity, "mode 0600 (only root may use" in found.what) == ("ok", True)
    lost, _ = check_credentials(CredentialFacts("key-file", "", ["0123: encrypted with another key"]))
    assert (lost.severity, lost.what) == (
        "warning", "a key of credentials cannot be used: 0123: encrypted with another key",
    )  # fmt: skip


def test_keys_of_providers(tmp_path: Path) -> None:
    """A provider whose key is missing, or could be read by others, is named, and so is a relay that does not run."""
    for name, mode in (("good", 0o600), ("open", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    providers = {name: {"api": "openai", "keys": [name]} for name in ("good", "open", "gone")}
    settings = Settings.model_validate({"relay": {"credentials": tmp_path, "providers": providers}})
    problems = unusable_keys(settings)
    assert sorted(problems) == ["gone", "open"]
    found = check_providers(settings, problems, "")
    assert [each.severity for each in found] == ["error", "error"]
    assert "the provider open of models cannot use its key open" in found[0].what and "0600" in found[0].what
    assert "No such file" in found[1].what
    only = settings.model_copy(update={"relay": settings.relay.model_copy(update={"providers": {}})})
    assert check_providers(only, {}, "the relay does not run") == []
    assert severities(check_providers(settings, {}, "")) == {"providers": "ok"}
    assert severities(check_providers(settings, {}, "the relay does not run")) == {"relay": "error"}
    unset = Settings.model_validate({"relay": {"providers": providers}})
    assert "relay.credentials is missing" in unusable_keys(unset)["good"]
