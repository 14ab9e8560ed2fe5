"""The lines of a container's conf file: which are put in, which are left alone."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.doctor import dns
from hive_core.errors import HiveError
from hive_core.infra.storage import files
from hive_core.runtimes.base import HostBind, RepositoryMount
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.containers.config_files import conf_value, rewritten_conf
from tests.unit.core.runtimes.nixos.builders import spec_of

CREATED = """\
PRIVATE_NETWORK=1
HOST_ADDRESS=10.233.1.1
LOCAL_ADDRESS=10.233.1.2
HOST_BRIDGE=
HOST_PORT=
AUTO_START=0
"""
OWNED = {"PRIVATE_NETWORK": "0", "HOST_ADDRESS": "", "LOCAL_ADDRESS": "", "EXTRA_NSPAWN_FLAGS": "--bind=/a:/b --quiet"}


def test_owned_lines_are_put_in_and_all_others_kept() -> None:
    """Lines that are there keep their place, new ones come last, and what is somebody else's is left as it is."""
    mine = "# by hand\nINTERFACES=eth7\n" + CREATED + "  ODD = 1\nno line at all\n"
    assert rewritten_conf(mine, OWNED) == (
        "# by hand\nINTERFACES=eth7\nPRIVATE_NETWORK=0\nHOST_ADDRESS=\nLOCAL_ADDRESS=\nHOST_BRIDGE=\nHOST_PORT=\n"
        'AUTO_START=0\n  ODD = 1\nno line at all\nEXTRA_NSPAWN_FLAGS="--bind=/a:/b --quiet"\n'
    )


def test_a_key_that_is_there_twice_ends_up_there_once() -> None:
    """The last one would win: so none of them may stay."""
    assert rewritten_conf("A=1\nB=2\n A = 3\n", {"A": "4"}) == "A=4\nB=2\n"


def test_a_line_that_goes_on_is_one_line() -> None:
    """After a backslash at its end a line goes on: what looks like a key there is none, and goes with its line."""
    text = "X=a\\\nA=1\nA=b\\\nB=2\n"
    assert rewritten_conf(text, {"A": "4"}) == "X=a\\\nA=1\nA=4\n"


def test_a_missing_end_of_line_is_put_in() -> None:
    """A file that was written by hand may lack the last one; ours does not become part of that line."""
    assert rewritten_conf("B=2", {"A": "1"}) == "B=2\nA=1\n"
    assert rewritten_conf("", {"A": "1"}) == "A=1\n"


@pytest.mark.parametrize("value", ["a\nB=1", 'a"b', "a$b", "a\\", "a'b", "a`b", "a#b"])
def test_a_value_that_would_not_come_through_is_refused(value: str) -> None:
    """Nothing is escaped here, as one reader would take it differently from the other: such a value is a mistake."""
    with pytest.raises(ValueError, match="cannot hold"):
        rewritten_conf("", {"A": value})


@given(st.text(st.sampled_from('AB=\\\n #"x'), max_size=60), st.dictionaries(st.sampled_from("ABC"), st.just("1 2")))
def test_rewriting_again_changes_nothing(text: str, owned: dict[str, str]) -> None:
    """It may be done before every start; what was written is found, whatever else is in the file."""
    once = rewritten_conf(text, owned)
    assert rewritten_conf(once, owned) == once
    if not text.rstrip("\n").endswith("\\"):
        assert all(conf_value(once, key) == value for key, value in owned.items())


