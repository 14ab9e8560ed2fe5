"""The index of proposals: rows from tags, rows in the table, and rows that an older daemon wrote."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.gate.records import index
from hive_core.gate.records.fetches import FetchPermission
from hive_core.gate.records.index import ProposalRow, rows_from_tags
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag, format_message
from hive_core.infra.database.migrations import migrate
from hive_core.infra.git.objects import Person, Tag
from hive_core.layout import Layout
from hive_core.protocol import DestroyProposal, SpawnProposal
from hive_core.runtimes.base import Fetch
from tests.unit.core.gate.gate_hive import MANAGER, OPERATOR, PATIENCE, opened

SHA = "0123456789abcdef0123456789abcdef01234567"
PURGE = ProposalTag(agent="ada", number=1, state=State.PROPOSAL, kind="destroy", by="hm1nd", note="idle", purge=True)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
fetches = st.builds(Fetch, texts, st.lists(texts, max_size=2).map(tuple), texts, texts, texts)
rows = st.builds(
    ProposalRow,
    agent=st.sampled_from(["ada", "hm1nd"]),
    number=st.integers(0, 2**63 - 1),
    state=st.sampled_from(State),
    kind=st.sampled_from(["config", "spawn", "destroy", "rollback", "rebuild"]),
    by=texts,
    note=texts,
    base=st.none() | st.just(SHA),
    closure=st.none() | texts,
    waits_for=st.sampled_from([None, "manager", "operator"]),
    approvals=st.lists(texts, max_size=3),
    outcome=texts,
    expires_at=st.none() | st.integers(0, 2**63 - 1),
    purge=st.booleans(),
    start=st.booleans(),
    allowed_fetches=st.none()
    | st.builds(FetchPermission, texts, st.integers(0, 9), st.integers(0, 9), st.lists(fetches, max_size=2).map(tuple)),
    commit=st.just(SHA),
    created_at=st.integers(0, 2**63 - 1),
    changed_at=st.integers(0, 2**63 - 1),
)


@given(rows)
def test_a_row_comes_back_from_the_table(row: ProposalRow) -> None:
    """Every field of a row is stored in the column of its own, and read from there."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    index.upsert(db, row)
    assert index.find(db, row.agent, row.number) == row
    assert index.numbers_to_complete(db, row.agent) == set()
    db.close()


@given(rows)
def test_a_row_gives_the_tag_and_the_tag_the_row(row: ProposalRow) -> None:
    """A tag made from a row differs from it in what is changed alone, and gives the same row."""
    tag = row.tag(State.FAILED, outcome="why")
    assert (tag.state, tag.outcome, tag.settings) == (State.FAILED, "why", [])
    back = ProposalRow.from_tag(tag, row.commit, created_at=row.created_at, changed_at=row.changed_at)
    assert back == replace(row, state=State.FAILED, outcome="why")


def tag(data: ProposalTag, when: int) -> Tag:
    return Tag(f"{data.state}/{data.number}", SHA, Person("hm1nd", "hm1nd@hive"), when, format_message(data, "hm1nd"))


def test_a_purge_of_an_older_daemon_stays_one() -> None:
    """Older daemons did not repeat in the tag of an approval that a destroy is a purge: the first tag tells it."""
    told = [replace(PURGE, state=state) for state in (State.PROPOSAL, State.BUILDING, State.BUILT)]
    told.append(replace(PURGE, state=State.APPROVED, approvals=["operator"], purge=False))
    (row,) = rows_from_tags([tag(data, when) for when, data in enumerate(told)])
    assert (row.state, row.purge, row.created_at, row.changed_at) == (State.APPROVED, True, 0, 3_000)


@pytest.mark.parametrize("purge", [True, False])
async def test_rows_of_an_older_schema_are_completed(layout: Layout, purge: bool) -> None:
    """After the update the first start reads what a waiting spawn and destroy are to do from their tags."""
    async with opened(layout) as gate_hive:
        await gate_hive.gate.agent_submissions.request_destroy(
            "ada", DestroyProposal(note="idle", purge=purge), MANAGER
        )
        await gate_hive.gate.agent_submissions.request_spawn(
            SpawnProposal(name="cy", note="please", start=False), MANAGER
        )
        await gate_hive.until("cy", 0, "built")
        before = await gate_hive.rows()
        forget = "UPDATE proposals SET start = NULL, purge = NULL WHERE kind IN ('spawn', 'destroy')"
        await gate_hive.database.write(lambda db: db.execute(forget).rowcount)
    async with opened(layout) as gate_hive:
        await gate_hive.gate.verification.verify()  # Recovered.
        await gate_hive.check()
        assert await gate_hive.rows() == before
        await gate_hive.approve("cy", 0, OPERATOR)
        await gate_hive.until("cy", 0, "deployed")
        assert gate_hive.hive.agents.status("cy").lifecycle == "stopped"
        await gate_hive.approve("ada", 1, OPERATOR)
        async with asyncio.timeout(PATIENCE):
            while [row for row in await gate_hive.rows("ada") if purge or row.open]:
                await gate_hive.settled()
        assert gate_hive.layout.applied_repository("ada").exists() is not purge
        await gate_hive.check()
