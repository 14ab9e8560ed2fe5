"""An agent's way through the gate with real containers, Nix and systemd: what is approved is what runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform

import pytest
import pytest_asyncio
from aiohttp import web

from tests.helpers.loopback import serving
from tests.helpers.real_daemon import Json
from tests.system.host_hive import (
    FLAKE,
    STATE,
    HostHive,
    call,
    closure_of,
    inside,
    invocation,
    left_of,
    program,
    rule,
    service,
    unit,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITH_JQ = """\
{ pkgs, ... }:
{
  hyperhive.packages = [ pkgs.jq ];
  systemd.services.clock = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = "/usr/bin/sleep infinity";
  };
}
"""
PAGE = b"a page of somebody else's\n"
WITH_PAGE = """\
{ pkgs, ... }:
{
  hyperhive.environment.PAGE = "${derivation {
    name = "page";
    system = "SYSTEM";
    builder = "builtin:fetchurl";
    url = "URL";
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "HASH";
  }}";
}
"""
SILENT = '{ systemd.services.hive-harness.serviceConfig.ExecStart = "/usr/bin/sleep infinity"; }\n'
SCRIPT = [
    rule(
        "operator",
        "install jq",
        remember="wish",
        propose={"note": "jq, to read answers with", "changes": [{"path": "agent.nix", "text": WITH_JQ}]},
    ),
    rule(
        "system",
        r"^Proposal ada/(\d+) is deployed\.",
        send=[{"to": "@wish", "text": "I have it since proposal {1}"}],
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def agents(hive: HostHive) -> tuple[str, str]:
    """ada, which proposes to install jq when the operator asks for it, and eve."""
    await asyncio.gather(hive.spawn_with("ada", SCRIPT), hive.spawn_with("eve"))
    return "ada", "eve"


@pytest.fixture
def ada(agents: tuple[str, str]) -> str:
    """The agent with the wish."""
    return agents[0]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def silent(hive: HostHive, agents: tuple[str, str]) -> tuple[Json, str]:
    """A proposal of eve's that is being activated, and never reports in; and what eve ran before.

    It takes as long as the health timeout: the tests before the one that waits for its end fill that time.
    """
    eve = agents[1]
    before = closure_of(eve)
    return await hive.approve(await hive.propose(eve, "say nothing more", agent_nix=SILENT)), before


async def test_from_a_wish_to_a_change_in_force(hive: HostHive, ada: str, silent: tuple[Json, str]) -> None:
    """Message, proposal, build by Nix, the manager's approval, switch, health, answer: nobody but the agents acts."""
    before, old = closure_of(ada), invocation(ada)
    answer = await hive.ask_agent(ada, "please install jq")
    assert answer == "I have it since proposal 1"
    proposal = await hive.ask("GET", "/v1/proposals/ada/1")
    assert (proposal["state"], proposal["approvals"]) == ("deployed", ["hm1nd"])
    shown = "\n".join(proposal["closure_changes"])
    assert "jq" in shown
    assert "clock.service" in shown
    assert closure_of(ada) == proposal["closure"] != before
    assert invocation(ada) != old
    assert inside(ada, "systemctl", "is-active", "clock").strip() == "active"
    assert inside(ada, "/run/current-system/sw/bin/jq", "-n", "1").strip() == "1"
    status = await hive.idle(ada)
    assert (status["deployment"], status["lifecycle"], status["restarts"]) == (1, "running", 0)


async def test_a_configuration_that_does_not_build(hive: HostHive, ada: str) -> None:
    """It ends as failed, with what Nix says, nothing changes, and nothing that runs is touched."""
    before = closure_of(ada), invocation(ada), (await hive.agents())[ada]["deployment"]
    found = await hive.propose(ada, "a typo", agent_nix="{ hyperhive.pakages = [ ]; }\n")
    assert found["state"] == "failed"
    assert "The option `hyperhive.pakages' does not exist" in found["outcome"]
    assert (closure_of(ada), invocation(ada), (await hive.agents())[ada]["deployment"]) == before


async def test_an_older_hyperhive_is_seen_and_rebuilt(hive: HostHive, ada: str) -> None:
    """After an update of hyperhive its agents need an update, the manager is told once, and a rebuild is the cure."""
    assert not (await hive.agents())[ada]["needs_update"]
    changed = FLAKE / "agent-system.nix"
    changed.write_text(changed.read_text().replace("the harness of ${name}", "the new harness of ${name}"))
    await hive.restart()
    status = await hive.agent_until(ada, lambda agent: agent["needs_update"], 30)
    assert status["lifecycle"] == "running"
    before = status["deployment"]
    rebuilt = await hive.ended(await hive.ask("POST", f"/v1/agents/{ada}/rebuild", {}))
    assert rebuilt["state"] == "deployed", rebuilt["outcome"]
    status = await hive.agent_until(ada, lambda agent: not agent["needs_update"], 30)
    assert status["deployment"] > before
    assert "the new harness of ada" in inside(ada, "systemctl", "show", "hive-harness", "-p", "Description")
    told = [body for body in hive.told("hm1nd", "") if "Built with an older hyperhive" in body]
    assert len(told) == 1
    assert ada in told[0]


