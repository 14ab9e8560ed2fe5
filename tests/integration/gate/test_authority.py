"""Who may do what to proposals is decided by the socket; what is refused is audited and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Json
from tests.integration.api.raw_http import request
from tests.integration.api.refusal_checks import Bad, check_refused
from tests.integration.gate.consistency_check import tags
from tests.integration.gate.crashing_daemon import CrashingDaemon, mortal

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPROVE: Json = {"expect": "built"}
DENY: Json = {"expect": "built", "note": "no"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hive() -> AsyncIterator[CrashingDaemon]:
    """A manager and two agents, none of which runs."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with mortal(Path(home)) as started:
            for name in ("ada", "bob"):
                await started.daemon.spawn(name, start=False)
            yield started


async def built(hive: CrashingDaemon, agent: str, by: str | None) -> int:
    """A proposal about `agent`, made by an agent or the operator, that waits for its decision."""
    body = {"commit": hive.commit(agent), "note": "please", "agent": agent}
    number: int = (await hive.ask("POST", "/v1/proposals", body, agent=by))["number"]
    await hive.until(agent, number, "built")
    return number


async def withdrawn(hive: CrashingDaemon, agent: str, number: int, by: str | None) -> None:
    """Leave nothing open for the next test."""
    await hive.ask("POST", f"/v1/proposals/{agent}/{number}/withdraw", {}, agent=by)


@pytest.mark.parametrize(
    ("agent", "by", "code"),
    [("ada", "ada", "manager_only"), ("hm1nd", "hm1nd", "own_proposal"), ("ada", None, "own_proposal")],
    ids=["agent", "manager", "operator"],
)
async def test_nobody_decides_on_their_own(hive: CrashingDaemon, agent: str, by: str | None, code: str) -> None:
    """Neither approval nor denial of what one has proposed oneself, whoever one is."""
    number = await built(hive, agent, by)
    path = f"/v1/proposals/{agent}/{number}"
    table = [Bad("POST", f"{path}/approve", 403, code, APPROVE), Bad("POST", f"{path}/deny", 403, code, DENY)]
    await check_refused(hive.daemon, table, by)
    await withdrawn(hive, agent, number, by)


async def test_what_the_manager_proposes_is_the_operators_to_decide(hive: CrashingDaemon) -> None:
    """Its own configuration, and a new agent: the manager cannot approve them, the operator alone is enough."""
    number = await built(hive, "hm1nd", "hm1nd")
    table = [Bad("POST", f"/v1/proposals/hm1nd/{number}/approve", 403, "own_proposal", APPROVE)]
    await check_refused(hive.daemon, table, "hm1nd")
    found = await hive.ask("POST", f"/v1/proposals/hm1nd/{number}/approve", APPROVE)
    assert (found["state"], len(found["approvals"])) == ("approved", 1)
    await hive.until("hm1nd", number, "deployed")
    await hive.ask("POST", "/v1/agents", {"name": "zoe", "note": "more hands", "start": False}, agent="hm1nd")
    await hive.until("zoe", 0, "built")
    table = [Bad("POST", "/v1/proposals/zoe/0/approve", 403, "own_proposal", APPROVE)]
    await check_refused(hive.daemon, table, "hm1nd")
    await hive.ask("POST", "/v1/proposals/zoe/0/deny", DENY)


async def test_an_agent_that_is_not_the_manager_decides_nothing(hive: CrashingDaemon) -> None:
    """Another agent can neither approve, deny, withdraw, see nor roll back; nor learn whether there is a proposal."""
    number = await built(hive, "ada", "ada")
    path = f"/v1/proposals/ada/{number}"
    table = [
        Bad("POST", f"{path}/approve", 403, "manager_only", APPROVE),
        Bad("POST", f"{path}/deny", 403, "manager_only", DENY),
        Bad("POST", "/v1/agents/ada/rollback", 403, "manager_only", {"note": "x"}),
        Bad("POST", f"{path}/withdraw", 404, "unknown_proposal", {}),
        Bad("GET", path, 404, "unknown_proposal"),
        Bad("GET", f"{path}/log", 404, "unknown_proposal"),
        Bad("GET", "/v1/proposals/ada/999", 404, "unknown_proposal"),
        Bad("POST", "/v1/agents/ada/rebuild", 403, "manager_only", {"note": "x"}),
    ]
    replies = await check_refused(hive.daemon, table, "bob")
    assert len({reply.body.replace(str(number).encode(), b"N") for reply in replies[3:6]}) == 1
    for query in ("state=all", "state=all&agent=bob"):
        seen = await hive.ask("GET", f"/v1/proposals?{query}", agent="bob")
        assert {found["agent"] for found in seen["proposals"]} == {"bob"}
        assert seen["total"] == len(seen["proposals"])
    await withdrawn(hive, "ada", number, "ada")