def test_an_agent_is_shown_its_own_directories_and_its_history(tmp_path: Path) -> None:
    """Only what is its own can be written, and only by the container's root, which is nobody on the host."""
    lines = config_files.bind_settings(spec_of(tmp_path), user_namespaces=True, by_flag=False)
    home, run = tmp_path / "state/agents/ada", tmp_path / "run/agents/ada"
    assert lines.pop("EXTRA_NSPAWN_FLAGS").split() == [
        f"--bind-ro={run}:/run/hive:rootidmap",
        f"--bind={home}/state:/state:rootidmap",
        f"--bind={home}/claude:/root/.claude:rootidmap",
        f"--bind={home}/config:/config:rootidmap",
        f"--bind={home}/code:/code:rootidmap",
        f"--bind-ro={tmp_path}/state/applied/ada.git:/applied/ada.git:rootidmap",
        "--link-journal=no",
    ]
    assert lines == {
        "SYSTEM_PATH": "/nix/store/aaa-system",
        "PRIVATE_NETWORK": "0",
        "PRIVATE_USERS": "pick",
        **dict.fromkeys(["HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "HOST_BRIDGE"], ""),
    }


def test_what_of_the_host_an_agent_was_given_is_bound(tmp_path: Path) -> None:
    """Secrets and offered directories are mapped to the container's root; device nodes are bound as they are."""
    binds = (HostBind("data", Path("/srv/data"), writable=False), HostBind("drop", Path("/srv/drop"), writable=True))
    spec = replace(spec_of(tmp_path), secrets=tmp_path / "s", binds=binds, devices=(Path("/dev/kvm"),))
    flags = config_files.bind_settings(spec, user_namespaces=True, by_flag=False)["EXTRA_NSPAWN_FLAGS"].split()
    assert {
        f"--bind-ro={tmp_path}/s:/run/hive/secrets:rootidmap",
        "--bind-ro=/srv/data:/binds/data:rootidmap",
        "--bind=/srv/drop:/binds/drop:rootidmap",
        "--bind=/dev/kvm",
    } <= set(flags)
    assert {tmp_path / "s", Path("/srv/data"), Path("/srv/drop")} <= set(config_files.bound_directories(spec))


def test_the_manager_is_shown_everybodys_history(tmp_path: Path) -> None:
    """All of the applied repositories, read-only."""
    lines = config_files.bind_settings(spec_of(tmp_path, "hm1nd", kind="manager"), user_namespaces=True, by_flag=False)
    assert f"--bind-ro={tmp_path}/state/applied:/applied:rootidmap" in lines["EXTRA_NSPAWN_FLAGS"].split()


def test_the_mirrors_of_repositories(tmp_path: Path) -> None:
    """A container sees the mirrors of its repositories, read-only, and its harness is told where they are."""
    mirror = tmp_path / "state/repos/web.git"
    spec = replace(spec_of(tmp_path), repositories=(RepositoryMount("web", mirror),))
    lines = config_files.bind_settings(spec, user_namespaces=True, by_flag=False)
    assert f"--bind-ro={mirror}:/repos/web.git:rootidmap" in lines["EXTRA_NSPAWN_FLAGS"].split()
    assert mirror in config_files.bound_directories(spec)
    assert config_files.harness_variables(spec)["HIVE_AGENT_REPOS"] == '{"web": "/repos/web.git"}'


def test_a_sealed_agent_has_no_network(tmp_path: Path) -> None:
    """Its network is its own and leads nowhere."""
    lines = config_files.bind_settings(spec_of(tmp_path, sealed=True), user_namespaces=True, by_flag=False)
    assert lines["PRIVATE_NETWORK"] == "1" and lines["LOCAL_ADDRESS"] == lines["HOST_BRIDGE"] == ""


def test_an_agent_with_the_hosts_network_is_shown_the_hosts_dns(tmp_path: Path) -> None:
    """The directory, so that a new file in it is there at once."""
    spec = replace(spec_of(tmp_path), dns=tmp_path / "run/dns")
    flags = config_files.bind_settings(spec, user_namespaces=True, by_flag=False)["EXTRA_NSPAWN_FLAGS"].split()
    assert f"--bind-ro={tmp_path}/run/dns:/run/hive-dns:rootidmap" in flags
    conf = tmp_path / "h-ada.conf"
    conf.write_text(f'PRIVATE_NETWORK=0\nEXTRA_NSPAWN_FLAGS="{" ".join(flags)}"\n')
    assert dns.follows_dns(conf, tmp_path / "run/dns")
    conf.write_text('PRIVATE_NETWORK=0\nEXTRA_NSPAWN_FLAGS="--link-journal=no"\n')
    assert not dns.follows_dns(conf, tmp_path / "run/dns")
    conf.write_text("PRIVATE_NETWORK=1\n")
    assert dns.follows_dns(conf, tmp_path / "run/dns")


def test_users_of_their_own_on_every_release(tmp_path: Path) -> None:
    """Where the unit does not know PRIVATE_USERS, nspawn is told; where they are switched off, nothing is mapped."""
    spec = spec_of(tmp_path)
    old = config_files.bind_settings(spec, user_namespaces=True, by_flag=True)["EXTRA_NSPAWN_FLAGS"].split()
    assert old[0] == "--private-users=pick"
    off = config_files.bind_settings(spec, user_namespaces=False, by_flag=True)
    assert off["PRIVATE_USERS"] == "no"
    assert "--private-users" not in off["EXTRA_NSPAWN_FLAGS"] and "idmap" not in off["EXTRA_NSPAWN_FLAGS"]


@pytest.mark.parametrize(
    "part", ["a b", "a$b", "a:b", "a*", "a?", "a[b", "a\\b", "a'b", 'a"b', "a\tb", "é", "a;b", "~"]
)
def test_a_path_that_the_flags_would_change_is_refused(part: str) -> None:
    """The shell and nspawn would take it for something else; said before anything is started."""
    config_files.check_carried([Path("/srv/hive-1/a.b_c@d,e=f%g+h")])
    with pytest.raises(HiveError) as refused:
        config_files.check_carried([Path("/srv", part, "hive")])
    assert refused.value.code == "path_not_carried" and refused.value.hint


def test_the_file_tells_what_the_harness_needs(tmp_path: Path) -> None:
    """Where its directories are in the container, the deployment, its port, who it is to git, and what is passed on."""
    spec = spec_of(tmp_path, deployment=7, environment={"API_KEY": 'a "$b" `c` \\ d\ne', "HIVE_AGENT_PORT": "1"})
    config_files.write_environment(spec)
    path = config_files.environment_file(spec.paths.run)
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
        "HIVE_AGENT_CODE": "/code",
        "HIVE_AGENT_CONFIG": "/config",
        "HIVE_AGENT_DEPLOYED": "/deployed",
        "HIVE_AGENT_DEPLOYMENT": "7",
        "HIVE_AGENT_PORT": "8123",
        "HIVE_AGENT_RUN": "/run/hive",
        "HIVE_AGENT_STATE": "/state",
    }


def test_the_deployment_is_read_back(tmp_path: Path) -> None:
    """A daemon that comes back tells by it whether a container is as it should be, however odd the other values."""
    spec = spec_of(tmp_path, deployment=7, environment={"A": 'x\nHIVE_AGENT_DEPLOYMENT="6" '})
    assert not config_files.has_environment(spec)
    config_files.write_environment(spec)
    assert config_files.has_environment(spec)
    assert not config_files.has_environment(spec_of(tmp_path, deployment=8))


@pytest.mark.parametrize("variables", [{"A B": "x"}, {"": "x"}, {"A": "\x1b[31m"}, {"1A": "x"}])
def test_what_systemd_would_leave_out_is_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    """A variable that would be missing in the container without a word is an error that names it."""
    with pytest.raises(HiveError) as refused:
        config_files.write_environment(spec_of(tmp_path, environment=variables))
    assert refused.value.code == "bad_environment" and refused.value.hint


def test_a_link_in_the_files_place_is_replaced_not_followed(tmp_path: Path) -> None:
    """Whatever lies there, the daemon as root writes to nothing else, and reads nothing else."""
    victim = tmp_path / "victim"
    victim.write_text('HIVE_AGENT_DEPLOYMENT="7"\n')
    spec = spec_of(tmp_path, deployment=7)
    config_files.environment_file(spec.paths.run).symlink_to(victim)
    assert not config_files.has_environment(spec)
    config_files.write_environment(spec)
    assert victim.read_text() == 'HIVE_AGENT_DEPLOYMENT="7"\n'
    assert not config_files.environment_file(spec.paths.run).is_symlink() and config_files.has_environment(spec)


def test_replacing_leaves_nothing_beside_and_says_whether_it_changed(tmp_path: Path) -> None:
    """What is right already is not written again, and a failed write leaves neither a part nor a temporary file."""
    path = tmp_path / "file"
    assert files.replace(path, "a", 0o600) and not files.replace(path, "a", 0o600)
    with pytest.raises(UnicodeEncodeError):
        files.replace(path, "\udc80", 0o600, durable=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "a"
