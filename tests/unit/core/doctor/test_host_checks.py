"""Checks of a host: kernel, disks, sockets, programs."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import Any, Literal

import pytest

from hive_core.doctor.findings import CommandOutput, Finding, Severity, version
from hive_core.doctor.host_checks import (
    GIB,
    MIB,
    ContainerFacts,
    DiskSpace,
    FilePermissions,
    KernelFacts,
    SocketFacts,
    check_bubblewrap,
    check_cgroups,
    check_containers,
    check_disk_space,
    check_git,
    check_mounts,
    check_namespaces,
    check_permissions,
)
from hive_core.doctor.nix_checks import NixFacts, NixVersion, check_nix, nix_version
from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.unit.confinement import BUILD_USER
from hive_core.settings import NixOS, Settings

ALL = frozenset({"cpu", "memory", "pids", "io"})
SOCKET = stat.S_IFSOCK


@pytest.mark.parametrize(
    ("version", "controllers", "found"),
    [
        (2, ALL, {"cgroups": "ok"}),
        (1, ALL - {"io"} | {"blkio"}, {"cgroups": "warning"}),
        (2, ALL - {"memory"}, {"cgroups": "error"}),
        (2, ALL - {"io"}, {"cgroups": "ok", "cgroups-io": "warning"}),
        (1, frozenset(), {"cgroups": "error", "cgroups-io": "warning"}),
    ],
)
def test_control_groups(version: Literal[1, 2], controllers: frozenset[str], found: dict[str, Severity]) -> None:
    """Controllers that limits need are required; control groups of version 1 and no share of the disk are warnings."""
    assert severities(check_cgroups(KernelFacts(version, controllers, 1))) == found


def test_user_namespaces() -> None:
    """They must exist and be allowed; then each directory that cannot be shown in them is an error of its own."""
    assert severities(check_namespaces(KernelFacts(2, ALL, None), {})) == {"user-namespaces": "error"}
    assert severities(check_namespaces(KernelFacts(2, ALL, 0), {})) == {"user-namespaces": "error"}
    assert severities(check_namespaces(KernelFacts(2, ALL, 9), {})) == {"user-namespaces": "ok"}
    refused = HiveError("no_idmapped_mounts", "/state cannot be bound", hint="put it on ext4")
    found = check_namespaces(KernelFacts(2, ALL, 9), {"/run": None, "/state": refused})
    assert [(each.check, each.severity) for each in found[1:]] == [("idmap", "ok"), ("idmap", "error")]
    assert (found[2].what, found[2].remedy) == ("/state cannot be bound", "put it on ext4")


@pytest.mark.parametrize(
    ("free", "files", "severity"),
    [(3 * GIB, None, "ok"), (3 * GIB, 999, "error"), (GIB, 10**6, "warning"), (100 * MIB, 10**6, "error")],
)
def test_free_space(free: int, files: int | None, severity: Severity) -> None:
    """Too little space, and space for too few files, are findings; a file system may have no limit of files."""
    assert (
        check_disk_space(DiskSpace("disk", "/state", free, files, 256 * MIB, 2 * GIB, "clean up")).severity == severity
    )


def test_a_quota_that_is_used_up() -> None:
    """The file system has space, but not for the daemon."""
    found = check_disk_space(DiskSpace("disk", "/state", 3 * GIB, None, 256 * MIB, 2 * GIB, "clean up", True))
    assert (found.severity, found.remedy) == ("error", "clean up")
    assert "quota" in found.what


@pytest.mark.parametrize(
    ("socket", "group", "severity"),
    [
        (FilePermissions(SOCKET | 0o660, 0, 9), 9, "ok"),
        (FilePermissions(SOCKET | 0o600, 0, 0), None, "ok"),
        (FilePermissions(SOCKET | 0o600, 0, 0), 9, "error"),
        (FilePermissions(SOCKET | 0o660, 0, 8), 9, "error"),
        (FilePermissions(SOCKET | 0o666, 0, 9), 9, "error"),
        (FilePermissions(SOCKET | 0o606, 0, 0), None, "error"),
        (FilePermissions(stat.S_IFREG | 0o660, 0, 9), 9, "error"),
        (None, 9, None),
    ],
)
def test_the_operators_socket(socket: FilePermissions | None, group: int | None, severity: Severity | None) -> None:
    """Only its group may use it; a missing socket is no finding here, because the check of the daemon reports it."""
    found = severities(check_permissions(SocketFacts("/run/host.sock", socket, "hyperhive", group, {})))
    assert found.pop("group") == ("warning" if group is None else "ok")
    assert found == ({} if severity is None else {"host-socket": severity})


@pytest.mark.parametrize(("mode", "severity"), [(0o700, "ok"), (0o710, "error"), (0o755, "error"), (0o704, "error")])
def test_private_directories(mode: int, severity: Severity) -> None:
    """A right of any other user is an error; the remedy is a command."""
    (_, found) = check_permissions(
        SocketFacts("s", None, "g", 1, {"/state": FilePermissions(stat.S_IFDIR | mode, 0, 0)})
    )
    assert found.severity == severity
    assert found.remedy == ("" if severity == "ok" else "chmod 0700 /state")


SANDBOXED = {
    "sandbox": True,
    "sandbox-fallback": False,
    "build-users-group": "nixbld",
    "allowed-users": ["root", "@wheel", BUILD_USER],
    "trusted-users": ["root"],
}
NIX = NixFacts(CommandOutput("nix (Nix) 2.18.1\n"), "answers", SANDBOXED, features=frozenset({"flakes", "nix-command"}))
OLD_SCRIPT = 'exec "nsenter", "-t", $pid, "-m", "-u", "-i", "-n", "-p", "--", @command;'
NEW_SCRIPT = 'exec "nsenter", "--all", "-t", $pid, "--", @command;'
RELEASE = {"ID": "nixos", "VERSION_ID": "25.11"}
SYSTEMD = CommandOutput("systemd 255 (255.4)\n+PAM\n")
CONTAINERS = ContainerFacts(SYSTEMD, True, NEW_SCRIPT, CommandOutput("LoadState=loaded\n"), SYSTEMD, RELEASE)
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
    assert version(CommandOutput(text)) == number


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        (CommandOutput("git version 2.36.0"), "ok"),
        (CommandOutput("git version 3.0"), "ok"),
        (CommandOutput("git version 2.35.8"), "error"),
        (CommandOutput("hello"), "error"),
        (CommandOutput(failed="killed by SIGSEGV"), "error"),
        (CommandOutput(missing=True, failed="not installed"), "error"),
    ],
)
def test_git(said: CommandOutput, severity: Severity) -> None:
    """git has to be there, say its version, and be new enough."""
    assert severities([check_git(said)]) == {"git": severity}


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        ({}, "warning"),
        ({"sandbox": "none"}, "warning"),
        ({"sandbox": "bubblewrap"}, "error"),
        ({"runtime": "nixos"}, "error"),
    ],
)
def test_bubblewrap_that_does_not_work(settings: dict[str, Any], severity: Severity) -> None:
    """An error where it was asked for, and the daemon would not start; else the hive works without, less safely."""
    found = check_bubblewrap("no user namespaces", "allow them", Settings(**settings), CommandOutput())
    assert found.severity == severity
    if settings.get("sandbox") != "none":
        assert found.remedy == "allow them"
    finding = check_bubblewrap("", "", Settings(**settings), CommandOutput("bubblewrap 0.8.0\n"))
    assert finding.severity == "ok" and finding.what.startswith("bubblewrap works, version 0.8.0")
    assert ("a sealed agent has a loopback of its own" in finding.what) == (settings.get("runtime") != "nixos")


def test_nix_that_has_all() -> None:
    """A good Nix gives no reason to warn."""
    assert severities(check_nix(NIX, NIXOS)) == {
        "nix": "ok",
        "nix-features": "ok",
        "nix-sandbox": "ok",
        "nix-allowed-users": "ok",
        "nix-daemon": "ok",
    }


@pytest.mark.parametrize(
    "said",
    [CommandOutput(missing=True), CommandOutput("nix 2.7.1"), CommandOutput(failed="exit code 1"), CommandOutput("?")],
)
def test_no_nix_is_told_once(said: CommandOutput) -> None:
    """Without Nix, or with one that is too old, nothing else about it is judged."""
    assert severities(check_nix(NixFacts(said, "absent"), NIXOS)) == {"nix": "error"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nix (Nix) 2.8.0\n", NixVersion((2, 8, 0))),
        ("nix (Nix) 2.36.0pre20260801_88b09c6\n", NixVersion((2, 36, 0))),
        ("nix (Nix) 2.35pre20260101_abcdef0", NixVersion((2, 35))),
        ("nix (Lix, like Nix) 2.93.0\n", NixVersion((2, 93, 0), "Lix")),
        ("nix (Lix, like Nix) 2.90.0-lix", NixVersion((2, 90, 0), "Lix")),
        ("nix (Determinate Nix 3.14.0) 2.32.4\n", NixVersion((2, 32, 4), "Determinate Nix 3.14.0")),
        ("nix 2.7.1", NixVersion((2, 7, 1))),
        ("nix (Determinate Nix 3.14.0)", None),
        ("nix 2", None),
        ("", None),
    ],
)
def test_versions_of_nix(text: str, found: NixVersion | None) -> None:
    """Each distribution of Nix says the version of Nix itself last, and whose it is in parentheses."""
    assert nix_version(CommandOutput(text)) == found


@pytest.mark.parametrize(
    ("text", "severity", "word"),
    [
        ("nix (Nix) 2.34.8", "ok", "nix is 2.34.8"),
        ("nix (Nix) 2.36.0", "ok", "newer than the newest that was tested, 2.34"),
        ("nix (Determinate Nix 3.0.0) 2.6.1", "error", "too old"),
        ("nix (Determinate Nix 3.14.0) 2.32.4", "warning", "2.32.4 (Determinate Nix 3.14.0): only Nix itself"),
        ("nix (Lix, like Nix) 2.93.0", "warning", "2.93.0 (Lix): only Nix itself"),
    ],
)
def test_what_was_not_tested_is_told(text: str, severity: Severity, word: str) -> None:
    """Another distribution of Nix is a warning; a newer Nix than any that was tested is named."""
    finding = by_check(check_nix(replace(NIX, version=CommandOutput(text)), NIXOS))["nix"]
    assert (finding.severity, word in finding.what) == (severity, True)


@pytest.mark.parametrize(
    ("features", "severity", "word"),
    [
        ({"nix-command"}, "warning", "flakes is not enabled"),
        (set(), "warning", "nix-command and flakes are not enabled"),
        ({"flakes"}, "warning", "nix-command is not"),
        ({"nix-command", "flakes"}, "ok", "enabled"),
        (None, "warning", "it is not known if"),
    ],
)
def test_features_of_nix(features: set[str] | None, severity: Severity, word: str) -> None:
    """What is not enabled is named; the hive works all the same, so that is no error, nor what cannot be found out."""
    known = None if features is None else frozenset(features)
    finding = by_check(check_nix(replace(NIX, features=known), NIXOS))["nix-features"]
    assert finding.severity == severity
    assert word in finding.what


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {"nix-sandbox": "ok"}),
        ({"sandbox": "true", "sandbox-fallback": "false"}, {"nix-sandbox": "ok"}),
        ({"sandbox": "relaxed"}, {"nix-sandbox": "warning"}),
        ({"sandbox": False}, {"nix-sandbox": "warning"}),
        ({"sandbox-fallback": True}, {"nix-sandbox-fallback": "warning"}),
        ({"sandbox": None, "sandbox-fallback": None}, {"nix-sandbox": "warning", "nix-sandbox-fallback": "warning"}),
    ],
)
def test_the_sandbox_of_nix(changes: dict[str, object], found: dict[str, Severity]) -> None:
    """Builds are sandboxed, and never without it where it cannot be made; anything else is a warning."""
    facts = replace(NIX, settings=SANDBOXED | changes)
    judged = severities(check_nix(facts, NIXOS))
    assert {check: each for check, each in judged.items() if check.startswith("nix-sandbox")} == found


def test_settings_of_nix_that_are_not_told() -> None:
    """Without its settings nothing is taken for granted, and the reason is told."""
    finding = by_check(check_nix(replace(NIX, settings={}, unknown="exit code 1"), NIXOS))["nix-settings"]
    assert finding.severity == "warning" and "exit code 1" in finding.what


def test_locks_without_hashes() -> None:
    """A setting of Determinate Nix that leaves the hash out of locks is an error; lazy trees alone are not."""
    lazy = replace(NIX, settings=SANDBOXED | {"lazy-trees": True, "lazy-locks": False})
    assert "nix-lazy-locks" not in severities(check_nix(lazy, NIXOS))
    lazy = replace(NIX, settings=SANDBOXED | {"lazy-locks": True})
    assert severities(check_nix(lazy, NIXOS))["nix-lazy-locks"] == "error"


def test_root_builds_only_with_users_for_it() -> None:
    """Where builds run as root and Nix has no users for them, nothing can be built."""
    settings = Settings(runtime="nixos", nixos=NixOS(build_user="root"))
    facts = replace(NIX, settings=SANDBOXED | {"build-users-group": ""})
    assert severities(check_nix(facts, settings))["nix-build-users"] == "error"
    assert "nix-build-users" not in severities(check_nix(facts, NIXOS))


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
    assert severities(check_nix(replace(NIX, daemon=daemon), settings))["nix-daemon"] == severity


def test_containers_that_can_be_run() -> None:
    """systemd, the program and the unit are there, on a release that is supported."""
    assert severities(check_containers(CONTAINERS)) == {
        "nixos": "ok",
        "nspawn": "ok",
        "systemd": "ok",
        "nixos-container": "ok",
        "container-unit": "ok",
    }


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({"systemd": CommandOutput("systemd 249")}, "systemd", "warning"),
        ({"systemd": CommandOutput(failed="?")}, "systemd", "error"),
        ({"booted": False, "unit": CommandOutput(failed="not booted")}, "systemd", "error"),
        ({"nixos_container": None}, "nixos-container", "error"),
        ({"nixos_container": OLD_SCRIPT}, "nixos-container", "error"),
        ({"unit": CommandOutput("LoadState=not-found")}, "container-unit", "error"),
        ({"unit": CommandOutput(failed="no bus")}, "container-unit", "error"),
        ({"release": {"ID": "debian", "VERSION_ID": "13"}}, "nixos", "warning"),
        ({"release": {}}, "nixos", "warning"),
        ({"nspawn": CommandOutput(failed="not installed", missing=True)}, "nspawn", "error"),
        ({"nspawn": CommandOutput("hello")}, "nspawn", "error"),
        ({"release": {"ID": "nixos", "VERSION_ID": "24.11"}}, "nixos", "error"),
        ({"release": {"ID": "nixos", "VERSION_ID": "soon"}}, "nixos", "warning"),
    ],
)
def test_containers_that_cannot(changes: dict[str, Any], check: str, severity: Severity) -> None:
    """Each thing that is missing, too old or dangerous is named, and nothing else."""
    found = severities(check_containers(replace(CONTAINERS, **changes)))
    assert {name: each for name, each in found.items() if each != "ok"} == {check: severity}


@pytest.mark.parametrize("version", ["25.05", "25.11", "26.05", "26.05pre-git"])
def test_releases_that_are_supported(version: str) -> None:
    """From 25.05 on, and what is made of a branch under development."""
    found = check_containers(replace(CONTAINERS, release={"ID": "nixos", "VERSION_ID": version}))
    assert severities(found)["nixos"] == "ok"


@pytest.mark.parametrize("text", [NEW_SCRIPT, "", "#!/bin/sh\nexec other"])
def test_programs_that_enter_all_namespaces(text: str) -> None:
    """The program of 25.05, and one that cannot be read, are no reason to warn."""
    assert severities(check_containers(replace(CONTAINERS, nixos_container=text)))["nixos-container"] == "ok"


@pytest.mark.parametrize("flags", [0, os.ST_NOSUID, os.ST_NODEV])
def test_mounts_with_setuid_programs_or_devices(flags: int) -> None:
    """A directory of agents on such a mount is named, with what to do; one without both is none."""
    safe = os.ST_NOSUID | os.ST_NODEV
    finding = check_mounts({"/var/lib/hyperhive/agents": flags, "/var/lib/nixos-containers": safe})
    assert finding.severity == "warning" and "remount,bind,nosuid,nodev" in finding.remedy
    assert "/var/lib/hyperhive/agents" in finding.what and "nixos-containers" not in finding.what
    assert check_mounts({"/var/lib/hyperhive/agents": safe}).severity == "ok"
