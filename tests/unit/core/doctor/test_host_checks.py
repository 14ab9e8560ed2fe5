"""Judging a host: kernel, disks, sockets, ports."""

from __future__ import annotations

import stat
from typing import Any, Literal

import pytest

from hive_core.doctor.doors import Door, DoorFacts, judge_doors
from hive_core.doctor.findings import Severity
from hive_core.doctor.kernel import KernelFacts, judge_cgroups, judge_namespaces
from hive_core.doctor.ports import Listener, judge_ports
from hive_core.doctor.room import GIB, MIB, Room, judge_room
from hive_core.errors import HiveError
from tests.unit.core.cli.fake_host_api import agent
from tests.unit.doctor.test_programs import severities

ALL = frozenset({"cpu", "memory", "pids", "io"})
SOCKET = stat.S_IFSOCK


@pytest.mark.parametrize(
    ("version", "controllers", "found"),
    [
        (2, ALL, {"cgroups": "ok"}),
        (1, ALL - {"io"} | {"blkio"}, {"cgroups": "warning"}),
        (2, ALL - {"memory"}, {"cgroups": "error"}),
        (2, ALL - {"io"}, {"cgroups": "ok", "cgroups-io": "warning"}),
        (1, frozenset(), {"cgroups": "error", "cgroups-io": "warning"}),
    ],
)
def test_control_groups(version: Literal[1, 2], controllers: frozenset[str], found: dict[str, Severity]) -> None:
    """What limits need has to be there; the older version and the disk's share are no more than a pity."""
    assert severities(judge_cgroups(KernelFacts(version, controllers, 1))) == found


def test_user_namespaces() -> None:
    """They have to be there and allowed; then each directory that cannot be shown in them is an error of its own."""
    assert severities(judge_namespaces(KernelFacts(2, ALL, None), {})) == {"user-namespaces": "error"}
    assert severities(judge_namespaces(KernelFacts(2, ALL, 0), {})) == {"user-namespaces": "error"}
    assert severities(judge_namespaces(KernelFacts(2, ALL, 9), {})) == {"user-namespaces": "ok"}
    refused = HiveError("no_idmapped_mounts", "/state cannot be bound", hint="put it on ext4")
    found = judge_namespaces(KernelFacts(2, ALL, 9), {"/run": None, "/state": refused})
    assert [(each.check, each.severity) for each in found[1:]] == [("idmap", "ok"), ("idmap", "error")]
    assert (found[2].what, found[2].remedy) == ("/state cannot be bound", "put it on ext4")


@pytest.mark.parametrize(
    ("free", "files", "severity"),
    [(3 * GIB, None, "ok"), (3 * GIB, 999, "error"), (GIB, 10**6, "warning"), (100 * MIB, 10**6, "error")],
)
def test_free_space(free: int, files: int | None, severity: Severity) -> None:
    """Too little room, or room for too few files; a file system without a bound of files has enough of them."""
    assert judge_room(Room("disk", "/state", free, files, 256 * MIB, 2 * GIB, "clean up")).severity == severity


@pytest.mark.parametrize(
    ("socket", "group", "severity"),
    [
        (Door(SOCKET | 0o660, 0, 9), 9, "ok"),
        (Door(SOCKET | 0o600, 0, 0), None, "ok"),
        (Door(SOCKET | 0o600, 0, 0), 9, "error"),
        (Door(SOCKET | 0o660, 0, 8), 9, "error"),
        (Door(SOCKET | 0o666, 0, 9), 9, "error"),
        (Door(SOCKET | 0o606, 0, 0), None, "error"),
        (Door(stat.S_IFREG | 0o660, 0, 9), 9, "error"),
        (None, 9, None),
    ],
)
def test_the_operators_socket(socket: Door | None, group: int | None, severity: Severity | None) -> None:
    """It is for its group, where there is one, and for nobody else; where there is none, the daemon finding tells."""
    found = severities(judge_doors(DoorFacts("/run/host.sock", socket, "hyperhive", group, {})))
    assert found.pop("group") == ("warning" if group is None else "ok")
    assert found == ({} if severity is None else {"host-socket": severity})


@pytest.mark.parametrize(("mode", "severity"), [(0o700, "ok"), (0o710, "error"), (0o755, "error"), (0o704, "error")])
def test_private_directories(mode: int, severity: Severity) -> None:
    """Nobody but the daemon's user has any right there; the remedy is a command."""
    (_, found) = judge_doors(DoorFacts("s", None, "g", 1, {"/state": Door(stat.S_IFDIR | mode, 0, 0)}))
    assert found.severity == severity
    assert found.remedy == ("" if severity == "ok" else "chmod 0700 /state")


OWN = Listener("node", 5, "0::/machine.slice/container@h-ada.service/x")
DAEMON = Listener("hive-c0re", 99, "0::/system.slice/hyperhive.service")
OTHER = Listener("nginx", 7, "0::/system.slice/nginx.service")


@pytest.mark.parametrize(
    ("lifecycle", "listener", "taken"),
    [
        ("running", OWN, False),
        ("running", OTHER, True),
        ("stopped", OTHER, True),
        ("running", Listener(), False),
        ("stopped", Listener(), False),
        ("stopped", DAEMON, False),
        ("running", DAEMON, False),
    ],
)
def test_web_ports(lifecycle: str, listener: Listener, taken: bool) -> None:
    """Whoever listens on an agent's port and is neither the daemon nor in its container takes it; an unknown one gets
    the doubt.
    """
    ada = agent("ada", web_port=8123, lifecycle=lifecycle)
    (found,) = judge_ports([ada], {8123: [listener]}, daemon=99)
    assert found.severity == ("warning" if taken else "ok")
    if listener is OTHER:
        assert "port 8123, where the web page of ada is to be, is taken by nginx (process 7)" in found.what


def test_two_agents_with_one_port() -> None:
    """They are named; a port of an agent on which nobody listens is well."""
    both: list[Any] = [agent("ada", web_port=8123), agent("bob", web_port=8123)]
    (found,) = judge_ports(both, {}, 99)
    assert found.severity == "error" and "ada and bob" in found.what
    assert severities(judge_ports(both[:1], {}, 99)) == {"web-ports": "ok"}
