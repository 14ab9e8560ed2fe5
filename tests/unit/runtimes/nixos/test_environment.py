"""What a container's harness is told in a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos import environment, replacing
from tests.unit.core.runtimes.nixos.builders import spec_of


def test_the_file_tells_what_the_harness_needs(tmp_path: Path) -> None:
    """Where its directories are in the container, the deployment, its port, who it is to git, and what is passed on."""
    spec = spec_of(tmp_path, deployment=7, environment={"API_KEY": 'a "$b" `c` \\ d\ne', "HIVE_AGENT_PORT": "1"})
    environment.write(spec)
    path = environment.place(spec.paths.run)
    assert path.stat().st_mode & 0o777 == 0o600
    # A shell's double quotes take the same escapes as systemd's.
    shell = ["env", "-i", "sh", "-c", f"unset PWD; set -a; . {path}; exec env -0"]
    printed = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    told = dict(line.split("=", 1) for line in printed.split("\0") if line)
    assert told == {
        "API_KEY": 'a "$b" `c` \\ d\ne',
        "GIT_AUTHOR_EMAIL": "ada@hive",
        "GIT_AUTHOR_NAME": "ada",
        "GIT_COMMITTER_EMAIL": "ada@hive",
        "GIT_COMMITTER_NAME": "ada",
        "HIVE_AGENT_APPLIED": "/applied",
        "HIVE_AGENT_CLAUDE": "/root/.claude",
        "HIVE_AGENT_CONFIG": "/config",
        "HIVE_AGENT_DEPLOYED": "/etc/hyperhive/agent",
        "HIVE_AGENT_DEPLOYMENT": "7",
        "HIVE_AGENT_PORT": "8123",
        "HIVE_AGENT_RUN": "/run/hive",
        "HIVE_AGENT_STATE": "/state",
    }


def test_the_deployment_is_read_back(tmp_path: Path) -> None:
    """A daemon that comes back tells by it whether a container is as it should be, however odd the other values."""
    spec = spec_of(tmp_path, deployment=7, environment={"A": 'x\nHIVE_AGENT_DEPLOYMENT="6" '})
    assert not environment.tells(spec)
    environment.write(spec)
    assert environment.tells(spec)
    assert not environment.tells(spec_of(tmp_path, deployment=8))


@pytest.mark.parametrize("variables", [{"A B": "x"}, {"": "x"}, {"A": "\x1b[31m"}, {"1A": "x"}])
def test_what_systemd_would_leave_out_is_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    """A variable that would be missing in the container without a word is an error that names it."""
    with pytest.raises(HiveError) as refused:
        environment.write(spec_of(tmp_path, environment=variables))
    assert refused.value.code == "bad_environment" and refused.value.hint


def test_a_link_in_the_files_place_is_replaced_not_followed(tmp_path: Path) -> None:
    """Whatever lies there, the daemon as root writes to nothing else, and reads nothing else."""
    victim = tmp_path / "victim"
    victim.write_text('HIVE_AGENT_DEPLOYMENT="7"\n')
    spec = spec_of(tmp_path, deployment=7)
    environment.place(spec.paths.run).symlink_to(victim)
    assert not environment.tells(spec)
    environment.write(spec)
    assert victim.read_text() == 'HIVE_AGENT_DEPLOYMENT="7"\n'
    assert not environment.place(spec.paths.run).is_symlink() and environment.tells(spec)


def test_replacing_leaves_nothing_beside_and_says_whether_it_changed(tmp_path: Path) -> None:
    """What is right already is not written again, and a failed write leaves neither a part nor a temporary file."""
    path = tmp_path / "file"
    assert replacing.replace(path, "a", 0o600) and not replacing.replace(path, "a", 0o600)
    with pytest.raises(UnicodeEncodeError):
        replacing.replace(path, "\udc80", 0o600, durable=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "a"
