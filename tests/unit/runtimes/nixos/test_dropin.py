"""The drop-in beside a container's unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.protocol import Limits
from hive_core.runtimes.nixos import dropin as module
from hive_core.runtimes.nixos.dropin import dropin, find_umount


def lines(text: str) -> list[str]:
    head, section, *rest = text.splitlines()
    assert head.startswith("#") and section == "[Service]"
    return rest


def test_a_sealed_container_may_have_its_tun_device() -> None:
    """nspawn 257 makes /dev/net/tun where the network is the container's own, and needs the unit's leave for it."""
    assert "DeviceAllow=/dev/net/tun rwm" in lines(dropin(Limits(), 5.0, sealed=True))
    assert not any(line.startswith("DeviceAllow") for line in lines(dropin(Limits(), 5.0)))


def test_a_killed_nspawn_is_cleaned_up_after() -> None:
    """Its mount for the container's sockets is removed before the next start; that there is none is no failure."""
    text = dropin(Limits(), 5.0, umount="/bin/umount")
    wanted = "ExecStartPre=-/bin/umount --quiet --lazy /run/systemd/nspawn/unix-export/%i"
    assert wanted in lines(text)
    assert "unix-export" not in dropin(Limits(), 5.0)


def test_the_program_outlives_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NixOS the drop-in names umount by the running system's link, not by a store path that may be collected."""
    program = tmp_path / "umount"
    monkeypatch.setattr(module, "_STABLE_UMOUNT", program)
    assert find_umount() != str(program)
    program.touch()
    assert find_umount() == str(program)
