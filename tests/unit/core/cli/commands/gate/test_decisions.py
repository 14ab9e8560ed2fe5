"""`hive-c0re propose`, `approve`, `deny`, `withdraw` and `rollback`."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    ProposalDetail,
    ProposalQuery,
    ProposeRequest,
    RollbackRequest,
    WithdrawRequest,
)
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.fake_host_http import Refusal
from tests.unit.core.cli.run_cli import Program
from tests.unit.core.cli.test_output import on_terminal

SHA = "c" * 40


def gone(state: str, **changes: Any) -> ProposalDetail:
    """The proposal, once it waits for nobody."""
    return proposal(state=state, waits_for=None, **changes)


@pytest.mark.parametrize("words", [["ada", "3"], ["ada/3"]])
async def test_approve(words: list[str], hive: Program, daemon: FakeHost) -> None:
    """`approve` decides on the state `built` and waits until the proposal is deployed, told on stderr."""
    daemon.gate.proposals, daemon.gate.later = [proposal()], [gone("deployed")]
    ended = await hive.run("approve", *words)
    assert (ended.code, ended.out) == (0, "ada/3 is deployed\n")
    assert ended.err == "ada/3: approved\nada/3: deployed\n"
    assert daemon.asked[0] == ("POST", "/v1/proposals/ada/3/approve", ApproveRequest(expect="built"))
    assert daemon.asked[1][2] == ProposalQuery(unlike="approved", wait_seconds=60.0)


async def test_approve_as_json(hive: Program, daemon: FakeHost) -> None:
    """With --json stdout is the daemon's last answer, and stderr is silent."""
    daemon.gate.proposals, daemon.gate.later = [proposal()], [gone("deployed")]
    ended = await hive.run("approve", "ada", "3", "--note", "fine", "--expect", "approved", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ProposalDetail.model_validate(ended.json).state == "deployed"
    assert daemon.asked[0][2] == ApproveRequest(expect="approved", note="fine")


async def test_a_decision_about_one_commit(hive: Program, daemon: FakeHost) -> None:
    """With --commit the daemon is told which commit was looked at."""
    daemon.gate.proposals = [proposal()]
    await hive.run("approve", "ada", "3", "--commit", SHA, "--no-wait")
    await hive.run("deny", "ada", "3", "--commit", SHA, "--note", "no")
    assert [body for _, _, body in daemon.asked] == [
        ApproveRequest(expect="built", commit=SHA),
        DenyRequest(expect="built", commit=SHA, note="no"),
    ]


async def test_approve_without_waiting(hive: Program, daemon: FakeHost) -> None:
    """--no-wait ends when the decision is in place."""
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("approve", "ada", "3", "--no-wait")
    assert (ended.code, ended.out, ended.err) == (0, "ada/3 is approved\n", "")
    assert len(daemon.asked) == 1


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_failed_deployment_fails(as_json: bool, hive: Program, daemon: FakeHost) -> None:
    """A deployment that fails ends the command with 1 and says why, in words that nothing in them can act on."""
    daemon.gate.proposals = [proposal()]
    daemon.gate.later = [gone("failed", outcome="not healthy\x1b[2J after 60 s")]
    ended = await hive.run("approve", "ada", "3", *(["--json"] if as_json else []))
    assert ended.code == 1
    if as_json:
        assert ProposalDetail.model_validate(ended.json).state == "failed"
        assert ended.error["code"] == "proposal_ended"
    else:
        assert ended.out == ""
        assert "proposal ada/3 failed: not healthy\\x1b[2J after 60 s" in ended.err
        assert "hive-c0re proposals log ada/3" in ended.err


async def test_the_first_of_two(hive: Program, daemon: FakeHost) -> None:
    """Where two have to approve, the first one does not wait for the second."""
    daemon.gate.proposals = [proposal()]
    daemon.gate.later = [proposal(approvals=["manager:hm1nd"])]
    ended = await hive.run("approve", "ada", "3")
    assert (ended.code, ended.out) == (0, "ada/3 is built and waits for the operator\n")


async def test_a_stale_decision(hive: Program, daemon: FakeHost) -> None:
    """A decision that the daemon refuses ends with 1 and its words."""
    daemon.refusal = Refusal(409, "stale_state", "ada/3 is deployed, not built", "look at it again")
    ended = await hive.run("approve", "ada", "3")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "hive-c0re: ada/3 is deployed, not built (look at it again)\n"


async def test_waiting_outlives_a_restart(hive: Program, daemon: FakeHost) -> None:
    """A daemon that restarts while `approve` waits is asked again."""
    daemon.gate.proposals = [proposal()]
    process = await hive.begin("approve", "ada", "3")
    await daemon.gate.waited_for.wait()
    await daemon.stop()
    daemon.gate.proposals = [gone("deployed")]
    await daemon.start()
    out, err = await process.communicate()
    assert (process.returncode, out) == (0, b"ada/3 is deployed\n")
    assert err == b"ada/3: approved\nada/3: deployed\n"


async def test_deny(hive: Program, daemon: FakeHost) -> None:
    """`deny` sends its reason, and ends when the proposal is denied."""
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("deny", "ada", "3", "--note", "too much\nmemory")
    assert (ended.code, ended.out, ended.err) == (0, "ada/3 is denied\n", "")
    assert daemon.asked == [
        ("POST", "/v1/proposals/ada/3/deny", DenyRequest(expect="built", note="too much\nmemory")),
    ]
    ended = await hive.run("deny", "ada/3", "--note", "x", "--expect", "proposal", "--json")
    assert ProposalDetail.model_validate(ended.json).state == "denied"
    assert daemon.asked[1][2] == DenyRequest(expect="proposal", note="x")


@pytest.mark.parametrize("command", [["deny", "ada", "3"], ["rollback", "ada"], ["propose", "ada", SHA]])
async def test_a_reason_is_needed(command: list[str], hive: Program, daemon: FakeHost) -> None:
    """Without a reason, and without a terminal to ask on, nothing happens and the usage is told."""
    for more in ([], ["--note", ""]):
        ended = await hive.run(*command, *more, stdin=b"because\n")
        assert (ended.code, ended.out, daemon.asked) == (2, "", [])
        assert "add --note TEXT" in ended.err


@pytest.mark.parametrize(
    ("command", "question"),
    [
        (["deny", "ada", "3"], "Why is ada/3 denied? "),
        (["rollback", "ada"], "Why is ada rolled back? "),
        (["propose", "ada", SHA], "What is the change for? "),
    ],
)
async def test_a_reason_is_asked_for(command: list[str], question: str, hive: Program, daemon: FakeHost) -> None:
    """On a terminal a reason that was not given is asked for; an empty answer changes nothing."""
    daemon.gate.proposals = [proposal()]
    wait = [] if command[0] == "deny" else ["--no-wait"]
    code, shown = await on_terminal(hive, *command, *wait, typed=b"because\n")
    assert code == 0, shown
    assert question in shown
    assert [getattr(body, "note", None) for _, _, body in daemon.asked] == ["because"]
    assert (await on_terminal(hive, *command, *wait, typed=b"\n"))[0] == 2
    assert len(daemon.asked) == 1


async def test_withdraw(hive: Program, daemon: FakeHost) -> None:
    """`withdraw` takes a proposal back, with a note or without."""
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("withdraw", "ada", "3")
    assert (ended.code, ended.out, ended.err) == (0, "ada/3 is withdrawn\n", "")
    ended = await hive.run("withdraw", "ada/3", "--note", "a mistake", "--json")
    assert ProposalDetail.model_validate(ended.json).state == "withdrawn"
    assert [body for _, _, body in daemon.asked] == [WithdrawRequest(), WithdrawRequest(note="a mistake")]


async def test_propose(hive: Program, daemon: FakeHost) -> None:
    """`propose` waits until the proposal is built, and says whom it waits for."""
    daemon.gate.later = [gone("building"), proposal()]
    ended = await hive.run("propose", "ada", SHA, "--note", "why")
    assert (ended.code, ended.out) == (0, "ada/3 is built and waits for the operator\n")
    assert ended.err == "ada/3: proposal\nada/3: building\nada/3: built\n"
    assert daemon.asked[0] == ("POST", "/v1/proposals", ProposeRequest(agent="ada", commit=SHA, note="why"))


async def test_propose_what_a_rule_approves(hive: Program, daemon: FakeHost) -> None:
    """A proposal that a rule approves is waited for until it is deployed."""
    daemon.gate.later = [gone("built"), gone("approved"), gone("deployed")]
    ended = await hive.run("propose", "ada", SHA, "--note", "why")
    assert (ended.code, ended.out) == (0, "ada/3 is deployed\n")


@pytest.mark.parametrize(("state", "words"), [("failed", "failed: "), ("withdrawn", "was withdrawn: ")])
async def test_propose_in_vain(state: str, words: str, hive: Program, daemon: FakeHost) -> None:
    """A proposal that ends before anybody could decide ends the command with 1, and why."""
    daemon.gate.later = [gone(state, outcome="agent.toml is wrong")]
    ended = await hive.run("propose", "ada", SHA, "--note", "why")
    assert (ended.code, ended.out) == (1, "")
    assert f"proposal ada/3 {words}agent.toml is wrong" in ended.err


async def test_propose_without_waiting(hive: Program, daemon: FakeHost) -> None:
    """--no-wait ends when the proposal is made."""
    ended = await hive.run("propose", "ada", SHA, "--note", "why", "--no-wait")
    assert (ended.code, ended.out, ended.err) == (0, "ada/3 is proposed\n", "")


async def test_only_a_full_commit_id(hive: Program, daemon: FakeHost) -> None:
    """A branch in place of a commit is refused, with what to do."""
    ended = await hive.run("propose", "ada", "main", "--note", "why")
    assert (ended.code, ended.out) == (1, "")
    assert "git rev-parse" in ended.err


@pytest.mark.parametrize(("words", "number"), [(["ada"], None), (["ada", "1"], 1), (["ada/1"], 1), (["ada", "0"], 0)])
async def test_rollback(words: list[str], number: int | None, hive: Program, daemon: FakeHost) -> None:
    """`rollback` deploys an earlier deployment again, by default the one before, and waits for it."""
    daemon.gate.later = [gone("deployed", kind="rollback", number=9)]
    ended = await hive.run("rollback", *words, "--note", "it was slow")
    assert (ended.code, ended.out) == (0, "ada/9 is deployed\n")
    assert ended.err == "ada/9: approved\nada/9: deployed\n"
    assert daemon.asked[0] == (
        "POST", "/v1/agents/ada/rollback", RollbackRequest(number=number, note="it was slow"),
    )  # fmt: skip
    assert daemon.asked[1][1] == "/v1/proposals/ada/9"
