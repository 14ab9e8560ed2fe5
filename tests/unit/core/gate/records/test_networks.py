"""Configurations from before `sealed` was the default of `network`: what they mean after the update."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from hive_core.infra.database.later_steps import NETWORK_DEFAULT
from hive_core.layout import Layout
from hive_core.protocol import DestroyRequest, ProposeRequest, RollbackRequest
from hive_core.settings import Approval, AutoRule
from tests.unit.core.gate.gate_hive import ADA, BOB, OPERATOR, GateHive, opened, quick

HOST = "host (the whole network of the host: services on its loopback, the cloud's metadata service, the internet)"
NAMES_NONE = 'backend = "scripted"\n'
_UNDONE = """
DROP TABLE unnamed_networks;
ALTER TABLE agents DROP COLUMN network_implied;
UPDATE agents SET config = json_set(config, '$.network', 'host');
"""


def updated(layout: Layout, *, forget: str = "") -> None:
    """Make the database that of a hive where the host's network was the default, `forget` rows, and update it."""
    with closing(sqlite3.connect(layout.database, isolation_level=None)) as db:
        db.executescript(_UNDONE + forget + NETWORK_DEFAULT)


async def deployed(gate_hive: GateHive, agent: str, toml: str) -> int:
    """Deploy an agent.toml; returns the number of the proposal."""
    number = await built(gate_hive, agent, toml)
    await gate_hive.approve(agent, number)
    await gate_hive.until(agent, number, "deployed")
    return number


async def built(gate_hive: GateHive, agent: str, toml: str, role: str = "You help.") -> int:
    """Propose an agent.toml, and wait until it is built; returns the number of the proposal."""
    files = {"agent.toml": toml, "prompt.md": f"{role}\n"}
    sha = gate_hive.commit(agent, files, on=gate_hive.main(agent))
    principal = {"ada": ADA, "bob": BOB}[agent]
    proposal = await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="x"), principal)
    await gate_hive.until(agent, proposal.number, "built")
    return proposal.number


@pytest.fixture
async def older(layout: Layout) -> Layout:
    """A hive that was updated: ada names no network in what is deployed and in ada/2, which waits; bob names one."""
    async with opened(layout) as gate_hive:
        await deployed(gate_hive, "ada", NAMES_NONE)
        await built(gate_hive, "ada", f"{NAMES_NONE}max_steps = 20\n")
        await deployed(gate_hive, "bob", f'{NAMES_NONE}network = "host"\n')
    updated(layout)
    return layout


@pytest.fixture
async def hive(older: Layout) -> AsyncIterator[GateHive]:
    """The same, open."""
    async with opened(older) as gate_hive:
        await gate_hive.gate.verification.verify()
        yield gate_hive


def network(gate_hive: GateHive, agent: str) -> tuple[str, bool | None, bool]:
    """Return the network of an agent, whether it is only implied, and whether the agent may use the web by default."""
    record = gate_hive.hive.agents.record(agent)
    status = gate_hive.hive.agents.status(agent)
    assert (status.network, status.network_implied) == (record.config.network, bool(record.network_implied))
    return record.config.network, record.network_implied, "WebFetch" in record.config.tools


async def test_agents_keep_the_network_that_they_have(hive: GateHive) -> None:
    """After the update, the host's network of an agent is stored, with whether its configuration names it."""
    assert network(hive, "ada") == ("host", True, False)  # Its tools were stored before, without those.
    assert network(hive, "bob")[:2] == ("host", False)
    assert network(hive, "hm1nd")[1] is False
    stored = await hive.database.read(lambda db: db.execute("SELECT name, network_implied FROM agents").fetchall())
    assert dict(stored) == {"ada": 1, "bob": 0, "hm1nd": 0}
    await hive.check()


async def test_what_waited_for_a_decision_means_what_was_shown(hive: GateHive) -> None:
    """A proposal from before the update that names no network leaves its agent the host's, as its reviewer saw."""
    assert not any("network" in line for line in (await hive.show("ada", 2)).settings)
    await hive.approve("ada", 2)
    await hive.until("ada", 2, "deployed")
    assert network(hive, "ada") == ("host", True, True)
    assert not hive.runtime.specs["ada"].sealed
    await hive.check()


async def test_a_new_proposal_that_names_no_network_seals(hive: GateHive) -> None:
    """It is shown as a change from the host's network, before all other changes, and takes effect when approved."""
    number = await built(hive, "ada", f"{NAMES_NONE}max_steps = 30\n")
    shown = (await hive.show("ada", number)).settings
    assert shown[0] == f"network: {HOST} -> sealed"
    assert shown[1:] == ["tools: removed WebFetch, WebSearch", "max_steps: 200 -> 30 (lowered)"]
    assert network(hive, "ada")[:2] == ("host", True)
    await hive.approve("ada", number)
    await hive.until("ada", number, "deployed")
    assert network(hive, "ada") == ("sealed", False, False)
    assert hive.runtime.specs["ada"].sealed
    await hive.check()


