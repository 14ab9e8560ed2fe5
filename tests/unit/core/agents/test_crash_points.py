"""The daemon dies at every single step of spawn, deploy, destroy and purge; the next repairs what it left."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hive_core.agents.purge import Trash
from hive_core.layout import Layout
from hive_core.protocol import SendRequest
from tests.helpers.memory import MEMORY
from tests.unit.core.agents.builders import AgentHive, in_force, opened

STEPS = ("mkdir", "chmod", "open", "rename", "unlink", "rmdir")


class Died(BaseException):
    """The daemon was killed here."""


class SimulatedCrash:
    """Kills after `left` more steps: nothing that changes anything works from then on."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.dead = False

    def step(self) -> None:
        if self.dead or self.left == 0:
            self.dead = True
            raise Died
        self.left -= 1

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            return function(*arguments, **options)

        return stepping

    def around(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            result = await function(*arguments, **options)
            self.step()
            return result

        return stepping


def arm(patch: pytest.MonkeyPatch, death: SimulatedCrash, hive: AgentHive) -> None:
    """Let every step that outlives the daemon count; the others are between two of these."""
    patch.setattr(hive.database, "write", death.around(hive.database.write))
    for name in STEPS:
        patch.setattr(os, name, death.before(getattr(os, name)))
    patch.setattr(Trash, "delete", death.around(Trash.delete))
    for part, names in ((hive.sockets, ("open", "close")), (hive.processes, ("start", "destroy"))):
        for name in names:
            patch.setattr(part, name, death.around(getattr(part, name)))


async def spawn(hive: AgentHive) -> None:
    await hive.spawn("bob")


async def deploy(hive: AgentHive) -> None:
    await hive.deployments.deploy("bob", in_force(1, model="large"))


async def destroy(hive: AgentHive) -> None:
    await hive.lifecycle.destroy("bob", "operator", purge=False)


async def purge(hive: AgentHive) -> None:
    await hive.lifecycle.destroy("bob", "operator", purge=True)


async def prepared(layout: Layout, *, with_bob: bool) -> None:
    """A hive with ann, and bob who has a deep secret, a log, a past and a message; without him his old config."""
    async with opened(layout) as hive:
        await hive.spawn("ann")
        await hive.spawn("bob")
        (layout.agent("bob").config / "old").touch()
        if not with_bob:
            await hive.lifecycle.destroy("bob", "operator", purge=False)
        if with_bob:
            await hive.broker.send("operator", SendRequest(to="bob", body="hello"))
            deep = layout.agent("bob").state / "a" / "b"
            deep.mkdir(parents=True)
            (deep / "secret").touch()
            (layout.agent("bob").run / "left").touch()
            layout.agent_log("bob").touch()
            for place in past(layout):
                place.mkdir(parents=True)
                (place / "file").touch()


def past(layout: Layout) -> list[Path]:
    """What is kept of an agent's deployments."""
    return [
        layout.applied_repository("bob"),
        layout.closures / "bob",
        layout.deployed / "bob",
        layout.builds / "bob",
    ]


async def check(layout: Layout, action: Callable[[AgentHive], Awaitable[None]]) -> None:
    """What must hold with the next daemon, and that everything can be done again."""
    secret = layout.agent("bob").state / "a" / "b" / "secret"
    async with opened(layout) as hive:
        assert action is not spawn or len(list(layout.agent_home("bob").glob("config*/old"))) == 1
        names = {status.name for status in hive.agents.statuses()}
        assert names in ({"ann"}, {"ann", "bob"})
        assert hive.sockets.names == names == set(hive.directory.names())
        assert {path.name for path in (layout.run_dir / "agents").iterdir()} == names
        await hive.lifecycle.start_wanted()
        assert hive.processes.running == names
        assert await hive.database.read(lambda db: db.execute("SELECT * FROM purges").fetchall()) == []
        if action is not spawn:
            kept = "bob" in names or action is destroy
            assert action is not deploy or kept
            assert secret.exists() == layout.agent_log("bob").exists() == kept
            assert [place.exists() for place in past(layout)] == [kept] * 4
            assert hive.broker.unacknowledged("bob") == int(kept)
        if "bob" in names:
            assert (layout.agent("bob").config / "agent.toml").exists()
            whole_deployment(hive)
            await hive.lifecycle.destroy("bob", "operator", purge=True)
        await hive.spawn("bob", start=False)
        await hive.lifecycle.destroy("bob", "operator", purge=True)
        assert not layout.agent_home("bob").exists() and not layout.agent_log("bob").exists()
        assert not any(place.exists() for place in past(layout))
        await trash_emptied(layout, hive)


def whole_deployment(hive: AgentHive) -> None:
    """bob runs what is in force, and that is one deployment and not a mixture of two."""
    record, spec = hive.agents.record("bob"), hive.processes.specs["bob"]
    assert (record.deployment, record.config.model) in ((0, None), (1, "large"))
    assert (record.closure, record.prompt) == (f"closure-{record.deployment}", f"role {record.deployment}")
    assert (spec.closure, spec.deployment) == (record.closure, record.deployment)


async def trash_emptied(layout: Layout, hive: AgentHive) -> None:
    """Let the background part of the daemon work until nothing is left in the trash."""
    emptying = asyncio.create_task(hive.lifecycle.empty_trash())
    async with asyncio.timeout(30):
        while Trash(layout).directories():
            assert not emptying.done()
            await asyncio.sleep(0.005)
    emptying.cancel()


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory in which nothing waits for the disk."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        yield Path(directory)


@pytest.mark.parametrize("action", [spawn, deploy, destroy, purge])
async def test_a_death_between_any_two_steps_is_repaired(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[AgentHive], Awaitable[None]]
) -> None:
    """Whichever step was the last, the agent is whole or gone, nothing of it is left over, its name can be used."""
    points = 0
    while True:
        place = in_memory / str(points)
        layout = Layout(place / "state", place / "run")
        await prepared(layout, with_bob=action is not spawn)
        death = SimulatedCrash(points)
        async with opened(layout) as hive:
            with monkeypatch.context() as patch:
                arm(patch, death, hive)
                try:
                    await action(hive)
                except Died:
                    pass
                else:
                    break
        await check(layout, action)
        shutil.rmtree(place)
        points += 1
    await check(layout, action)
    assert points >= (4 if action is deploy else 10)
