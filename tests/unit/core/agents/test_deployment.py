"""Putting configurations in force: the first of a new agent, and later ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_core.agents import store
from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.protocol import ReceiveRequest, SendRequest
from hive_core.runtimes.base import AgentSpec
from tests.unit.core.agents.builders import AgentHive, in_force, opened


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


async def refusal(hive: AgentHive, name: str) -> set[str]:
    """The codes with which every step towards a new agent of that name is refused."""
    codes = set()
    for step in (
        hive.deployments.check_new(name),
        hive.deployments.create_directories(name),
        hive.deployments.create(name, in_force(0), start=True, actor="operator"),
    ):
        with pytest.raises(HiveError) as refused:
            await step
        codes.add(refused.value.code)
    return codes


async def test_a_new_agent_runs_what_is_in_force(layout: Layout) -> None:
    """The runtime gets closure, number and the agent's own applied repository; the row and the audit tell of it."""
    async with opened(layout) as hive:
        await hive.deployments.create_directories("bob")
        status = await hive.deployments.create("bob", in_force(3), start=True, actor="operator:eva")
        spec = hive.processes.specs["bob"]
        assert (spec.closure, spec.deployment, spec.applied) == ("closure-3", 3, layout.applied_repository("bob"))
        assert (status.deployment, status.lifecycle) == (3, "running")
        assert hive.agents.record("bob").desired == "running"
        assert hive.sockets.names == {"bob"}
        query = "SELECT actor, action, subject, detail FROM audit"
        rows = await hive.database.read(lambda db: db.execute(query).fetchall())
        assert rows == [("operator:eva", "spawn", "bob", '{"backend": "scripted", "deployment": 3}')]


async def test_the_manager_sees_every_repository(layout: Layout) -> None:
    """The applied ones: it reviews what others propose, and may propose for them. Nobody sees another's own."""
    async with opened(layout) as hive:
        for name in ("ann", "bob", "hm1nd"):
            await hive.spawn(name)
        specs = hive.processes.specs
        assert specs["hm1nd"].applied == layout.applied
        assert specs["bob"].applied == layout.applied_repository("bob")


async def test_an_agent_that_is_not_to_start_is_not_run(layout: Layout) -> None:
    """It is there and can be written to."""
    async with opened(layout) as hive:
        assert (await hive.spawn("bob", start=False)).lifecycle == "stopped"
        assert hive.agents.record("bob").desired == "stopped"
        await hive.broker.send("operator", SendRequest(to="bob", body="hello"))


async def test_a_name_that_cannot_be_given_is_refused(layout: Layout) -> None:
    """Neither what can be no name nor one that is taken; the living agent's configuration stays where it is."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        assert await refusal(hive, "bob") == {"agent_exists"}
        assert await refusal(hive, "operator") == {"bad_name"}
        assert await refusal(hive, "../bob") == {"bad_name"}
        assert (layout.agent("bob").config / "agent.toml").exists()


async def test_a_new_agent_does_not_take_over_the_old_configuration(layout: Layout) -> None:
    """What an earlier agent had in its config is kept beside the new one, and its state is found again."""
    async with opened(layout) as hive:
        for number in range(3):
            await hive.spawn("bob")
            config = layout.agent("bob").config
            assert sorted(path.name for path in config.iterdir()) == ["agent.nix", "agent.toml", "prompt.md"]
            (config / f"of-{number}").touch()
            (layout.agent("bob").state / f"note-{number}").touch()
            await hive.lifecycle.destroy("bob", "operator", purge=False)
        home = layout.agent_home("bob")
        assert (home / "config.1" / "of-0").exists() and (home / "config.2" / "of-1").exists()
        assert len(list(layout.agent("bob").state.iterdir())) == 3


async def test_a_deployment_replaces_all_of_the_old_one(layout: Layout) -> None:
    """Settings, prompt, closure and number change together, in memory, for the runtime and on disk."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        new = in_force(4, model="large")
        assert await hive.deployments.deploy("bob", new)
        spec = hive.processes.specs["bob"]
        assert (spec.closure, spec.deployment) == ("closure-4", 4)
        status = hive.agents.status("bob")
        assert (status.deployment, status.model) == (4, "large")
        known = hive.agents.record("bob")
        assert (known.prompt, known.config, known.closure) == (new.prompt, new.config, new.closure)
        assert await hive.database.read(store.load) == [known]
    async with opened(layout) as hive:
        await hive.lifecycle.start_wanted()
        assert (hive.processes.specs["bob"].closure, hive.processes.specs["bob"].deployment) == ("closure-4", 4)


