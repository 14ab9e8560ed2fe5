"""`hive-c0re limits` against a daemon's answers."""

from __future__ import annotations

from hive_core.protocol import Limits, LimitsAnswer, LimitsRequest, Usage
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


async def test_limits_are_shown(hive: Program, daemon: FakeHost) -> None:
    """Without options nothing is changed: what is configured, in force and used, a line for each limit."""
    daemon.limits = LimitsAnswer(
        name="alice",
        configured=Limits(memory_max="2G", cpu_quota=150),
        in_force=Limits(memory_max="3G", cpu_quota=150, tasks_max=64),
        enforced=True,
        usage=Usage(memory_bytes=1_610_612_736, cpu_seconds=12.345, tasks=7),
    )
    ended = await hive.run("limits", "alice")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0] == ["LIMIT", "CONFIGURED", "IN", "FORCE", "USED"]
    assert lines[1] == ["memory", "2G", "3G", "1.5", "GiB"]
    assert lines[2] == ["cpu", "150", "%", "150", "%", "12.3", "s", "in", "all"]
    assert lines[3] == ["tasks", "-", "64", "7"]
    assert lines[4] == ["io", "weight", "-", "-"]
    assert daemon.asked == [("GET", "/v1/agents/alice/limits", None)]


async def test_limits_are_changed(hive: Program, daemon: FakeHost) -> None:
    """What is named is sent, and what is in force then is shown."""
    ended = await hive.run("limits", "alice", "--memory", "3G", "--cpu", "150", "--tasks", "64", "--io-weight", "50")
    assert ended.code == 0
    assert ended.out.splitlines()[1].split() == ["memory", "2G", "3G", "-"]
    asked = LimitsRequest(memory_max="3G", cpu_quota=150, tasks_max=64, io_weight=50)
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


async def test_limits_that_nobody_enforces(hive: Program, daemon: FakeHost) -> None:
    """A hive that cannot limit says so, beside what is configured."""
    daemon.limits = daemon.limits.model_copy(update={"enforced": False, "in_force": Limits()})
    ended = await hive.run("limits", "alice")
    assert ended.code == 0
    assert "does not enforce limits" in ended.err
