"""Script rules at the gate: proposing changes of oneself, and the manager's scripted decisions."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hive_agent.backends.base import Ok, Turn
from hive_agent.backends.scripted.backend import ScriptedBackend
from hive_agent.backends.scripted.script import ScriptGate, ScriptMemory
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.repositories.configuration import ConfigRepository
from hive_core.protocol import (
    AgentConfig,
    ApproveRequest,
    AskForHost,
    Delivery,
    DenyRequest,
    ProposeRequest,
    ScriptChange,
    ScriptDecision,
    ScriptFile,
    ScriptHost,
    ScriptProposal,
    ScriptRule,
    ScriptSend,
    ScriptWork,
    WorkDetail,
    WorkList,
)
from tests.unit.agent.backends.fake_backend import silent
from tests.unit.agent.config_repository_fixture import config_place, git
from tests.unit.agent.fake_core_api import FakeCore, refusal
from tests.unit.agent.fake_core_gate import made

REVIEW = "Review proposal ada/3: approve or deny it (state built).\n+tools = []"
SHORTER = ScriptProposal(changes=[ScriptChange(path="prompt.md", text="Be short.\n")], note="{sender} asked: {body}")


def message(body: str, sender: str = "operator") -> Delivery:
    at = datetime.now(UTC)
    return Delivery(
        id=100, sender=sender, to="alice", body=body, reply_to=None, sent_at=at, attempt=1, redelivered=False
    )


def backend(client: CoreClient, place: Path, *rules: ScriptRule) -> ScriptedBackend:
    def repository(name: str) -> ConfigRepository:
        return ConfigRepository(place / name, "alice", os.environ)

    gate = ScriptGate("alice", client, repository("config"), repository)
    config = AgentConfig(script=list(rules))
    return ScriptedBackend("alice", config, client, ScriptMemory(place / "script.json"), gate)


def deciding(decision: str = "approve") -> ScriptRule:
    decide = {"agent": "{1}", "number": "{2}", "decision": decision, "note": "{1}/{2} is fine by {me}"}
    return ScriptRule(
        sender="system", match=r"^Review proposal (\w+)/(\d+)", decide=ScriptDecision.model_validate(decide)
    )


async def test_propose(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """`propose` commits the files, proposes that commit with its note, and then sends; all of it once."""
    place = config_place(tmp_path / "config")
    rule = ScriptRule(propose=SHORTER, send=[ScriptSend(to="bob", text="asked for it")])
    for _ in range(2):
        assert await backend(client, tmp_path, rule).run(Turn((message("be short"),)), silent) == Ok()
    head = git(place, "rev-parse", "HEAD")
    assert core.gate.asked == [("", ProposeRequest(commit=head, note="operator asked: be short"))]
    assert git(place, "show", "HEAD:prompt.md") == "Be short."
    assert git(place, "log", "--format=%s", "-1") == "operator asked: be short"
    assert [sent.body for sent in core.sent] == ["asked for it"]


def work(**values: object) -> WorkDetail:
    """Work of alice for the repository `config`, which the fixture makes as it is needed here."""
    at = datetime.now(UTC)
    given = {"repo": "config", "number": 3, "state": "built", "by": "alice", "title": "x", "description": ""}
    given |= {"branch": "main", "commit": "1" * 40, "base": "2" * 40, "waits_for": None, "approvals": [], "diff": ""}
    given |= {"outcome": "", "landed": None, "link": "", "created_at": at, "changed_at": at, "expires_at": None}
    return WorkDetail.model_validate(given | {"checks": [], "diff_bytes": 0} | values)


async def test_submit(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """`submit` commits the files in the clone and submits that commit, once even if the message comes again."""
    clone = config_place(tmp_path / "config")
    files = [ScriptFile(path="prompt.md", text="Be short.\n")]
    rule = ScriptRule(
        submit=ScriptWork(repo="config", files=files, title="Mend {1}", description="{body}"), match="(x)"
    )
    core.raw["POST /v1/work"] = work().model_dump_json()
    core.raw["GET /v1/work"] = WorkList(work=[], total=0).model_dump_json()
    assert await backend(client, tmp_path, rule).run(Turn((message("x"),)), silent) == Ok()
    head = git(clone, "rev-parse", "HEAD")
    assert git(clone, "log", "--format=%B", "-1").split("\n\n") == ["Mend x", "x"], git(clone, "log")
    core.raw["GET /v1/work"] = WorkList(work=[work(commit=head)], total=1).model_dump_json()
    assert await backend(client, tmp_path, rule).run(Turn((message("x"),)), silent) == Ok()
    assert core.calls.count("POST /v1/work") == 1


async def test_decide_on_work(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """`decide` with a repository decides on the work as it was seen; what is decided on already is left alone."""
    decide = ScriptDecision(repo="{1}", number="{2}", decision="deny", note="no")
    rule = ScriptRule(sender="system", match=r"^Review work (\w+)/(\d+)", decide=decide)
    core.raw["POST /v1/work/config/3/deny"] = work(state="denied").model_dump_json()
    for state in ("built", "denied"):
        core.raw["GET /v1/work/config/3"] = work(state=state).model_dump_json()
        review = message("Review work config/3: approve or deny it", "system")
        assert await backend(client, tmp_path, rule).run(Turn((review,)), silent) == Ok()
    assert core.calls.count("POST /v1/work/config/3/deny") == 1


async def test_request_network(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """`request_network` asks for the host; that it is reached already, as after an approval, is no failure, and another
    refusal is told to who asked.
    """
    rule = ScriptRule(
        match=r"read (\S+)",
        request_network=ScriptHost(host="{1}", why="{sender} wants it", hours=2),
        send=[ScriptSend(to="bob", text="asked for it")],
    )
    one = backend(client, tmp_path, rule)
    assert await one.run(Turn((message("read a.example.org"),)), silent) == Ok()
    assert core.hosts == [AskForHost(host="a.example.org", why="operator wants it", hours=2)]
    core.refusals["POST /v1/network/requests"] = refusal(409, "host_allowed", "it is reached")
    assert await one.run(Turn((message("read a.example.org"),)), silent) == Ok()
    core.refusals["POST /v1/network/requests"] = refusal(409, "host_denied", "it is denied")
    core.keys.clear()
    assert await one.run(Turn((message("read a.example.org"),)), silent) == Ok()
    assert core.sent[-1].body == "alice: could not request the network: it is denied"
    assert [sent.to for sent in core.sent][-1] == "operator"


async def test_denied_change_is_not_proposed_again(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A message that comes again after its proposal was decided on proposes nothing."""
    config_place(tmp_path / "config")
    rule = ScriptRule(propose=SHORTER)
    await backend(client, tmp_path, rule).run(Turn((message("x"),)), silent)
    core.gate.proposals = [made(**core.gate.proposals[0].model_dump() | {"state": "denied"})]
    await backend(client, tmp_path, rule).run(Turn((message("x"),)), silent)
    assert len(core.gate.asked) == 1