async def test_nobody_proposes_for_another(hive: CrashingDaemon) -> None:
    """An agent names no agent but itself; the operator and the manager have to name one that there is."""
    commit = hive.commit("ada")
    asked = {"commit": commit, "note": "please"}
    for name in ("ada", "hm1nd", "nobody"):
        await check_refused(
            hive.daemon, [Bad("POST", "/v1/proposals", 403, "not_yours", {**asked, "agent": name})], "bob"
        )
    await check_refused(hive.daemon, [Bad("POST", "/v1/proposals", 404, "unknown_agent", {**asked, "agent": "nobody"})])
    # The commit is ada's: there is none of that name in bob's own repository.
    await check_refused(hive.daemon, [Bad("POST", "/v1/proposals", 400, "no_such_commit", asked)], "bob")


async def test_only_who_proposed_withdraws(hive: CrashingDaemon) -> None:
    """The manager and the operator deny what they do not want; taking it back is the proposer's."""
    number = await built(hive, "ada", "ada")
    bad = Bad("POST", f"/v1/proposals/ada/{number}/withdraw", 403, "not_yours", {})
    await check_refused(hive.daemon, [bad], "hm1nd")
    await check_refused(hive.daemon, [bad])
    await withdrawn(hive, "ada", number, "ada")


async def test_a_decision_is_taken_once(hive: CrashingDaemon) -> None:
    """A second one, another one, and one on a state that it is not in: stale, and nothing happens twice."""
    first, second = await built(hive, "ada", "ada"), await built(hive, "bob", "bob")
    for expect in ("proposal", "building", "approved", "deployed", "denied"):
        body = {"expect": expect, "note": "no"}
        for verb in ("approve", "deny"):
            bad = Bad("POST", f"/v1/proposals/ada/{first}/{verb}", 409, "stale_state", body)
            (reply,) = await check_refused(hive.daemon, [bad], "hm1nd")
            assert f"ada/{first} is built" in reply.json["error"]["message"]
    await hive.ask("POST", f"/v1/proposals/ada/{first}/approve", APPROVE, agent="hm1nd")
    await hive.until("ada", first, "deployed")
    await hive.ask("POST", f"/v1/proposals/bob/{second}/deny", DENY, agent="hm1nd")
    for agent, number, state in (("ada", first, "deployed"), ("bob", second, "denied")):
        path = f"/v1/proposals/{agent}/{number}"
        table = [
            Bad("POST", f"{path}/approve", 409, "stale_state", APPROVE),
            Bad("POST", f"{path}/deny", 409, "stale_state", DENY),
            Bad("POST", f"{path}/approve", 409, "stale_state", {"expect": state}),
        ]
        await check_refused(hive.daemon, table, "hm1nd")
        await check_refused(hive.daemon, table)
        await check_refused(hive.daemon, [Bad("POST", f"{path}/withdraw", 409, "stale_state", {})], agent)
    assert (await hive.daemon.ask("GET", "/v1/audit/verify"))["problems"] == []


async def test_a_number_is_not_used_twice(hive: CrashingDaemon) -> None:
    """A tag that somebody has planted by hand where the gate's would go: refused, the tag stays, and it is found."""
    applied = hive.daemon.state_dir / "applied" / "bob.git"
    number = 1 + max(tag.number for tag in tags(applied))
    git(applied, "tag", "-a", "-m", "planted by hand", f"proposal/{number}", "main")
    before = git(applied, "for-each-ref")
    rows = hive.daemon.sql("SELECT count(*) FROM audit WHERE action LIKE 'gate.%'")
    body = {"commit": hive.commit("bob"), "note": "please"}
    reply = await request(hive.daemon.core_socket("bob"), "POST", "/v1/proposals", body)
    assert (reply.status, reply.code) == (409, "ref_moved")
    ((actor, outcome),) = hive.daemon.sql("SELECT actor, outcome FROM audit ORDER BY id DESC LIMIT 1")
    assert (actor, outcome) == ("agent:bob", "ref_moved")
    assert git(applied, "for-each-ref") == before
    assert hive.daemon.sql("SELECT count(*) FROM audit WHERE action LIKE 'gate.%'") == rows
    told = (await hive.daemon.ask("GET", "/v1/audit/verify"))["problems"]
    assert any("bob" in problem and f"proposal/{number}" in problem for problem in told), told
    git(applied, "tag", "-d", f"proposal/{number}")
    assert (await hive.daemon.ask("GET", "/v1/audit/verify"))["ok"]
    assert (await built(hive, "bob", "bob")) == number
    # The same for the decision, and for the end of an ended one.
    git(applied, "tag", "-a", "-m", "planted by hand", f"approved/{number}", "main")
    bad = Bad("POST", f"/v1/proposals/bob/{number}/approve", 409, "ref_moved", APPROVE)
    await check_refused(hive.daemon, [bad], "hm1nd")
    git(applied, "tag", "-d", f"approved/{number}")
    await withdrawn(hive, "bob", number, "bob")
