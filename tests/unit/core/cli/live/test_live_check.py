"""`doctor --live` against a hive in memory: its steps, how each can fail, and that nothing is left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from hive_core.cli.client import Client
from hive_core.cli.commands.host.host import _show_step
from hive_core.cli.errors import Failure
from hive_core.cli.live import throwaway_agent
from hive_core.cli.live.live_check import CheckStep, LiveCheck
from hive_core.cli.live.seal_check import Seal
from hive_core.protocol import DestroyRequest, SpawnRequest
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program

Json = dict[str, Any]
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class FakeHive:
    """Answers as a daemon does to what the check asks for. Tests set how it goes wrong.

    `spawn_fails` is raised by the spawn, after the proposal became `becomes`; `state` is that of a harness which was
    started; `reply` is the answer to a message, None for none.
    """

    def __init__(self, closure: Path) -> None:
        self.closure = closure
        self.path = closure.parent / "host.sock"
        self.agents: dict[str, Json] = {}
        self.proposals: dict[str, list[Json]] = {}
        self.spawned: list[Json] = []
        self.purged: list[str] = []
        self.read: list[int] = []
        self.becomes = "deployed"
        self.spawn_fails: Failure | None = None
        self.status: Json = {"state": "idle", "lifecycle": "running", "restarts": 0}
        self.reply: str | None = throwaway_agent.ANSWER
        self.stays = False
        self.seal_problem = ""
        self.before: Callable[[str], None] = lambda path: None

    def get(self, path: str, query: Mapping[str, object] | None = None, *, wait: float = 0.0) -> Json:
        self.before(path)
        match path.strip("/").split("/"):
            case ["v1", "status"]:
                return {"version": "1.0", "runtime": "local"}
            case ["v1", "agents"]:
                return {"agents": [{"name": name} for name in self.agents]}
            case ["v1", "agents", name]:
                return self.agents[name]
            case ["v1", "agents", name, "logs"]:
                return {"lines": [f"the log of {name}"]}
            case ["v1", "proposals"]:
                assert query is not None and query["state"] == "all"
                return {"proposals": self.proposals.get(str(query["agent"]), [])[::-1]}
            case ["v1", "proposals", name, number]:
                return self.proposals[name][int(number)]
            case ["v1", "proposals", name, number, "log"]:
                return {"lines": [f"the build log of {name}/{number}"]}
            case ["v1", "messages", _, "reply"]:
                return {"reply": None if self.reply is None else {"id": 8, "body": self.reply}}
        raise AssertionError(path)

    def post(self, path: str, body: Mapping[str, object], *, wait: float = 0.0) -> Json:
        match path.strip("/").split("/"):
            case ["v1", "agents"]:
                return self.spawn(dict(body))
            case ["v1", "agents", name, "destroy"]:
                assert body == {"purge": True}
                if not self.stays:
                    self.agents.pop(name)
                    self.proposals.pop(name, None)
                self.purged.append(name)
                return {"name": name}
            case ["v1", "messages"]:
                assert body == {"to": self.spawned[-1]["name"], "body": throwaway_agent.QUESTION}
                return {"id": 7}
            case ["v1", "messages", "read"]:
                self.read += cast("list[int]", body["ids"])
                return {}
        raise AssertionError(path)

    def spawn(self, body: Json) -> Json:
        self.spawned.append(body)
        name = str(body["name"])
        self.propose(name, self.becomes, f"+{body['prompt']}")
        if self.spawn_fails is not None:
            raise self.spawn_fails
        self.agents[name] = {"name": name, **self.status}
        return self.agents[name]

    def propose(self, name: str, state: str, diff: str, **changes: object) -> None:
        """Enter a spawn into the gate's records."""
        made = self.proposals.setdefault(name, [])
        built = state not in ("building", "failed")
        made.append(
            {
                "number": len(made), "kind": "spawn", "by": "operator:root", "state": state, "outcome": "",
                "diff": diff, "closure": str(self.closure) if built else None, **changes,
            }
        )  # fmt: skip

    def leave_over(self, name: str, maker: str, **changes: object) -> None:
        """Have an agent that this process made, in the words of the mark."""
        self.agents[name] = {"name": name}
        self.propose(name, "deployed", f"+Throwaway agent of hive-c0re doctor --live ({maker}).", **changes)

    def try_seal(self, agent: Mapping[str, object]) -> Seal:
        """Its seal, which holds unless `seal_problem` is set."""
        network: Literal["sealed", "host"] = "host" if agent.get("network") == "host" else "sealed"
        return Seal("doctor1", network, 0.1, problem=self.seal_problem, remedy="look")

    def check(self, *, timeout: float = 5.0, sealed: bool = True) -> LiveCheck:
        """A check that was run."""
        client, nothing = cast(Client, self), lambda _: None
        made = LiveCheck(client, nothing, timeout=timeout, sealed=sealed, try_seal=self.try_seal)
        made.run()
        return made