async def test_a_change_of_the_prompt_alone_is_deployed(hive: HostHive, ada: str) -> None:
    """The system is the one before, and the agent is started anew on the new files, which nobody in it can change."""
    before, old = closure_of(ada), invocation(ada)
    changed = await hive.ended(await hive.propose(ada, "kinder", prompt_md="You are ada. Be kind.\n"))
    assert changed["state"] == "deployed", changed["outcome"]
    assert closure_of(ada) == changed["closure"] == before
    assert invocation(ada) != old
    assert inside(ada, "cat", "/deployed/prompt.md") == "You are ada. Be kind.\n"
    status = await hive.idle(ada)
    assert (status["deployment"], status["lifecycle"]) == (changed["number"], "running")
    command = "echo evil >/deployed/prompt.md; rm -f /deployed/agent.nix; touch /deployed/more; umount /deployed; true"
    inside(ada, "sh", "-c", command)
    directory = STATE / "deployed" / ada
    assert [path.name for path in directory.iterdir()] == [str(changed["number"])]
    assert sorted(path.name for path in directory.glob("*/*")) == ["agent.nix", "agent.toml", "prompt.md"]
    assert (directory / str(changed["number"]) / "prompt.md").read_text() == "You are ada. Be kind.\n"


async def test_a_rollback_needs_no_build(hive: HostHive, ada: str) -> None:
    """The closure before goes back into force as it was: Nix is not asked to build anything."""
    agent_nix = WITH_JQ.replace("pkgs.jq", "pkgs.git")
    changed = await hive.ended(
        await hive.propose(ada, "shorter", prompt_md="You are ada. Be short.\n", agent_nix=agent_nix)
    )
    assert changed["state"] == "deployed", changed["outcome"]
    assert inside(ada, "cat", "/deployed/agent.nix", "/deployed/prompt.md") == f"{agent_nix}You are ada. Be short.\n"
    history = (await hive.ask("GET", f"/v1/agents/{ada}/history"))["deployments"]
    built = call("journalctl", "--no-pager", "--unit=hive-build-*", "--output=cat").count("\n")
    back = await hive.ended(await hive.ask("POST", f"/v1/agents/{ada}/rollback", {"note": "it was better"}))
    assert back["state"] == "deployed", back["outcome"]
    assert closure_of(ada) == history[1]["closure"] != history[0]["closure"]
    assert "pkgs.jq" in inside(ada, "cat", "/deployed/agent.nix")
    assert "Be short" not in inside(ada, "cat", "/deployed/prompt.md")
    assert call("journalctl", "--no-pager", "--unit=hive-build-*", "--output=cat").count("\n") == built


async def test_a_destroyed_agent_finds_its_state_again(hive: HostHive) -> None:
    """Nothing is left of the container; what the agent has kept and its login are there for one of the same name."""
    await hive.spawn_with("bob")
    inside("bob", "sh", "-c", "echo remember >/state/note; echo key >/root/.claude/login; touch /etc/gone")
    await hive.ask("POST", "/v1/agents/bob/destroy", {})
    assert left_of("bob") == []
    assert not (STATE / "deployed" / "bob").exists()
    assert unit(service("bob"), "ActiveState") == "inactive"
    await hive.spawn_with("bob")
    assert (
        inside("bob", "sh", "-c", "cat /state/note /root/.claude/login; ls /etc/gone", check=False) == "remember\nkey\n"
    )
    await hive.ask("POST", "/v1/agents/bob/destroy", {"purge": True})
    assert not (STATE / "agents" / "bob").exists()


async def test_what_never_reports_in_is_rolled_back(hive: HostHive, silent: tuple[Json, str]) -> None:
    """It ends as failed after the health timeout, and the closure before runs again, healthy."""
    proposal, before = silent
    ended = await hive.ended(proposal)
    assert ended["state"] == "failed"
    status = await hive.idle("eve")
    assert status["deployment"] == 0
    assert closure_of("eve") == before
    await until(lambda: hive.told("eve", f"Proposal eve/{proposal['number']} failed"))


async def test_a_fetch_waits_for_the_operator(hive: HostHive, ada: str) -> None:
    """Nothing is asked of a server before the operator allows it; then exactly that, and the result is deployed."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(body=PAGE)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serving(app) as port:
        url = f"http://127.0.0.1:{port}/page?secret=42"
        values = {"SYSTEM": f"{platform.machine()}-linux", "URL": url, "HASH": hashlib.sha256(PAGE).hexdigest()}
        text = WITH_PAGE
        for key, value in values.items():
            text = text.replace(key, value)
        found = await hive.propose(ada, "a page to read", agent_nix=text)
        assert (found["state"], asked) == ("failed", []), found["outcome"]
        (fetch,) = found["missing_fetches"]
        assert (fetch["urls"], fetch["by_nix"]) == ([url], True)
        name = f"{ada}/{found['number']}"
        assert fetch["derivation"] in await program("hive-c0re", "proposals", "allow-fetches", name)
        assert asked == []
        command = ("hive-c0re", "proposals", "allow-fetches", name, "--commit", found["commit"], "--json")
        made = json.loads(await program(*command))
        deployed = await hive.ended(made)
        assert (deployed["state"], deployed["by"], asked) == ("deployed", ada, ["/page?secret=42"]), deployed["outcome"]
    assert inside(ada, "sh", "-c", "cat /nix/store/*-page").encode() == PAGE