async def test_a_deployment_holds_the_sockets_of_the_agent_as_it_is_then(layout: Layout) -> None:
    """An agent that a deployment seals, or no longer seals, has its way out changed before it runs again."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        seen: list[str] = []
        hold, views = hive.views.hold, hive.views

        def hold_and_note(name: str) -> None:
            seen.append(hive.agents.record(name).config.network)
            hold(name)

        views.hold = hold_and_note  # type: ignore[method-assign]
        for number, network in enumerate(("sealed", "host", "sealed")):
            before = len(seen)
            await hive.deployments.deploy("bob", in_force(number + 1, network=network))
            assert seen[before:] and set(seen[before:]) == {network}


async def test_a_deployment_changes_who_may_be_written_to(layout: Layout) -> None:
    """The new list of recipients holds at once; the harness that spoke for the agent goes on doing so."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        await hive.broker.hello("bob", "instance-1")
        await hive.deployments.deploy("bob", in_force(1, allowed_recipients=["operator"]))
        with pytest.raises(HiveError) as refused:
            await hive.broker.send("bob", SendRequest(to="hm1nd", body="psst"))
        assert refused.value.code == "recipient_not_allowed"
        await hive.broker.receive("bob", ReceiveRequest(instance="instance-1"))
        await hive.deployments.deploy("bob", in_force(2))
        with pytest.raises(HiveError) as refused:
            await hive.broker.send("bob", SendRequest(to="hm1nd", body="hello"))
        assert refused.value.code == "unknown_recipient"


async def test_a_stopped_agent_stays_stopped(layout: Layout) -> None:
    """A deployment does not start what the operator has stopped; the next start runs it."""
    async with opened(layout) as hive:
        await hive.spawn("bob", start=False)
        assert not await hive.deployments.deploy("bob", in_force(1))
        assert hive.processes.running == set()
        await hive.lifecycle.start("bob", "operator")
        assert hive.processes.specs["bob"].deployment == 1


async def test_a_refused_activation_is_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the runtime says reaches the caller, who can put the old deployment back."""

    async def gone(spec: AgentSpec) -> None:
        raise HiveError("closure_gone", "it is gone", status=409)

    async with opened(layout) as hive:
        await hive.spawn("bob")
        with monkeypatch.context() as patch:
            patch.setattr(hive.processes, "activate", gone)
            with pytest.raises(HiveError, match="gone"):
                await hive.deployments.deploy("bob", in_force(1))
        assert await hive.deployments.deploy("bob", in_force(0))
        assert hive.agents.status("bob").deployment == 0


async def test_a_deployment_that_is_not_stored_changes_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, the agent runs on as it was, and may write to whom it could."""

    def full(*_: object) -> None:
        raise HiveError("disk_full", "the disk is full: nothing was stored", status=507)

    async with opened(layout) as hive:
        await hive.spawn("bob")
        with monkeypatch.context() as patch:
            patch.setattr(store, "replace_active_config", full)
            with pytest.raises(HiveError, match="disk"):
                await hive.deployments.deploy("bob", in_force(1, allowed_recipients=[]))
        assert hive.agents.record("bob").deployment == hive.processes.specs["bob"].deployment == 0
        await hive.broker.send("bob", SendRequest(to="operator", body="still here"))


async def test_a_destroyed_agent_is_not_deployed(layout: Layout) -> None:
    """A deployment that waits behind a destroy is refused; nothing of the agent comes back."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        destroying = asyncio.create_task(hive.lifecycle.destroy("bob", "operator", purge=False))
        deploying = asyncio.create_task(hive.deployments.deploy("bob", in_force(1)))
        await destroying
        with pytest.raises(HiveError) as refused:
            await deploying
        assert refused.value.code == "unknown_agent"
        assert hive.processes.running == set()


@pytest.mark.parametrize("purge", [False, True])
async def test_only_a_purge_removes_an_agents_past(layout: Layout, purge: bool) -> None:
    """Applied repository, closures, shown files and build logs outlive the runtime's part of a destroy, and go with a
    purge; others' stay.
    """
    async with opened(layout) as hive:
        places = []
        for name in ("bob", "bobby"):
            await hive.spawn(name)
            places += [layout.applied_repository(name), layout.closures / name]
            places += [layout.deployed / name, layout.builds / name]
        for place in places:
            place.mkdir(parents=True)
            (place / "file").touch()
            (place / "file").chmod(0o400)
            place.chmod(0o500)
        await hive.lifecycle.destroy("bob", "operator", purge=purge)
        assert [place.exists() for place in places] == [not purge] * 4 + [True] * 4