@pytest.fixture
def fake(tmp_path: Path) -> FakeHive:
    """A hive that does everything right."""
    closure = tmp_path / "closure"
    closure.mkdir()
    return FakeHive(closure)


def outcome(check: LiveCheck) -> dict[str, str]:
    return {step.step: step.severity for step in check.steps}


WELL = dict.fromkeys(("daemon", "build", "start", "ready", "answer", "seal", "remove"), "ok")


def test_every_step_is_tried_and_nothing_is_left(fake: FakeHive) -> None:
    """The agent is built, started, asked and removed, and the answer is not left in the operator's inbox."""
    check = fake.check()
    assert list(outcome(check).items()) == list(WELL.items()) and check.well
    assert (fake.agents, fake.purged, fake.read) == ({}, ["doctor1"], [8])
    assert all(step.seconds >= 0 for step in check.steps)


@pytest.mark.parametrize("sealed", [False, True])
def test_the_agent_talks_to_the_operator_alone(fake: FakeHive, sealed: bool) -> None:
    """It is a valid spawn of a scripted agent that may send to nobody else, and that follows no other message."""
    fake.check(sealed=sealed)
    request = SpawnRequest.model_validate(fake.spawned[0])
    assert request.start and request.config.backend == "scripted"
    assert request.config.allowed_recipients == ["operator"]
    assert [rule.match for rule in request.config.script if not rule.send] == [""]
    assert request.config.network == ("sealed" if sealed else "host")


def test_a_seal_that_cannot_be_proved(fake: FakeHive) -> None:
    """A failed check of what an agent reaches is a step like others: the reason is told, and the agent is removed."""
    fake.seal_problem = "it sent a report that cannot be read"
    check = fake.check()
    assert outcome(check) == {**WELL, "seal": "error"} and not check.well
    assert check.steps[-2].what == "doctor1: its network could not be tried: it sent a report that cannot be read"
    assert (check.steps[-2].remedy, fake.agents) == ("look", {})


def test_a_build_that_fails(fake: FakeHive) -> None:
    """The build's own reason and the end of its log are told; nothing was made, so nothing is removed."""
    fake.becomes, fake.spawn_fails = "failed", Failure("build_failed", "doctor1/0 failed: no space", hint="make room")
    check = fake.check()
    assert outcome(check) == {"daemon": "ok", "build": "error"}
    step = check.steps[-1]
    assert (step.what, step.remedy) == ("doctor1/0 failed: no space", "make room")
    assert step.lines == ("the build log of doctor1/0",)


def test_an_older_failure_is_no_failure_of_this_run(fake: FakeHive) -> None:
    """The records of a spawn that failed before are not taken for those of this one."""
    fake.propose("doctor1", "failed", "")
    assert fake.check().well


def test_a_closure_that_is_not_there(fake: FakeHive) -> None:
    """A build that tells of a path where nothing lies has failed; the agent is removed all the same."""
    fake.closure.rmdir()
    check = fake.check()
    assert outcome(check) == {"daemon": "ok", "build": "error", "remove": "ok"}
    assert str(fake.closure) in check.steps[1].what and fake.agents == {}


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ({"lifecycle": "failed", "state": "offline", "exit_cause": "exit code 1"}, "failed: exit code 1"),
        (
            {"lifecycle": "backoff", "state": "offline", "crashes": 3, "last_crash": "OOM"},
            "in a row, the last time with: OOM",
        ),
        ({"lifecycle": "running", "state": "starting"}, "is starting after 0.3 s"),
    ],
)
def test_an_agent_that_does_not_become_ready(fake: FakeHive, status: Json, word: str) -> None:
    """The reason is told with the end of the agent's log, and the agent is removed."""
    fake.status = status
    check = fake.check(timeout=0.3)
    assert outcome(check) == {"daemon": "ok", "build": "ok", "start": "ok", "ready": "error", "remove": "ok"}
    assert word in check.steps[3].what and check.steps[3].lines == ("the log of doctor1",)
    assert fake.agents == {} and not check.well


@pytest.mark.parametrize(("reply", "word"), [(None, "has not answered"), ("what?", "something else: 'what?'")])
def test_an_agent_that_does_not_answer(fake: FakeHive, reply: str | None, word: str) -> None:
    """No answer in time, or another than was asked for, is a failure."""
    fake.reply = reply
    check = fake.check(timeout=0.3)
    assert outcome(check) == {step: how for step, how in WELL.items() if step != "seal"} | {"answer": "error"}
    assert word in check.steps[4].what


def test_an_agent_that_stays(fake: FakeHive) -> None:
    """An agent that is there after it was destroyed is a failure of the last step."""
    fake.stays = True
    check = fake.check()
    assert outcome(check) == WELL | {"remove": "error"} and not check.well


