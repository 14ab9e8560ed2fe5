"""The command lines of transfers, which everybody on the host can read."""

from __future__ import annotations

from pathlib import Path

from hive_core.work.repositories.upstream.access import UpstreamAccess, git
from hive_core.work.repositories.upstream.confinement import UpstreamCommand
from hive_core.work.repositories.upstream.source import parse_source
from hive_core.work.repositories.upstream.unit import unit_arguments

SECRET = b"hunter2"


def test_no_secret_is_in_an_argument_or_a_variable() -> None:
    """A token is in neither the arguments nor the environment; a unit gets it from systemd as a file."""
    access = UpstreamAccess(parse_source("https://bot@git.example.org/a.git"), "token", SECRET)
    environment = access.environment(Path("/scratch"))
    command = UpstreamCommand(git("fetch"), environment, (Path("/mirror"),), (Path("/objects"),), SECRET)
    line = unit_arguments("/bin/systemd-run", "u.service", [Path("/state")], command, Path("/run/c"))
    assert "hunter2" not in " ".join(line) + repr(environment) + repr(access) + repr(command)
    assert "--property=LoadCredential=secret:/run/c" in line
    assert "--setenv=HIVE_SECRET=/run/credentials/u.service/secret" in line
    assert environment["HIVE_ASK_PASSWORD"] == "Password for 'https://bot@git.example.org': "


def test_a_unit_is_confined() -> None:
    """A unit has a user of its own, no capability, and only its directories of the hive."""
    command = UpstreamCommand(("git", "x"), {}, (Path("/state/m"),), (Path("/state/o"),))
    line = unit_arguments("systemd-run", "u.service", [Path("/state")], command, None)
    for setting in (
        "DynamicUser=yes",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "TemporaryFileSystem=/state:mode=0755,size=1M",
        "BindReadOnlyPaths=/state/m:/state/m",
        "BindPaths=/state/o:/state/o",
    ):
        assert f"--property={setting}" in line
