"""Directories, devices and services of the host that the operator offers: names, paths, what a reviewer reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hive_core.agents.grants.offers import HostOffers, why_not_usable
from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig
from hive_core.protocol.config.host_access import OfferedBind
from hive_core.runtimes.base import HostBind
from hive_core.settings import load


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    """A directory below which nobody else can write; pytest's own lies in /tmp, where everybody can."""
    if why_not_usable(tmp_path) and os.geteuid() != 0:
        pytest.skip("no directory here has only trusted parents")
    return tmp_path if not why_not_usable(tmp_path) else Path("/var/lib")


def offers(path: Path, *, writable: bool = False, **others: Any) -> HostOffers:
    return HostOffers({"data": OfferedBind(path=path, writable=writable)}, **others)


def test_only_what_is_offered_can_be_asked_for() -> None:
    """A directory or device that the operator does not offer is refused in words that name what is offered."""
    given = offers(Path("/srv/data"), devices=["kvm"])
    given.check(AgentConfig(binds=["data"], devices=["kvm"]))
    with pytest.raises(HiveError, match="offers agents no directory secrets; offered are: data"):
        given.check(AgentConfig(binds=["data", "secrets"]))
    with pytest.raises(HiveError, match="offers agents no device fuse; offered are: kvm"):
        given.check(AgentConfig(devices=["fuse"]))
    with pytest.raises(HiveError) as caught:
        HostOffers().open_binds(AgentConfig(binds=["data"]))
    assert caught.value.code == "not_offered"
    assert "none is offered" in caught.value.message


def test_a_reviewer_reads_what_is_behind_a_name() -> None:
    """New directories and devices are described by path and effect; those that were there before are not repeated."""
    given = offers(Path("/srv/data"), writable=True, devices=["kvm", "gpu"])
    new = AgentConfig(binds=["data"], devices=["kvm"])
    assert given.describe(None, new) == [
        "binds: data shows '/srv/data' of the host, writable, as /binds/data",
        "devices: kvm gives virtual machines with the processor of the host (/dev/kvm)",
    ]
    assert given.describe(new, AgentConfig(binds=["data"], devices=["kvm", "gpu"])) == [
        "devices: gpu gives the graphics processors of the host, also their memory"
    ]


def test_usable_path(trusted: Path) -> None:
    """A directory whose parents only root or the daemon's user can write is given with its name."""
    assert offers(trusted, writable=True).open_binds(AgentConfig(binds=["data"])) == (HostBind("data", trusted, True),)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_writable_directory_needs_a_mapped_group(trusted: Path) -> None:
    """With other user ids, a writable directory whose group has another number than its owner is refused."""
    place = Path(tempfile.mkdtemp(dir=trusted))
    asked = AgentConfig(binds=["data"])
    try:
        os.chown(place, 1000, 100)
        with pytest.raises(HiveError, match=r"belongs to user 1000 and group 100, and .* need the same number"):
            offers(place, writable=True, mapped=True).open_binds(asked)
        assert offers(place, mapped=True).open_binds(asked) and offers(place, writable=True).open_binds(asked)
        os.chown(place, 1000, 1000)
        assert offers(place, writable=True, mapped=True).open_binds(asked)
    finally:
        place.rmdir()