def test_a_build_that_takes_too_long(fake: FakeHive) -> None:
    """The time is told; what the daemon is still at work on is left to the next run, and that is said."""
    spawn = fake.spawn
    over = threading.Event()

    def slow(body: Json) -> Json:
        fake.propose(str(body["name"]), "building", "")
        over.wait(30)
        return spawn(body)

    fake.spawn = slow  # type: ignore[method-assign]
    try:
        check = fake.check(timeout=0.3)
    finally:
        over.set()
    assert outcome(check) == {"daemon": "ok", "build": "error", "remove": "error"}
    assert "is building after 0.3 s" in check.steps[1].what and "--timeout" in check.steps[1].remedy
    assert "still builds or starts" in check.steps[2].what


@pytest.mark.parametrize("at", ["/v1/agents/doctor1", "/v1/messages/7/reply"])
def test_ctrl_c_leaves_nothing(fake: FakeHive, at: str) -> None:
    """An interrupted run removes its agent before it ends."""

    def interrupt(path: str) -> None:
        if path == at:
            raise KeyboardInterrupt

    fake.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        fake.check()
    assert (fake.agents, fake.purged) == ({}, ["doctor1"])


@pytest.mark.parametrize(
    ("maker", "removed"),
    [
        (f"process 999999999, started 5, boot {BOOT}", True),
        (f"process {os.getpid()}, started 1, boot {BOOT}", True),
        ("process 1, started 5, boot 00000000-0000", True),
        (throwaway_agent._self(), False),
        ("nobody", False),
    ],
    ids=["gone", "another process", "another boot", "this process", "not a process"],
)
def test_what_a_killed_run_has_left_is_removed(fake: FakeHive, maker: str, removed: bool) -> None:
    """The agent of a process that is gone, or of an earlier boot; never that of a run that still goes on."""
    fake.leave_over("doctor1", maker)
    check = fake.check()
    assert ("left-over" in outcome(check)) is removed and check.well
    assert list(fake.agents) == ([] if removed else ["doctor1"])
    assert check.name == ("doctor1" if removed else "doctor2")


@pytest.mark.parametrize(
    ("name", "changes"),
    [("doctor1", {"by": "hm1nd"}), ("doctor1", {"kind": "config"}), ("ada", {}), ("doctorx", {}), ("doctor01", {})],
)
def test_other_agents_are_left_alone(fake: FakeHive, name: str, changes: Json) -> None:
    """An agent of another name, or whose mark was not written by an operator's spawn, is nobody's left-over."""
    fake.leave_over(name, "process 999999999, started 5, boot x", **changes)
    fake.check()
    assert name in fake.agents and fake.purged == [fake.spawned[0]["name"]]


def test_the_first_free_name_is_taken() -> None:
    """A person may have given such a name to an agent."""
    assert throwaway_agent.free_name(set()) == "doctor1"
    assert throwaway_agent.free_name({"doctor1", "doctor2", "doctor4"}) == "doctor3"


async def test_without_a_daemon(hive: Program, tmp_path: Path) -> None:
    """The first step fails with the reason, and the program ends with 1."""
    ended = await hive.run("doctor", "--live", "--json", env={"HIVE_STATE_DIR": str(tmp_path)})
    (step,) = ended.json["live"]["steps"]
    assert (ended.code, step["step"], step["severity"]) == (1, "daemon", "error")
    assert "no daemon is listening" in step["what"] and "hive-c0re serve" in step["remedy"]


async def test_a_gate_that_knows_nothing_of_the_spawn(hive: Program, daemon: FakeHost, tmp_path: Path) -> None:
    """A daemon that answers the spawn and has no proposal of it is told as a failure; the agent is removed."""
    daemon.gate.proposals = []
    ended = await hive.run("doctor", "--live", "--timeout", "0.5", env={"HIVE_STATE_DIR": str(tmp_path)})
    assert ended.code == 1
    assert "error    build, 0." in ended.out and "doctor1 is unknown to the gate" in ended.out
    assert ended.out.splitlines()[-1].startswith("not healthy: errors: ")
    assert ("POST", "/v1/agents/doctor1/destroy", DestroyRequest(purge=True)) in daemon.asked


def test_what_an_agent_wrote_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A step's words, remedy and lines are shown without control characters, each in a line of its own."""
    _show_step(CheckStep("ready", "error", 1.25, "no\x1b[2J\nok", "look\x07", ("\x1b[31mred\nline",)))
    assert capsys.readouterr().out.splitlines() == [
        r"error    ready, 1.2 s: no\x1b[2J\nok",
        r"         look\x07",
        r"         | \x1b[31mred\nline",
    ]


async def test_options_of_live(hive: Program) -> None:
    """Options and agents of --live alone are wrong usage."""
    for given, named in (("--sealed", "--sealed"), ("--host-network", "--host-network"), ("ada", "AGENT")):
        ended = await hive.run("doctor", given)
        assert ended.code == 2 and f"{named} needs --live" in ended.err