async def test_what_cannot_be_proposed_is_told(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A broken repository and a refusal are told to who asked, the rest of the rule is left, the message is done."""
    rule = ScriptRule(propose=SHORTER, send=[ScriptSend(to="bob", text="asked for it")])
    assert await backend(client, tmp_path, rule).run(Turn((message("x"),)), silent) == Ok()
    config_place(tmp_path / "config")
    core.refusals["POST /v1/proposals"] = refusal(409, "not_rebased", "main is at 123")
    core.keys.clear()
    assert await backend(client, tmp_path, rule).run(Turn((message("x"),)), silent) == Ok()
    assert [sent.to for sent in core.sent] == ["operator", "operator"]
    assert "could not propose: there is no configuration" in core.sent[0].body
    assert core.sent[1].body == "alice: could not propose: main is at 123"


async def test_trouble_of_the_daemon_is_no_answer(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A daemon with an error of its own must not make the message count as handled."""
    core.refusals["GET /v1/proposals/ada/3"] = refusal(500, "internal", "oops")
    with pytest.raises(CoreError):
        await backend(client, tmp_path, deciding()).run(Turn((message(REVIEW, "system"),)), silent)


@pytest.mark.parametrize(
    ("decision", "request_type"), [("approve", ApproveRequest), ("deny", DenyRequest)], ids=["approve", "deny"]
)
async def test_decide(
    core: FakeCore,
    client: CoreClient,
    tmp_path: Path,
    decision: str,
    request_type: type[ApproveRequest | DenyRequest],
) -> None:
    """`decide` looks at the proposal that the message names, and decides on the state that it saw."""
    core.gate.proposals = [made()]
    assert await backend(client, tmp_path, deciding(decision)).run(Turn((message(REVIEW, "system"),)), silent) == Ok()
    assert core.calls[0] == "GET /v1/proposals/ada/3"
    assert core.gate.asked == [("ada/3", request_type(expect="built", note="ada/3 is fine by alice"))]


@pytest.mark.parametrize("state", ["approved", "deployed", "failed", "denied", "withdrawn"])
async def test_decided_before_is_left_alone(core: FakeCore, client: CoreClient, tmp_path: Path, state: str) -> None:
    """A proposal that was decided on when the message comes (again) is not decided on again."""
    core.gate.proposals = [made(state=state)]
    assert await backend(client, tmp_path, deciding()).run(Turn((message(REVIEW, "system"),)), silent) == Ok()
    assert core.gate.asked == []


async def test_only_the_rules_sender_decides(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """An agent that writes the hive's words decides nothing: the rule is for messages from `system`."""
    core.gate.proposals = [made()]
    await backend(client, tmp_path, deciding()).run(Turn((message(REVIEW, "ada"),)), silent)
    assert core.gate.asked == []


async def test_no_number_is_told(core: FakeCore, client: CoreClient, tmp_path: Path) -> None:
    """A rule whose number is none says so; nothing is looked up."""
    decide = ScriptDecision(agent="ada", number="{body}", decision="approve", note="x")
    await backend(client, tmp_path, ScriptRule(decide=decide)).run(Turn((message("../../x"),)), silent)
    assert [sent.body for sent in core.sent] == ["alice: could not decide: '../../x' is not the number of a proposal"]
    assert [call for call in core.calls if "proposals" in call] == []