async def test_a_new_proposal_that_names_the_hosts_network_settles_it(hive: GateHive) -> None:
    """The network does not change, and is no longer said to be from before."""
    number = await built(hive, "ada", f'{NAMES_NONE}network = "host"\n')
    assert (await hive.show("ada", number)).settings == []
    await hive.approve("ada", number)
    await hive.until("ada", number, "deployed")
    assert network(hive, "ada") == ("host", False, True)


async def test_an_older_deployment_comes_back_as_it_was(hive: GateHive) -> None:
    """A rollback to a commit from before the update brings the host's network back, which was approved with it."""
    await deployed(hive, "ada", f"{NAMES_NONE}max_steps = 30\n")
    assert network(hive, "ada")[:2] == ("sealed", False)
    back = await hive.gate.decisions.rollback("ada", RollbackRequest(note="back", number=1), OPERATOR)
    await hive.until("ada", back.number, "deployed")
    assert network(hive, "ada")[:2] == ("host", True)
    assert not hive.runtime.specs["ada"].sealed
    await hive.check()


async def test_what_is_put_back_is_as_it_was(hive: GateHive) -> None:
    """A sealed configuration that does not come up is undone, with its network."""
    number = await built(hive, "ada", NAMES_NONE, "CRASHES")
    await hive.approve("ada", number)
    await hive.until("ada", number, "failed")
    assert network(hive, "ada")[:2] == ("host", True)
    assert not hive.runtime.specs["ada"].sealed


async def test_a_rebuild_changes_no_network(older: Layout) -> None:
    """A rebuild, on which nobody decides, leaves an agent the network that it has."""
    async with opened(older, hyperhive="newer") as gate_hive:
        await gate_hive.gate.verification.verify()
        proposal = await gate_hive.rebuild("ada")
        await gate_hive.until("ada", proposal.number, "deployed")
        assert network(gate_hive, "ada")[:2] == ("host", True)


async def test_no_rule_seals_an_agent(older: Layout) -> None:
    """A change of prompt.md alone that ends the network of before is decided by a person, whatever rules say."""
    rules = [AutoRule(name="words", when="prompt_only")]
    async with opened(older, quick(older, Approval(rules=rules))) as gate_hive:
        await gate_hive.gate.verification.verify()
        number = await built(gate_hive, "ada", NAMES_NONE, "You sing.")
        shown = await gate_hive.show("ada", number)
        assert shown.waits_for == "manager" and shown.settings[0] == f"network: {HOST} -> sealed"


async def test_a_deployment_that_the_index_lacked_keeps_its_network(layout: Layout) -> None:
    """The commit that an agent runs on is found in its repository, even if the index lacked it at the update."""
    async with opened(layout) as gate_hive:
        await deployed(gate_hive, "ada", NAMES_NONE)
    updated(layout, forget="DELETE FROM proposals WHERE agent = 'ada' AND number = 1;")
    async with opened(layout, hyperhive="newer") as gate_hive:
        await gate_hive.gate.verification.verify()
        assert network(gate_hive, "ada")[:2] == ("host", True)
        proposal = await gate_hive.rebuild("ada")
        await gate_hive.until("ada", proposal.number, "deployed")
        assert network(gate_hive, "ada")[:2] == ("host", True)


async def test_nothing_of_before_outlives_a_purge(hive: GateHive) -> None:
    """A new agent of a purged one's name begins without the network of before."""
    await hive.gate.agent_submissions.destroy("ada", DestroyRequest(purge=True), OPERATOR)
    left = await hive.database.read(lambda db: db.execute("SELECT DISTINCT agent FROM unnamed_networks").fetchall())
    assert ("ada",) not in left and left
    await hive.spawn("ada")
    assert network(hive, "ada")[:2] == ("sealed", False)


async def test_nothing_of_before_outlives_a_purge_that_was_cut_off(older: Layout) -> None:
    """A daemon that is killed before it has forgotten a purged agent leaves the next one of its name no network."""

    def rows(db: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
        tables = ("proposals", "unnamed_networks")
        return {each: db.execute(f"SELECT * FROM {each} WHERE agent = 'ada'").fetchall() for each in tables}

    async with opened(older) as gate_hive:
        await gate_hive.gate.verification.verify()
        before = await gate_hive.database.read(rows)
        await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(purge=True), OPERATOR)
    assert all(before.values())
    with closing(sqlite3.connect(older.database, isolation_level=None)) as db:
        for table, stored in before.items():
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(stored[0]))})", stored)
    async with opened(older) as gate_hive:
        await gate_hive.gate.verification.verify()
        assert await gate_hive.database.read(rows) == {"proposals": [], "unnamed_networks": []}
