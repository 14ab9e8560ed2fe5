"""The drop-in beside a container's unit."""

from __future__ import annotations

from hive_core.protocol import Limits
from hive_core.runtimes.nixos.dropin import dropin


def lines(text: str) -> list[str]:
    head, section, *rest = text.splitlines()
    assert head.startswith("#") and section == "[Service]"
    return rest


def test_a_sealed_container_may_have_its_tun_device() -> None:
    """nspawn 257 makes /dev/net/tun where the network is the container's own, and needs the unit's leave for it."""
    assert "DeviceAllow=/dev/net/tun rwm" in lines(dropin(Limits(), 5.0, sealed=True))
    assert not any(line.startswith("DeviceAllow") for line in lines(dropin(Limits(), 5.0)))
