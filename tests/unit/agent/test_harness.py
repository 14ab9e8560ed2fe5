"""The harness's loop, against the fake, with backends made for the test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.client import fetched_messages
from hive_agent.client import registration as presence_module
from hive_agent.client.connection import CoreError, LivenessConnection
from hive_agent.environment import AgentEnvironment
from hive_agent.turns.failure_policy import Reaction
from hive_core.protocol import AgentConfig
from tests.unit.agent.backends.fake_backend import INSTANCE, forever, serving, well
from tests.unit.agent.fake_core_api import FakeCore, refusal

RELEASE = "POST /v1/messages/release"


async def test_messages_are_handled_and_acknowledged(core: FakeCore, tmp_path: Path) -> None:
    """Waiting messages make one turn, in order, and are acknowledged when it ended well."""
    ids = [await core.deliver(body) for body in "abc"]
    async with serving(core, tmp_path, well) as running:
        await core.until(lambda: core.acknowledged() == ids and core.state_names()[-1] == "idle")
        assert running.backend.turns == [ids]
        assert core.state_names() == ["idle", "thinking", "idle"]
        await running.end()
        assert running.backend.closed


async def test_turn_takes_ten_at_most(core: FakeCore, tmp_path: Path) -> None:
    """More messages than fit into a turn come in the next ones."""
    ids = [await core.deliver("x") for _ in range(23)]
    async with serving(core, tmp_path, well) as running:
        await core.until(lambda: core.acknowledged() == ids)
        assert [len(turn) for turn in running.backend.turns] == [10, 10, 3]


async def test_waits_with_one_request(core: FakeCore, tmp_path: Path) -> None:
    """An idle harness makes one request and waits in it."""
    async with serving(core, tmp_path, well):
        await core.until(lambda: "POST /v1/messages/receive" in core.calls)
        count = len(core.calls)
        await asyncio.sleep(0.3)
        assert len(core.calls) == count


async def test_fetched_messages_are_acknowledged_too(core: FakeCore, tmp_path: Path) -> None:
    """What the recv tool gave to the model in the turn is acknowledged; what it leased but never gave is not."""
    first = await core.deliver("start")
    more: list[int] = []

    async def fetches(turn: Turn) -> TurnOutcome:
        if turn.deliveries[0].id == first:
            for _ in range(2):
                more.append(await core.deliver("more"))
                core.messages[more[-1]].holder = INSTANCE
            fetched_messages.record(tmp_path, INSTANCE, more[:1])
        return Ok()

    async with serving(core, tmp_path, fetches) as running:
        await core.until(lambda: len(core.acknowledged()) == 3)
        assert running.backend.turns == [[first], [more[1]]]


async def test_a_file_in_the_way_of_the_directory_for_notes(core: FakeCore, tmp_path: Path) -> None:
    """Where what was fetched cannot be noted, because an agent put a file there, turns go on and the harness lives."""
    (tmp_path / "tmp").write_text("")
    await core.deliver("x")
    async with serving(core, tmp_path, well):
        await core.until(lambda: core.acknowledged() == [1])


async def test_failed_turn_gives_messages_back(core: FakeCore, tmp_path: Path) -> None:
    """After a failed turn its messages come again, marked redelivered, and the hive is told why."""
    number = await core.deliver("x")
    outcomes: list[TurnOutcome] = [Failed("overloaded", "the model is away"), NeedsLogin("please log in"), Ok()]
    seen: list[bool] = []

    async def fails_twice(turn: Turn) -> TurnOutcome:
        seen.append(turn.deliveries[0].redelivered)
        return outcomes.pop(0)

    async with serving(core, tmp_path, fails_twice, pause=lambda *_values: 0.01) as running:
        await core.until(lambda: core.acknowledged() == [number] and core.state_names()[-1] == "idle")
        assert running.backend.turns == [[number]] * 3
        assert seen == [False, True, True]
    assert core.state_names() == ["idle", "thinking", "failed", "thinking", "needs_login", "thinking", "idle"]
    assert [state.detail for state in core.states if state.state in {"failed", "needs_login"}] == [
        "the model is away",
        "please log in",
    ]


async def test_failures_slow_down(core: FakeCore, tmp_path: Path) -> None:
    """Failures in a row are counted, and a success ends the row; nothing is tried before the pause is over."""
    rows: list[int] = []

    def counted(_reaction: Reaction, in_a_row: int, _retry_after: float | None) -> float:
        rows.append(in_a_row)
        return 0.0

    outcomes: list[TurnOutcome] = [*[Failed("crashed", "b")] * 4, Ok(), Failed("crashed", "b"), Ok()]

    async def scripted(_turn: Turn) -> TurnOutcome:
        return outcomes.pop(0)

    first = await core.deliver("x")
    async with serving(core, tmp_path, scripted, pause=counted):
        await core.until(lambda: core.acknowledged() == [first])
        second = await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [first, second])
    assert rows == [1, 2, 3, 4, 1]


async def test_broken_backend_is_a_failed_turn(
    core: FakeCore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a backend does not end the harness, and its text, which may quote a message, is not logged."""
    number = await core.deliver("x")
    broken = [True]

    async def breaks(_turn: Turn) -> TurnOutcome:
        if broken.pop() if broken else False:
            raise ValueError("secret body")
        return Ok()

    async with serving(core, tmp_path, breaks):
        await core.until(lambda: core.acknowledged() == [number])
    assert "failed" in core.state_names()
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text + "".join(state.detail for state in core.states)


