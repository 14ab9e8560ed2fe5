"""Limits as drop-ins and as unit properties."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hive_core.infra.systemd.resource_control import active_limits, dropin, limits_dropin, unit_properties
from hive_core.protocol import Limits

LIMITS = st.builds(
    Limits,
    memory_max=st.none() | st.integers(1, 10_000).map("{}M".format) | st.integers(1, 999).map("{}G".format),
    cpu_quota=st.none() | st.integers(1, 100_000),
    tasks_max=st.none() | st.integers(16, 1_000_000),
    io_weight=st.none() | st.integers(1, 10_000),
)


def test_a_dropin_says_what_is_limited() -> None:
    """Each limit becomes a line in systemd's terms and units; a memory limit also forbids swap."""
    text = limits_dropin(Limits(memory_max="3G", cpu_quota=150, tasks_max=512, io_weight=50))
    assert text.splitlines()[1:] == [
        "[Service]",
        f"MemoryMax={3 * 1024**3}",
        "MemorySwapMax=0",
        "CPUQuota=150%",
        "TasksMax=512",
        "IOWeight=50",
    ]


def test_a_dropin_without_limits_changes_nothing() -> None:
    """A limit that is not set is left to the unit."""
    assert limits_dropin(Limits()).splitlines()[1:] == ["[Service]"]


@given(LIMITS)
def test_limits_come_back_from_properties(limits: Limits) -> None:
    """Limits that were set are read back with the same sizes."""
    back = active_limits(unit_properties(limits))
    assert unit_properties(back) == unit_properties(limits)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_foreign_limits_are_told_as_near_as_can_be(memory: int, cpu: int, tasks: int, weight: int) -> None:
    """Any limit that an operator has set on the unit can be read; unlimited is None."""
    properties = {"MemoryMax": memory, "CPUQuotaPerSecUSec": cpu, "TasksMax": tasks, "IOWeight": weight}
    limits = active_limits(properties)
    assert (limits.memory_max is None) == (memory == 2**64 - 1)
    assert (limits.tasks_max is None) == (tasks == 2**64 - 1)
    assert active_limits({}) == Limits()


def lines(text: str) -> list[str]:
    head, section, *rest = text.splitlines()
    assert head.startswith("#") and section == "[Service]"
    return rest


def test_a_sealed_container_may_have_its_tun_device() -> None:
    """A container with its own network may use /dev/net/tun, which nspawn 257 creates there."""
    assert "DeviceAllow=/dev/net/tun rwm" in lines(dropin(Limits(), 5.0, sealed=True))
    assert not any(line.startswith("DeviceAllow") for line in lines(dropin(Limits(), 5.0)))


def test_devices_of_the_host_are_allowed_by_name() -> None:
    """The unit's policy, which forbids all devices, allows exactly the nodes that the container was given."""
    lines = dropin(Limits(), 5, devices=[Path("/dev/kvm"), Path("/dev/fuse")]).splitlines()
    assert [line for line in lines if line.startswith("DeviceAllow")] == [
        "DeviceAllow=/dev/kvm rwm",
        "DeviceAllow=/dev/fuse rwm",
    ]
