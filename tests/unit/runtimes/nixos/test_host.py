"""What the host says about its containers, and what is said when something is missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos import idmapping
from hive_core.runtimes.nixos.host import check_programs, look_at_unit
from hive_core.runtimes.nixos.places import agent_of, unit_name

SHOWN = """\
ExecStart={{ path={script} ; argv[]={script} ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 }}
Environment="root={root}/hm1nd" INSTANCE=hm1nd "PATH=/a b:/c"
EnvironmentFiles={conf}/hm1nd.conf (ignore_errors=yes)
LoadState={load}
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Sets what `systemctl show` prints."""
    shown = tmp_path / "shown"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {shown}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return shown.write_text


@pytest.mark.parametrize(("text", "known"), [("[ -z ${PRIVATE_USERS-} ]", True), ("exec systemd-nspawn", False)])
async def test_the_unit_says_where_containers_lie_and_what_it_knows(
    systemctl: Callable[[str], object], tmp_path: Path, text: str, known: bool
) -> None:
    """Older hosts have other directories, and a script that knows nothing of users."""
    script = tmp_path / "start"
    script.write_text(text)
    systemctl(SHOWN.format(script=script, root="/var/lib/containers", conf="/etc/containers", load="loaded"))
    facts = await look_at_unit()
    assert (facts.places.conf_dir, facts.places.root_dir) == (Path("/etc/containers"), Path("/var/lib/containers"))
    assert facts.knows_private_users is known


async def test_a_host_without_the_unit_is_refused_with_the_remedy(systemctl: Callable[[str], object]) -> None:
    """Containers have to be switched on where none is declared."""
    systemctl(SHOWN.format(script="", root="", conf="", load="not-found"))
    with pytest.raises(HiveError) as refused:
        await look_at_unit()
    assert refused.value.code == "no_container_unit" and "boot.enableContainers = true" in refused.value.hint


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HiveError) as refused:
        check_programs()
    assert refused.value.code == "no_nixos_container" and "nixos-container" in refused.value.message


def test_units_of_agents_are_told_from_others() -> None:
    """By their names: those of the hive's containers, and no instance of another's."""
    assert [agent_of(unit_name(container)) for container in ("h-ada", "hm1nd")] == ["ada", "hm1nd"]
    others = ("web", "h-", "h-Ada", "h-hm1nd", "h-abcdefghij", "ada")
    assert [agent_of(unit_name(container)) for container in others] == [None] * len(others)
    assert agent_of("hive-build-ada-1.service") is None


def may_mount() -> bool:
    """Whether this process may do what the daemon of a container host may."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


async def test_a_file_system_without_idmapped_mounts_is_said() -> None:
    """/proc never has them; where it cannot be tried at all, nothing is said, as in most containers."""
    if not may_mount():
        await idmapping.check([Path("/proc")])
        return
    with pytest.raises(HiveError) as refused:
        await idmapping.check([Path("/proc")])
    assert refused.value.code == "no_idmapped_mounts" and "nixos.user_namespaces = false" in refused.value.hint