async def test_leases_are_renewed_during_a_turn(core: FakeCore, tmp_path: Path) -> None:
    """A turn longer than a lease keeps its messages."""
    core.lease_seconds = 0.3
    await core.deliver("x")
    async with serving(core, tmp_path, forever):
        await core.until(lambda: core.calls.count("POST /v1/messages/renew") >= 3)


async def test_turn_timeout(core: FakeCore, tmp_path: Path) -> None:
    """A turn beyond its time is cancelled and counts as failed."""
    core.config = AgentConfig(turn_timeout=0.2)
    await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await core.until(lambda: "failed" in core.state_names())
        assert running.backend.cancelled == 1
    assert "turn_timeout" in next(state.detail for state in core.states if state.state == "failed")


async def test_stop_interrupts_and_releases(core: FakeCore, tmp_path: Path) -> None:
    """Asked to stop, the harness cancels its turn and hands the messages back before it ends."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        assert core.messages[number].holder == INSTANCE
        await running.end()
        assert running.backend.cancelled == 1
    assert core.messages[number].holder is None
    assert core.acknowledged() == []


async def test_stop_without_daemon(core: FakeCore, tmp_path: Path) -> None:
    """Asked to stop while the daemon is away, the harness still ends within a few seconds."""
    async with serving(core, tmp_path, well) as running:
        await core.until(lambda: "POST /v1/messages/receive" in core.calls)
        await core.stop()
        await running.end()


async def test_daemon_restart_during_a_turn(core: FakeCore, tmp_path: Path) -> None:
    """While the daemon is away the turn goes on; back again, it gets the acknowledgement, once."""
    number = await core.deliver("x")
    go_on = asyncio.Event()

    async def waits(_turn: Turn) -> TurnOutcome:
        await go_on.wait()
        return Ok()

    async with serving(core, tmp_path, waits) as running:
        await running.backend.started.wait()
        await core.stop()
        go_on.set()
        await asyncio.sleep(0.1)
        await core.start()
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.turns == [[number]]
        later = await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [number, later])


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that breaks at once was a daemon's: tests do not let it live for a second."""
    monkeypatch.setattr(presence_module, "_SHORTEST_CONNECTION", 0.0)


@pytest.mark.usefixtures("no_pauses")
async def test_a_new_daemon_hears_hello_again_while_idle(core: FakeCore, tmp_path: Path) -> None:
    """The one that comes after a restart is told the instance, the deployment and the state, though nothing happens."""
    async with serving(core, tmp_path, well, deployment=7):
        await core.until(lambda: core.state_names() == ["idle"])
        await core.stop()
        await core.start()
        await core.until(lambda: core.state_names() == ["idle", "idle"])
        first, second = core.hellos
        assert (first.instance, first.deployment, first.again) == (INSTANCE, 7, False)
        assert second == first.model_copy(update={"again": True})


@pytest.mark.usefixtures("no_pauses")
async def test_a_new_daemon_hears_hello_again_during_a_turn(core: FakeCore, tmp_path: Path) -> None:
    """It is told at once that the harness is thinking, its leases are renewed, and the turn is neither lost nor done
    twice.
    """
    number = await core.deliver("x")
    go_on = asyncio.Event()

    async def waits(_turn: Turn) -> TurnOutcome:
        await go_on.wait()
        return Ok()

    async with serving(core, tmp_path, waits) as running:
        await running.backend.started.wait()
        await core.stop()
        await core.start()
        await core.until(lambda: "POST /v1/messages/renew" in core.calls)
        assert [hello.again for hello in core.hellos] == [False, True]
        assert core.state_names() == ["idle", "thinking", "thinking"]
        go_on.set()
        await core.until(lambda: core.acknowledged() == [number] and core.state_names()[-1] == "idle")
        assert running.backend.turns == [[number]]


@pytest.mark.usefixtures("no_pauses")
async def test_a_replaced_harness_does_not_take_over_from_its_successor(core: FakeCore, tmp_path: Path) -> None:
    """A hello to a new daemon is refused if another harness has come meanwhile, and then this one ends."""
    async with serving(core, tmp_path, well) as running:
        await core.until(lambda: core.state_names() == ["idle"])
        await core.stop()
        superseded = refusal(409, "superseded", "another one has said hello since")
        core.refusals = {f"POST /v1/{path}": superseded for path in ("harness/hello", "messages/receive")}
        await core.start()
        async with asyncio.timeout(10):
            await running.task


