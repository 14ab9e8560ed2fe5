"""What the host says about its containers, and what is said when something is missing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos import host_checks
from hive_core.runtimes.nixos.containers.inspection import HostPaths, agent_of, unit_name
from hive_core.runtimes.nixos.host_checks import check_programs, inspect_unit

_BUSCTL = """#!/bin/sh
case "$*" in
    *" LoadUnit "*) echo '{{"type":"o","data":["/org/freedesktop/systemd1/unit/u"]}}' ;;
    *" LoadState") echo '{{"type":"s","data":"{load}"}}' ;;
    *) cat {shown} ;;
esac
"""

Say = Callable[..., None]


@pytest.fixture
def busctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Sets what systemd answers on the bus: the state of the unit, and the values of its properties."""
    program, shown = tmp_path / "bin" / "busctl", tmp_path / "shown"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def say(*, load: str = "loaded", files: object = (), environment: object = (), start: object = ()) -> None:
        program.write_text(_BUSCTL.format(load=load, shown=shown))
        program.chmod(0o755)
        types = {"a(sb)": files, "as": environment, "a(sasbttttuii)": start}
        shown.write_text("".join(f"{json.dumps({'type': kind, 'data': data})}\n" for kind, data in types.items()))

    return say


@pytest.mark.parametrize(("text", "known"), [("[ -z ${PRIVATE_USERS-} ]", True), ("exec systemd-nspawn", False)])
async def test_the_unit_says_where_containers_lie_and_what_it_knows(
    busctl: Say, tmp_path: Path, text: str, known: bool
) -> None:
    """Older hosts have other directories, and a script that knows nothing of users."""
    script = tmp_path / "start"
    script.write_text(text)
    busctl(
        files=[["/etc/default/all", False], ["/etc/containers/hm1nd.conf", True]],
        environment=["root=/var/lib/containers/hm1nd", "INSTANCE=hm1nd", "PATH=/a b:/c"],
        start=[[str(script), [str(script)], False, 0, 0, 0, 0, 0, 0, 0]],
    )
    facts = await inspect_unit()
    assert (facts.host_paths.conf_dir, facts.host_paths.root_dir) == (
        Path("/etc/containers"),
        Path("/var/lib/containers"),
    )
    assert facts.knows_private_users is known


async def test_a_unit_that_says_less_has_the_usual_directories(busctl: Say) -> None:
    """Without a conf file and a root directory of its own, those of the NixOS module are meant."""
    busctl(environment=["root=elsewhere", "EMPTY"])
    facts = await inspect_unit()
    assert facts.host_paths == HostPaths() and not facts.knows_private_users


async def test_a_host_without_the_unit_is_refused_with_the_remedy(busctl: Say) -> None:
    """Containers have to be switched on where none is declared."""
    busctl(load="not-found")
    with pytest.raises(HiveError) as refused:
        await inspect_unit()
    assert refused.value.code == "no_container_unit" and "boot.enableContainers = true" in refused.value.hint


@pytest.mark.parametrize("answer", ["hello", "{}", "[]", '{"data": []}', '{"data": [7]}'])
async def test_an_answer_of_another_form_is_refused(busctl: Say, tmp_path: Path, answer: str) -> None:
    """What busctl says is not guessed at."""
    busctl()
    (tmp_path / "bin" / "busctl").write_text(f"#!/bin/sh\necho '{answer}'\n")
    with pytest.raises(HiveError, match="in a form that is not known"):
        await inspect_unit()


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HiveError) as refused:
        check_programs()
    assert refused.value.code == "no_nixos_container" and "nixos-container" in refused.value.message


def test_units_of_agents_are_told_from_others() -> None:
    """By their names: those of the hive's containers, and no instance of another's."""
    containers = ("h-ada", "h-my-bot", "hm1nd")
    assert [agent_of(unit_name(container)) for container in containers] == ["ada", "my-bot", "hm1nd"]
    others = ("web", "h-", "h-Ada", "h-hm1nd", "h-abcdefghij", "h-ada-", "h--ada", "ada")
    assert [agent_of(unit_name(container)) for container in others] == [None] * len(others)
    assert agent_of("hive-build-ada-1.service") is None


def may_mount() -> bool:
    """Whether this process may do what the daemon of a container host may."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


async def test_a_file_system_without_idmapped_mounts_is_said() -> None:
    """/proc never has them; where it cannot be tried at all, nothing is said, as in most containers."""
    if not may_mount():
        await host_checks.check_id_mapping([Path("/proc")])
        return
    with pytest.raises(HiveError) as refused:
        await host_checks.check_id_mapping([Path("/proc")])
    assert refused.value.code == "no_idmapped_mounts" and "nixos.user_namespaces = false" in refused.value.hint
