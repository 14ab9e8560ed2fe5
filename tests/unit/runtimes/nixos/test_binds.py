"""What a container is shown of the host, and how it is set up."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos import binds
from tests.unit.core.runtimes.nixos.builders import spec_of


def test_an_agent_is_shown_its_own_directories_and_its_history(tmp_path: Path) -> None:
    """Only what is its own can be written, and only by the container's root, which is nobody on the host."""
    lines = binds.lines(spec_of(tmp_path), user_namespaces=True, by_flag=False)
    home, run = tmp_path / "state/agents/ada", tmp_path / "run/agents/ada"
    assert lines.pop("EXTRA_NSPAWN_FLAGS").split() == [
        f"--bind-ro={run}:/run/hive:rootidmap",
        f"--bind={run}/own:/run/hive/own:rootidmap",
        f"--bind={home}/state:/state:rootidmap",
        f"--bind={home}/claude:/root/.claude:rootidmap",
        f"--bind={home}/config:/config:rootidmap",
        f"--bind-ro={tmp_path}/state/applied/ada.git:/applied/ada.git:rootidmap",
    ]
    assert lines == {
        "SYSTEM_PATH": "/nix/store/aaa-system",
        "PRIVATE_NETWORK": "0",
        "PRIVATE_USERS": "pick",
        **dict.fromkeys(["HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "HOST_BRIDGE"], ""),
    }


def test_the_manager_is_shown_everybodys_history(tmp_path: Path) -> None:
    """All of the applied repositories, read-only."""
    lines = binds.lines(spec_of(tmp_path, "hm1nd", kind="manager"), user_namespaces=True, by_flag=False)
    assert f"--bind-ro={tmp_path}/state/applied:/applied:rootidmap" in lines["EXTRA_NSPAWN_FLAGS"].split()


def test_a_sealed_agent_has_no_network(tmp_path: Path) -> None:
    """Its network is its own and leads nowhere."""
    lines = binds.lines(spec_of(tmp_path, sealed=True), user_namespaces=True, by_flag=False)
    assert lines["PRIVATE_NETWORK"] == "1" and lines["LOCAL_ADDRESS"] == lines["HOST_BRIDGE"] == ""


def test_users_of_their_own_on_every_release(tmp_path: Path) -> None:
    """Where the unit does not know PRIVATE_USERS, nspawn is told; where they are switched off, nothing is mapped."""
    spec = spec_of(tmp_path)
    old = binds.lines(spec, user_namespaces=True, by_flag=True)["EXTRA_NSPAWN_FLAGS"].split()
    assert old[0] == "--private-users=pick"
    off = binds.lines(spec, user_namespaces=False, by_flag=True)
    assert off["PRIVATE_USERS"] == "no"
    assert "--private-users" not in off["EXTRA_NSPAWN_FLAGS"] and "idmap" not in off["EXTRA_NSPAWN_FLAGS"]


@pytest.mark.parametrize(
    "part", ["a b", "a$b", "a:b", "a*", "a?", "a[b", "a\\b", "a'b", 'a"b', "a\tb", "é", "a;b", "~"]
)
def test_a_path_that_the_flags_would_change_is_refused(part: str) -> None:
    """The shell and nspawn would take it for something else; said before anything is started."""
    binds.check_carried([Path("/srv/hive-1/a.b_c@d,e=f%g+h")])
    with pytest.raises(HiveError) as refused:
        binds.check_carried([Path("/srv", part, "hive")])
    assert refused.value.code == "path_not_carried" and refused.value.hint