async def test_a_daemon_that_hangs_up_at_once_is_not_pestered(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a line breaks as soon as it is there, the harness says hello again ever more rarely."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def broken(self: LivenessConnection) -> None:
        self.close()

    monkeypatch.setattr(LivenessConnection, "wait_broken", broken)
    monkeypatch.setattr("hive_agent.client.registration.asyncio.sleep", noted)
    async with serving(core, tmp_path, well):
        await core.until(lambda: len(core.hellos) == 10)
    assert [pause for pause in pauses if pause >= 1][:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_superseded_while_idle(core: FakeCore, tmp_path: Path) -> None:
    """A harness that was replaced ends by itself, without touching the newer one's leases."""
    core.refusals["POST /v1/messages/receive"] = refusal(409, "superseded", "newer harness")
    async with serving(core, tmp_path, well) as running:
        async with asyncio.timeout(10):
            await running.task
    assert RELEASE not in core.calls


async def test_superseded_during_a_turn(core: FakeCore, tmp_path: Path) -> None:
    """A harness that learns in a turn that it was replaced stops the turn before it ends."""
    core.lease_seconds = 0.3
    await core.deliver("x")
    core.refusals["POST /v1/messages/renew"] = refusal(409, "superseded", "newer harness")
    async with serving(core, tmp_path, forever) as running:
        async with asyncio.timeout(10):
            await running.task
        assert running.backend.cancelled == 1
        assert running.backend.closed
    assert core.acknowledged() == []


async def test_refused_hello_ends_the_harness(core: FakeCore, tmp_path: Path) -> None:
    """A hive that does not want this harness ends it with an error, for the runtime to see."""
    core.refusals["POST /v1/harness/hello"] = refusal(404, "unknown_agent", "no such agent")
    async with serving(core, tmp_path, well) as running:
        with pytest.raises(CoreError, match="unknown_agent"):
            await running.task


async def test_refused_ack_is_made_good(core: FakeCore, tmp_path: Path) -> None:
    """If the acknowledgement is refused (the lease was lost), the harness says so and pauses; when the message comes
    again it is acknowledged, and not handled a second time.
    """
    number = await core.deliver("x")
    core.refusals["POST /v1/messages/ack"] = refusal(409, "lease_lost", "too late")
    async with serving(core, tmp_path, well) as running:
        await core.until(lambda: "failed" in core.state_names())
        core.messages[number].holder = None
        core.refusals.clear()
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.turns == [[number]]


@pytest.mark.parametrize(("status", "code"), [(507, "disk_full"), (503, "storage_failed"), (503, "database_busy")])
async def test_ack_waits_for_the_daemon(core: FakeCore, tmp_path: Path, status: int, code: str) -> None:
    """A turn that ended well is not run again because the daemon cannot write its acknowledgement just now."""
    ack = "POST /v1/messages/ack"
    number = await core.deliver("x")
    core.refusals[ack] = refusal(status, code, "not now")
    async with serving(core, tmp_path, well) as running:
        await core.until(lambda: core.calls.count(ack) >= 3)
        core.refusals.clear()
        await core.until(lambda: core.acknowledged() == [number] and core.state_names()[-1] == "idle")
        assert running.backend.turns == [[number]]
    assert "failed" not in core.state_names()
    assert RELEASE not in core.calls


@pytest.mark.parametrize(("status", "code"), [(429, "too_many_polls"), (507, "disk_full")])
async def test_receive_waits_for_the_daemon(core: FakeCore, tmp_path: Path, status: int, code: str) -> None:
    """A receive that cannot be served now is no failure of the agent; it is repeated."""
    receive = "POST /v1/messages/receive"
    core.refusals[receive] = refusal(status, code, "not now")
    async with serving(core, tmp_path, well):
        await core.until(lambda: core.calls.count(receive) >= 3)
        core.refusals.clear()
        number = await core.deliver("x")
        await core.until(lambda: core.acknowledged() == [number])
    assert "failed" not in core.state_names()


@pytest.mark.parametrize("deployment", [None, 0, 7])
async def test_the_deployment_is_told(core: FakeCore, tmp_path: Path, deployment: int | None) -> None:
    """A harness says hello with the deployment that it was started on, and reports in after that."""
    async with serving(core, tmp_path, well, deployment=deployment):
        await core.until(lambda: core.state_names() == ["idle"])
    assert [hello.deployment for hello in core.hellos] == [deployment]


@pytest.mark.parametrize(("text", "deployment"), [("7", 7), ("0", 0), ("", None), ("x", None), ("-1", None)])
def test_the_deployment_is_read_from_the_environment(text: str, deployment: int | None) -> None:
    """The runtime tells the number in HIVE_AGENT_DEPLOYMENT; without one the harness says none."""
    assert AgentEnvironment.read({"HIVE_AGENT_DEPLOYMENT": text}).deployment == deployment
    assert AgentEnvironment.read({}).deployment is None
