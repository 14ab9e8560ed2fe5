"""`hive-c0re rebuild`, and where it is told who needs it."""

from __future__ import annotations

from hive_core.protocol import ProposalList, RebuildRequest
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.run_cli import Program


async def test_one_agent(hive: Program, daemon: FakeHost) -> None:
    """It is asked for with its reason, followed, and told when it is deployed."""
    daemon.gate.later = [proposal("ada", 9, kind="rebuild", state="deployed", waits_for=None)]
    done = await hive.run("rebuild", "ada", "--reason", "a fix")
    assert (done.code, done.out) == (0, "ada/9 is deployed\n")
    assert daemon.asked[0] == ("POST", "/v1/agents/ada/rebuild", RebuildRequest(note="a fix"))


async def test_all_that_are_old(hive: Program, daemon: FakeHost) -> None:
    """With --outdated those are rebuilt that need it; one whose build changes nothing is no failure."""
    daemon.agents = [agent("ada", needs_update=True), agent("bob"), agent("cy", needs_update=True)]
    daemon.gate.later = [
        proposal("ada", 9, kind="rebuild", state="deployed", waits_for=None),
        proposal("cy", 9, kind="rebuild", state="withdrawn", waits_for=None, outcome="nothing to deploy\nreally"),
    ]
    done = await hive.run("rebuild", "--outdated")
    assert (done.code, done.out) == (0, "ada/9 is deployed\ncy/9 was withdrawn: nothing to deploy\n")
    assert [path for method, path, _ in daemon.asked if method == "POST"] == [
        "/v1/agents/ada/rebuild",
        "/v1/agents/cy/rebuild",
    ]
    daemon.agents = [agent("bob")]
    done = await hive.run("rebuild", "--outdated")
    assert (done.code, done.out, done.err) == (0, "", "no agent needs an update\n")


async def test_what_is_refused_or_fails(hive: Program, daemon: FakeHost) -> None:
    """The others are rebuilt all the same; the command ends with 1 and says which were not."""
    daemon.gate.later = [proposal("ada", 9, kind="rebuild", state="deployed", waits_for=None)]
    done = await hive.run("rebuild", "nobody", "ada")
    assert (done.code, done.out) == (1, "ada/9 is deployed\n")
    assert "there is no agent nobody" in done.err
    daemon.gate.proposals = []
    daemon.gate.later = [proposal("ada", 9, kind="rebuild", state="failed", waits_for=None, outcome="no disk")]
    done = await hive.run("rebuild", "ada", "--json")
    assert done.code == 1
    assert [one.state for one in ProposalList.model_validate(done.json).proposals] == ["failed"]
    assert done.error["message"] == "not rebuilt: ada/9"


async def test_which_agents(hive: Program, daemon: FakeHost) -> None:
    """Either agents are named or --outdated is; both and neither are wrong usage."""
    for words in ([], ["ada", "--outdated"]):
        done = await hive.run("rebuild", *words)
        assert (done.code, daemon.asked) == (2, [])


async def test_who_needs_it(hive: Program, daemon: FakeHost) -> None:
    """`list` marks the agent, `status` counts them and says what to do; where there is none, nothing is said of it."""
    daemon.agents = [agent("ada", needs_update=True, detail="thinks"), agent("bob")]
    lines = (await hive.run("list")).out.splitlines()
    assert "needs an update; thinks" in lines[1] and "needs" not in lines[2]
    assert '1 built with an older hyperhive: see "hive-c0re rebuild --outdated"' in (await hive.run("status")).out
    daemon.agents = [agent("bob")]
    assert "Updates" not in (await hive.run("status")).out
