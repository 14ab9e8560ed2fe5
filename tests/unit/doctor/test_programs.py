"""Judging the programs of a host: git, bubblewrap, Nix, systemd."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.doctor.containers import ContainerFacts, judge_containers
from hive_core.doctor.findings import Finding, Severity
from hive_core.doctor.nix import NixFacts, judge_nix
from hive_core.doctor.programs import judge_bubblewrap, judge_git
from hive_core.doctor.said import Said, version
from hive_core.settings import NixOS, Settings

NIX = NixFacts(Said("nix (Nix) 2.18.1\n"), Said("cores = 0\nexperimental-features = flakes nix-command\n"), "answers")
CONTAINERS = ContainerFacts(Said("systemd 255 (255.4)\n+PAM\n"), True, True, Said("LoadState=loaded\n"))
NIXOS = Settings(runtime="nixos")


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    found = {each.check: each for each in findings}
    assert len(found) == len(findings)
    assert all(bool(each.remedy) == (each.severity != "ok") for each in findings), "what is not well has a remedy"
    return found


def severities(findings: list[Finding]) -> dict[str, Severity]:
    return {check: each.severity for check, each in by_check(findings).items()}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("git version 2.39.5", (2, 39, 5)),
        ("git version 2.44.0.windows.1", (2, 44, 0)),
        ("nix (Lix, like Nix) 2.91.1", (2, 91, 1)),
        ("systemd 252 (252.39-1~deb12u2)", (252,)),
        ("nothing", ()),
        ("", ()),
    ],
)
def test_versions(text: str, number: tuple[int, ...]) -> None:
    """The first number in an answer is its version, however many parts it has."""
    assert version(Said(text)) == number


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        (Said("git version 2.36.0"), "ok"),
        (Said("git version 3.0"), "ok"),
        (Said("git version 2.35.8"), "error"),
        (Said("hello"), "error"),
        (Said(failed="killed by SIGSEGV"), "error"),
        (Said(missing=True, failed="not installed"), "error"),
    ],
)
def test_git(said: Said, severity: Severity) -> None:
    """git has to be there, say its version, and be new enough."""
    assert severities([judge_git(said)]) == {"git": severity}


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        ({}, "warning"),
        ({"sandbox": "none"}, "warning"),
        ({"sandbox": "bubblewrap"}, "error"),
        ({"runtime": "nixos", "sandbox": "bubblewrap"}, "warning"),
    ],
)
def test_bubblewrap_that_does_not_work(settings: dict[str, Any], severity: Severity) -> None:
    """An error where it was asked for, and the daemon would not start; else the hive works without, less safely."""
    assert judge_bubblewrap("no user namespaces", Settings(**settings)).severity == severity
    assert judge_bubblewrap("", Settings(**settings)).severity == "ok"


def test_nix_that_has_all() -> None:
    """Nothing to say about a good Nix."""
    assert severities(judge_nix(NIX, NIXOS)) == {"nix": "ok", "nix-features": "ok", "nix-daemon": "ok"}


@pytest.mark.parametrize("said", [Said(missing=True), Said("nix 2.7.1"), Said(failed="exit code 1"), Said("?")])
def test_no_nix_is_told_once(said: Said) -> None:
    """Without Nix, or with one that is too old, nothing else about it is judged."""
    assert severities(judge_nix(NixFacts(said, Said(failed="x"), "absent"), NIXOS)) == {"nix": "error"}


@pytest.mark.parametrize(
    ("config", "severity", "word"),
    [
        (Said("experimental-features = nix-command\n"), "warning", "flakes is not enabled"),
        (Said("experimental-features = \n"), "warning", "nix-command and flakes are not enabled"),
        (
            Said(failed="error: experimental Nix feature 'nix-command' is disabled; use"),
            "warning",
            "nix-command is not",
        ),
        (Said(failed="exit code 1"), "warning", "exit code 1"),
        (Said("cores = 0\n"), "warning", "names no experimental-features"),
        (
            Said("extra-experimental-features = flakes\nexperimental-features = ca flakes nix-command\n"),
            "ok",
            "enabled",
        ),
    ],
)
def test_features_of_nix(config: Said, severity: Severity, word: str) -> None:
    """What is not enabled is named; the hive works all the same, so that is no error, nor what cannot be found out."""
    finding = by_check(judge_nix(NixFacts(NIX.version, config, "answers"), NIXOS))["nix-features"]
    assert finding.severity == severity
    assert word in finding.what


@pytest.mark.parametrize(
    ("daemon", "build_user", "severity"),
    [
        ("absent", "auto", "warning"),
        ("absent", "root", "ok"),
        ("absent", "dynamic", "error"),
        ("refuses", "auto", "error"),
        ("forbidden", "dynamic", "warning"),
    ],
)
def test_the_nix_daemon(daemon: Any, build_user: Any, severity: Severity) -> None:
    """Without one builds run as root, which is what was asked for, a pity, or an error."""
    settings = Settings(runtime="nixos", nixos=NixOS(build_user=build_user))
    assert severities(judge_nix(NixFacts(NIX.version, NIX.config, daemon), settings))["nix-daemon"] == severity


def test_containers_that_can_be_run() -> None:
    """systemd, the program and the unit are there."""
    assert severities(judge_containers(CONTAINERS)) == {
        "systemd": "ok",
        "nixos-container": "ok",
        "container-unit": "ok",
    }


@pytest.mark.parametrize(
    ("facts", "check", "severity"),
    [
        (ContainerFacts(Said("systemd 249"), True, True, CONTAINERS.unit), "systemd", "warning"),
        (ContainerFacts(Said(failed="?"), True, True, CONTAINERS.unit), "systemd", "error"),
        (ContainerFacts(CONTAINERS.systemd, False, True, Said(failed="not booted")), "systemd", "error"),
        (ContainerFacts(CONTAINERS.systemd, True, False, CONTAINERS.unit), "nixos-container", "error"),
        (ContainerFacts(CONTAINERS.systemd, True, True, Said("LoadState=not-found")), "container-unit", "error"),
        (ContainerFacts(CONTAINERS.systemd, True, True, Said(failed="no bus")), "container-unit", "error"),
    ],
)
def test_containers_that_cannot(facts: ContainerFacts, check: str, severity: Severity) -> None:
    """Each thing that is missing is named, and nothing else."""
    found = severities(judge_containers(facts))
    assert {name: each for name, each in found.items() if each != "ok"} == {check: severity}
