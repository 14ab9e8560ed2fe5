"""Subscriptions to units, D-Bus paths of units, and waiting for jobs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.infra.systemd.bus import unit_name, unit_path
from hive_core.infra.systemd.units import MOST_WAITING, Jobs, UnitProperties, UnitSubscription

ADA = "container@h-ada.service"


def state(changed_usec: int, name: str = ADA) -> UnitProperties:
    return UnitProperties(name, "active", "running", changed_usec=changed_usec)


async def rest(watch: UnitSubscription) -> list[UnitProperties]:
    watch.end()
    return [state async for state in watch]


async def test_repetitions_and_late_news_are_dropped() -> None:
    """A subscription yields each state of its units once and in order, and no state of other units."""
    watch = UnitSubscription("container@")
    for one in (state(1), state(1), state(3), state(2), state(9, "other.service"), state(2, "container@x"), state(3)):
        watch.put(one)
    assert await rest(watch) == [state(1), state(3), state(2, "container@x")]


async def test_a_unit_that_was_unloaded_is_new() -> None:
    """A state after systemd has unloaded the unit is not treated as a repetition."""
    watch = UnitSubscription("container@")
    watch.put(state(1))
    watch.forget(ADA)
    assert watch.known == []
    watch.put(state(1))
    assert await rest(watch) == [state(1), state(1)]


async def test_a_slow_watcher_fills_no_memory() -> None:
    """Without a reader, a subscription keeps a bounded number of states, with the newest of each unit."""
    watch = UnitSubscription("container@")
    watch.put(state(1, "container@quiet"))
    for number in range(1, 5 * MOST_WAITING):
        watch.put(state(number))
    waiting = await rest(watch)
    assert len(waiting) <= MOST_WAITING
    assert waiting[0].name == "container@quiet"
    assert waiting[-1] == state(5 * MOST_WAITING - 1)


async def test_a_watcher_waits() -> None:
    """A later state and the end of the subscription each wake a waiting reader."""
    watch = UnitSubscription("")
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    watch.put(state(1))
    assert await waiting == state(1)
    ending = asyncio.create_task(rest(watch))
    assert await ending == []


def test_paths_are_systemds() -> None:
    """A unit has the same path as in systemd."""
    assert unit_path(ADA) == "/org/freedesktop/systemd1/unit/container_40h_2dada_2eservice"
    assert unit_path("1a.mount") == "/org/freedesktop/systemd1/unit/_31a_2emount"
    assert unit_name("/org/freedesktop/systemd1/job/1") is None


@given(st.from_regex(r"[A-Za-z0-9@:._\\-]{1,60}", fullmatch=True))
def test_paths_give_names_back(name: str) -> None:
    """Each unit name has a valid D-Bus path, from which it can be restored."""
    path = unit_path(name)
    assert unit_name(path) == name
    assert path.removeprefix("/org/freedesktop/systemd1/unit/").replace("_", "").isalnum()


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\nb", "ü.service", "*", "x" * 256])
def test_what_is_no_unit_has_no_path(name: str) -> None:
    """An invalid unit name is refused before any call."""
    with pytest.raises(ValueError, match="no unit"):
        unit_path(name)


async def test_a_job_is_waited_for() -> None:
    """A caller gets the result of its own job only; results of unknown jobs are ignored."""
    jobs = Jobs()
    with jobs.expect() as one, jobs.expect() as other:
        one.set_path(["/job/1"])
        other.set_path(["/job/2"])
        assert sorted(jobs.paths()) == ["/job/1", "/job/2"]
        jobs.end("/job/3", "done")
        jobs.end("/job/2", "failed")
        jobs.end("/job/2", "done")
        assert jobs.paths() == ["/job/1"]
        assert await other.result == "failed"
        jobs.close(HiveError("stopping", "the hive is stopping"))
        with pytest.raises(HiveError):
            await one.result
    assert jobs.paths() == []
