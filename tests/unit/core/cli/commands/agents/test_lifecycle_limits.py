"""`hive-c0re limits` against a daemon's answers."""

from __future__ import annotations

from hive_core.protocol import Limits, LimitsAnswer, LimitsRequest, Usage
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


async def test_limits_are_shown(hive: Program, daemon: FakeHost) -> None:
    """Without options nothing is changed: what is configured, in force and used, a line for each limit."""
    daemon.limits = LimitsAnswer(
        name="alice",
        configured=Limits(memory_max="2G", disk_max="20G", cpu_quota=150),
        in_force=Limits(memory_max="3G", disk_max="30G", cpu_quota=150, tasks_max=64),
        enforced=True,
        usage=Usage(memory_bytes=1_610_612_736, disk_bytes=21_474_836_480, cpu_seconds=12.345, tasks=7),
    )
    ended = await hive.run("limits", "alice")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0] == ["LIMIT", "CONFIGURED", "IN", "FORCE", "USED"]
    assert lines[1] == ["memory", "2G", "3G", "1.5", "GiB"]
    assert lines[2] == ["disk", "20G", "30G", "20.0", "GiB"]
    assert lines[3] == ["cpu", "150", "%", "150", "%", "12.3", "s", "in", "all"]
    assert lines[4] == ["tasks", "-", "64", "7"]
    assert lines[5] == ["io", "weight", "-", "-"]
    assert daemon.asked == [("GET", "/v1/agents/alice/limits", None)]


async def test_limits_are_changed(hive: Program, daemon: FakeHost) -> None:
    """What is named is sent, and what is in force then is shown."""
    ended = await hive.run(
        "limits", "alice", *["--memory", "3G", "--disk", "9G", "--cpu", "150", "--tasks", "64", "--io-weight", "50"]
    )
    assert ended.code == 0
    assert ended.out.splitlines()[1].split() == ["memory", "2G", "3G", "-"]
    asked = LimitsRequest(memory_max="3G", disk_max="9G", cpu_quota=150, tasks_max=64, io_weight=50)
    assert daemon.asked == [("POST", "/v1/agents/alice/limits", asked)]


async def test_limits_are_reset(hive: Program, daemon: FakeHost) -> None:
    """`--reset` alone is a change, too; --json is the daemon's answer."""
    ended = await hive.run("limits", "alice", "--reset", "--json")
    assert LimitsAnswer.model_validate(ended.json).name == "alice"
    assert daemon.asked == [("POST", "/v1/agents/alice/limits", LimitsRequest(reset=True))]


async def test_limits_that_are_none_are_refused(hive: Program, daemon: FakeHost) -> None:
    """What the daemon refuses is told with its reason."""
    ended = await hive.run("limits", "alice", "--memory", "lots")
    assert ended.code == 1
    assert "memory_max" in ended.err


async def test_a_quota_that_is_not_enforced_is_told_of(hive: Program, daemon: FakeHost) -> None:
    """The reason is beside what is configured if the file system has no quotas."""
    changed = {"configured": Limits(disk_max="9G"), "in_force": Limits(), "disk_problem": "no quotas on /srv"}
    daemon.limits = daemon.limits.model_copy(update=changed)
    assert (await hive.run("limits", "alice")).err == "disk_max is not enforced: no quotas on /srv\n"


async def test_limits_that_nobody_enforces(hive: Program, daemon: FakeHost) -> None:
    """A hive that cannot limit says so, beside what is configured."""
    daemon.limits = daemon.limits.model_copy(update={"enforced": False, "in_force": Limits()})
    ended = await hive.run("limits", "alice")
    assert ended.code == 0
    assert "does not enforce limits" in ended.err
