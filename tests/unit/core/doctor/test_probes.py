"""Probes of a host: the kernel's files in their real form, directories on a real disk, and real programs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hive_core.doctor import probes
from hive_core.doctor.examination import examine
from hive_core.doctor.hive_checks import Unanswered
from hive_core.doctor.host_checks import KernelFacts
from hive_core.doctor.nix_checks import nix_version
from hive_core.layout import Layout
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix


def host(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_kernel_with_new_control_groups(tmp_path: Path) -> None:
    """The controllers are those that the kernel lists."""
    files = {"sys/fs/cgroup/cgroup.controllers": "cpu io memory\n", "proc/sys/user/max_user_namespaces": "512\n"}
    found = probes.read_kernel(host(tmp_path, files))
    assert found == KernelFacts(2, frozenset({"cpu", "io", "memory"}), 512)


def test_a_kernel_with_old_control_groups(tmp_path: Path) -> None:
    """Controllers that are disabled or mounted nowhere do not count; without their file there are no namespaces."""
    rows = ("#subsys_name hierarchy num_cgroups enabled", "cpu 1 1 1", "memory 4 9 0", "net_cls 0 1 1", "pids 8 1 1")
    table = "\n".join(row.replace(" ", "\t") for row in rows)
    found = probes.read_kernel(host(tmp_path, {"proc/cgroups": table}))
    assert found == KernelFacts(1, frozenset({"cpu", "pids"}), None)


def test_the_closure_that_a_container_is_started_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conf file of the container names it; a user who may not read that file gets None."""
    file = tmp_path / "h-ada.conf"
    assert probes.started_on(file) == ""
    file.write_text("SYSTEM_PATH=/nix/store/0123-nixos\nAUTO_START=0\n")
    assert probes.started_on(file) == "/nix/store/0123-nixos"
    link = tmp_path / "h-bob.conf"
    link.symlink_to(file)
    assert probes.started_on(link) == ""

    def refuse(path: Path) -> str | None:
        raise PermissionError(str(path))

    monkeypatch.setattr("hive_core.infra.storage.files.read", refuse)
    assert probes.started_on(file) is None


def test_permissions_and_free_space(tmp_path: Path) -> None:
    """Permissions of what exists are read; the space for what does not exist yet is that of its file system."""
    layout = Layout(tmp_path / "state", tmp_path / "run")
    found = probes.read_socket_facts(layout, "no such group")
    assert (found.socket, found.group, found.private) == (None, None, {})
    layout.state_dir.mkdir(mode=0o700)
    found = probes.read_socket_facts(layout, "root")
    assert found.group == 0 and found.private[str(layout.state_dir)].mode & 0o777 == 0o700
    (space,) = probes.read_disk_space(layout, store=False)
    assert space.directory == str(layout.state_dir) and space.free > 0
    assert not space.reserve_missing


def test_a_missing_reserve(tmp_path: Path) -> None:
    """It is noticed once a daemon has run there, and the advice is what works on a full disk."""
    layout = Layout(tmp_path / "state", tmp_path / "run")
    layout.intents.mkdir(parents=True)
    (space,) = probes.read_disk_space(layout, store=False)
    assert space.reserve_missing
    assert "hive-c0re stop NAME" in space.remedy and "hive-c0re destroy --purge NAME" in space.remedy
    layout.reserve.touch()
    (space,) = probes.read_disk_space(layout, store=False)
    assert not space.reserve_missing


def test_a_closure_exists(tmp_path: Path) -> None:
    """A path that exists is found, another is not."""
    layout = Layout(tmp_path, tmp_path / "run")
    assert probes.closure_exists(layout, str(tmp_path)) is True
    assert probes.closure_exists(layout, str(tmp_path / "gone")) is False
    closure = f"ada/{'a' * 40}"
    assert probes.closure_exists(layout, closure) is False
    (layout.closures / closure).mkdir(parents=True)
    assert probes.closure_exists(layout, closure) is True
    assert probes.closure_exists(layout, f"/srv/old/closures/{closure}") is True


async def test_output_of_programs() -> None:
    """The result is the output, the reason of a failure, or that the program is not installed."""
    assert (await probes.ask_host("sh", "-c", "echo 1.2")).text == "1.2\n"
    failed = await probes.ask_host("sh", "-c", "echo why >&2; exit 3")
    assert "why" in failed.failed and not failed.missing
    assert (await probes.ask_host("no-such-program-here")).missing


@needs_nix
@pytest.mark.parametrize("features", ["", "nix-command", "flakes", "nix-command flakes"])
async def test_the_features_of_a_real_nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: str) -> None:
    """The features that nix.conf switches on are found, and the settings are read whichever those are."""
    own = OwnNix(tmp_path)
    for name, text in own.variables.items():
        monkeypatch.setenv(name, text)
    file = own.directory / "conf/nix.conf"
    file.write_text(f"experimental-features = {features}\nsandbox = relaxed\nbuild-users-group =\n")
    found = await probes.nix()
    assert found.features == frozenset(features.split())
    assert (found.settings["sandbox"], found.unknown) == ("relaxed", "")
    assert nix_version(found.version) is not None


def test_connecting_to_a_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A socket that answers, one without a listener, and a missing one are told apart."""
    path = tmp_path_factory.mktemp("k") / "s"
    assert probes.probe_socket(path) == "absent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert probes.probe_socket(path) == "answers"
    assert probes.probe_socket(path) == "refuses"


@pytest.mark.parametrize("runtime", ["local", "nixos"])
def test_everything_is_examined_without_a_daemon(tmp_path: Path, runtime: str) -> None:
    """This machine is examined without a daemon; for the local runtime nothing that containers need is checked."""

    def ask(_: str) -> dict[str, object]:
        raise Unanswered("no_daemon", "no daemon is listening", "start one")

    environment = {"HIVE_STATE_DIR": str(tmp_path), "HIVE_RUNTIME": runtime}
    found = {each.check for each in examine(None, environment, tmp_path / "host.sock", ask)}
    assert found >= {"settings", "daemon", "git", "bubblewrap", "group", "private", "disk-state"}
    containers = {"nix", "systemd", "nixos-container", "cgroups", "user-namespaces", "disk-store", "mount-flags"}
    assert found & containers == (containers if runtime == "nixos" else set())
    assert "deployed" not in found