def test_paths_that_others_could_replace_are_refused(tmp_path: Path) -> None:
    """A link, a missing directory, a file, and a directory in one that others can write are each refused with why."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "data").mkdir()
    (tmp_path / "link").symlink_to(open_to_all)
    (tmp_path / "file").touch()
    open_to_all.chmod(0o777)
    found = {name: _why_within(tmp_path, name) for name in ("link", "link/data", "gone", "file", "open/data")}
    assert "symbolic link" in found["link"]
    assert "symbolic link" in found["link/data"]
    assert "does not exist" in found["gone"]
    assert "is no directory" in found["file"]
    assert "others than its owner can write" in found["open/data"]
    if os.geteuid() == 0:
        open_to_all.chmod(0o755)
        os.chown(open_to_all, 1, 1)
        assert "belongs to another user" in _why_within(tmp_path, "open/data")
        assert _why_within(tmp_path, "open") == ""  # Only what is above it can be used to replace it.


def _why_within(top: Path, name: str) -> str:
    """The reason as if the directories above `top` were trusted, which those of pytest in /tmp are not."""
    modes = {parent: parent.stat().st_mode for parent in top.parents}
    with pytest.MonkeyPatch.context() as patch:
        real = os.fstat

        def fstat(descriptor: int) -> os.stat_result:
            found = real(descriptor)
            above = any((found.st_dev, found.st_ino) == _identity(parent) for parent in modes)
            return os.stat_result((0o40755, *found[1:4], 0, 0, *found[6:])) if above else found

        patch.setattr(os, "fstat", fstat)
        return why_not_usable(top / name)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def test_devices_are_found_by_their_nodes(tmp_path: Path) -> None:
    """Only device nodes count; a host without the device refuses the start in words."""
    given = HostOffers({}, ["kvm", "fuse", "gpu"], tmp_path, tmp_path)
    (tmp_path / "fuse").touch()
    for name in ("kvm", "fuse", "gpu"):
        with pytest.raises(HiveError, match=f"this host has no {name}") as caught:
            given.find_devices(AgentConfig(devices=[name]))
        assert caught.value.code == "no_device"
    assert HostOffers({}, ["kvm"]).find_devices(AgentConfig()) == ()
    (tmp_path / "class/drm/renderD128").mkdir(parents=True)
    (tmp_path / "class/drm/renderD128/uevent").write_text("MAJOR=226\nDEVNAME=dri/renderD128\n")
    assert given.find_devices(AgentConfig(devices=["gpu"])) == (tmp_path / "dri/renderD128",)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("srv", "absolute path"),
        ("/srv/../etc", "absolute path"),
        ("/", "must not be /"),
        ("/proc/1", "must not be /"),
        ("/dev/shm", "must not be /"),
        ("/state/agents/ada", "within the state directory"),
        ("/state/run/agents", "within the state directory"),
        ("/var/lib", "around the directory of containers"),
        ("/srv/all/part", "within binds.all"),
    ],
)
def test_settings_refuse_dangerous_directories(path: str, why: str) -> None:
    """The settings refuse paths of the hive, of the kernel, and within a directory that agents can write."""
    text = f'{{"data": {{"path": "{path}"}}, "all": {{"path": "/srv/all", "writable": true}}}}'
    with pytest.raises(HiveError, match=why) as caught:
        load(None, {"HIVE_BINDS": text, "HIVE_STATE_DIR": "/state"}, {})
    assert caught.value.code == "bad_setting"


def test_settings_of_offers() -> None:
    """Binds are a table, also in the environment, and devices a list of names."""
    found = load(None, {"HIVE_BINDS": '{"data": {"path": "/srv/data"}}', "HIVE_DEVICES": "kvm,gpu"}, {})
    assert found.binds == {"data": OfferedBind(path=Path("/srv/data"))}
    assert found.devices == ["kvm", "gpu"]


def test_services() -> None:
    """Services are offered by name, told with their address, and reached on a sealed agent's own loopback."""
    given = HostOffers(services={"db": "127.0.0.1:5432", "web": "[::1]:80"})
    with pytest.raises(HiveError, match="offers agents no service mail; offered are: db, web") as caught:
        given.find_services(AgentConfig(services=["db", "mail"]), sealed=False)
    assert caught.value.code == "not_offered"
    config = AgentConfig(services=["web", "db"])
    assert given.find_services(config, sealed=True) == {"db": "127.0.0.1:3200", "web": "127.0.0.1:3201"}
    assert given.find_services(config, sealed=False) == {"db": "127.0.0.1:5432", "web": "[::1]:80"}
    assert given.describe(AgentConfig(services=["web"]), config) == [
        "services: db gives connections to 127.0.0.1:5432, as this host reaches it"
    ]
