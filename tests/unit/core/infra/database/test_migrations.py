"""Migrations: released steps, databases of every text that a step ever had, and databases that are refused."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from hive_core.agents import page_access
from hive_core.agents import store as agent_store
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.database.migrations import STEPS, migrate
from hive_core.messaging import question_store

SCHEMAS = Path(__file__).with_name("schemas")


def test_migrations_run_once_and_are_numbered() -> None:
    """A file knows the number of its schema, and bringing it up to date twice changes nothing."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    assert [migrate(db), migrate(db)] == [len(STEPS), len(STEPS)]
    assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    db.close()


RELEASED_STEPS = (
    "36405ecc5c2552f7b3666fff1ca66b15fa3266cb35df5a624b6914f85556b162",
    "49b61a639a631eed8d4e96b9260b6606e1b508e2f70859b17d7fa5e6fd5d89ed",
    "6092468ab9e5f20be16ba8699d7e004d398e576b2f493a2ee983c2bc5664d9cc",
    "e9506f6a2e16f13fb6a6ca11738d430c3e83e8808646fa60f23b5893c026b112",
    "b753a070530a8039f2761df2f1ad60fc4e5887933db371e0ad85efd539879bf1",
    "353762dd93482eeb789b9edc521004e4ee7549688f7c8047345385903c2f1fa3",
    "331fc3f84c5536cbb6f549410e78f0c848d84d5814798032e07c174d34513c0a",
    "1ff1d157a36ea7d3099839277fabca52a3d7aec9fe1ac552303f5f971ef2ca34",
    "4323c34841131484b12f1a05bc7d5123d71c5e8685a09489af281328a3061ff5",
    "7a34a3a4596750d27115e27733b1f396c552073f046433512f965dcee85ab4e4",
)
"""SHA-256 of the SQL of each released migration step, without comments."""


def test_released_steps_stay_as_they_are() -> None:
    """The statements of a released step do not change by a byte: databases exist that have run it."""
    statements = (re.sub("^--.*\n", "", step, flags=re.MULTILINE) for step in STEPS)
    hashes = tuple(hashlib.sha256(text.encode()).hexdigest() for text in statements)
    assert hashes[: len(RELEASED_STEPS)] == RELEASED_STEPS


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_every_version_is_migrated_to_the_same_schema(version: int) -> None:
    """A database of any older version gets the same tables and indexes as a new one."""

    def schema(db: sqlite3.Connection) -> list[tuple[str, ...]]:
        return db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()

    new, old = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    with closing(new), closing(old):
        migrate(new)
        for step in STEPS[:version]:
            old.executescript(step)
        old.execute(f"PRAGMA user_version = {version}")
        assert migrate(old) == len(STEPS)
        assert schema(old) == schema(new)


@pytest.mark.parametrize("version", [5, 6])
def test_step_7_adds_only_what_old_databases_lack(version: int) -> None:
    """Step 7 changes nothing of a database that has run the present texts of the steps 1 and 4."""

    def schema(steps: int) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            for step in STEPS[:steps]:
                db.executescript(step)
            return db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()

    assert (schema(version) == schema(7)) is (version == 6)


def test_proposals_outlive_the_change_of_their_table() -> None:
    """Proposals of an older daemon are kept by the migration, and rebuilds can be added."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for number, step in enumerate(STEPS[:2], start=1):
        db.executescript(f"{step}; PRAGMA user_version = {number};")
    row = ("ada", 3, "config", "built", "ada", "why", "a" * 40, None, "c", "manager", "[]", "", 1, 2, 3)
    db.execute(f"INSERT INTO proposals VALUES ({', '.join('?' * len(row))})", row)
    migrate(db)
    assert db.execute("SELECT * FROM proposals").fetchall() == [(*row, 1, 0, None)]
    added = ("ada", 4, "rebuild", *row[3:], 1, 0, None)
    db.execute(f"INSERT INTO proposals VALUES ({', '.join('?' * len(added))})", added)
    db.close()


def test_spawns_and_destroys_are_to_be_completed_after_the_update() -> None:
    """After the migration, `start` and `purge` are unknown only for spawns and destroys."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for number, step in enumerate(STEPS[:4], start=1):
        db.executescript(f"{step}; PRAGMA user_version = {number};")
    kinds = ("spawn", "config", "destroy", "rollback", "rebuild")
    rows = [
        ("ada", number, kind, "built", "ada", "why", "a" * 40, None, "c", "manager", "[]", "", 1, 2, 3)
        for number, kind in enumerate(kinds)
    ]
    db.executemany(f"INSERT INTO proposals VALUES ({', '.join('?' * len(rows[0]))})", rows)
    migrate(db)
    found = db.execute("SELECT * FROM proposals ORDER BY number").fetchall()
    assert [row[:-3] for row in found] == rows
    assert [row[-3:-1] for row in found] == [(None, None), (1, 0), (None, None), (1, 0), (1, 0)]
    db.close()


def test_what_there_is_outlives_questions_and_reminders() -> None:
    """Agents and messages of an older daemon are kept by the migration, without status and questions."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for number, step in enumerate(STEPS[:3], start=1):
        db.executescript(f"{step}; PRAGMA user_version = {number};")
    db.execute("""INSERT INTO agents (name, kind, desired, config, prompt, deployment, created_at)
        VALUES ('ada', 'agent', 'running', '{}', 'be brief', 3, 7)""")
    db.execute("INSERT INTO messages (id, sender, recipient, body, sent_at) VALUES (41, 'ada', 'operator', 'hi', 5)")
    before = [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("agents", "messages")]
    migrate(db)
    agents, messages = (db.execute(f"SELECT * FROM {table}").fetchall() for table in ("agents", "messages"))
    config = list(map(str, before[0][0])).index("{}")
    old = list(before[0][0])
    old[config] = '{"network":"host"}'  # What was the default then.
    assert agents == [(*old, "", None)]
    assert messages == [(*before[1][0], None, None, None, None)]
    assert [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("questions", "reminders")] == [
        (0,)
    ] * 2
    question = question_store.QuestionRow(42, "ada", "Which?", ("a",), True, "key", 1, 2)
    question_store.insert_question(db, question)
    assert question_store.find_question(db, 42) == question
    assert question_store.insert_reminder(db, "ada", 9, "look", None, 1) == question_store.find_reminder(db, "ada", 1)
    db.close()


FIRST_STEPS = {number: (SCHEMAS / f"first_step_{number}.sql").read_text() for number in (1, 4)}
"""The first texts of the steps that were edited after databases had run them."""

CONFIGS = (
    '{"backend":"scripted","model":null,"tools":["Bash"],"allowed_recipients":null,"turn_timeout":3600.0,"script":[]}',
    '{"backend":"scripted","model":null,"tools":["Bash"],"allowed_recipients":null,"memory_max":null,"cpu_quota":null,'
    '"tasks_max":null,"turn_timeout":3600.0,"script":[]}',
)
"""The settings of an agent as the daemons of the first two schemas stored them; later ones have more keys."""


def historic(first: Sequence[int]) -> list[str]:
    """The steps as the daemons had run them that knew the first texts of the steps `first`."""
    return [FIRST_STEPS[number] if number in first else step for number, step in enumerate(STEPS, start=1)]


def create(path: Path, steps: Sequence[str]) -> None:
    """Create a database as an older daemon would have, with an agent, a message to it, and a row of the audit log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for number, step in enumerate(steps, start=1):
            db.executescript(f"BEGIN; {step}; PRAGMA user_version = {number}; COMMIT;")
        config = CONFIGS[min(len(steps), len(CONFIGS)) - 1]
        row = ("ada", "agent", "running", config, "You are ada.", 0, None, 1)
        columns = "name, kind, desired, config, prompt, deployment, instance, created_at"
        db.execute(f"INSERT INTO agents ({columns}) VALUES ({', '.join('?' * len(row))})", row)
        db.execute("INSERT INTO web_ports VALUES ('ada', 8142)")
        db.execute("INSERT INTO messages (sender, recipient, body, sent_at) VALUES ('operator', 'ada', 'hello', 1)")
        db.execute("INSERT INTO deliveries (message, recipient) VALUES (1, 'ada')")
        audit.append(db, actor="operator", action="spawn", subject="ada")


HISTORIC = [
    pytest.param(historic(first)[:version], id=f"schema {version}, first text of {first or 'none'}")
    for version, first in product(range(1, len(STEPS)), [(), (1,), (4,), (1, 4)])
    if not first or max(first) <= version
]


@pytest.mark.parametrize("steps", HISTORIC)
async def test_a_database_of_every_schema_starts_with_its_data(tmp_path: Path, steps: Sequence[str]) -> None:
    """A database of every text that a step ever had gets the tables of a new one and keeps its rows."""
    path = tmp_path / "hive.sqlite"
    create(path, steps)
    database = await Database.open(path)
    try:
        (agent,) = await database.read(agent_store.load)
        assert (agent.name, agent.desired, agent.prompt, agent.web_port) == ("ada", "running", "You are ada.", 8142)
        assert agent.config.backend == "scripted"
        assert await database.read(agent_store.purges) == set()
        assert await database.read(page_access.load_sessions) == []
        assert await database.read(audit.first_broken_row) is None
        (row,) = await database.read(
            lambda db: db.execute(
                "SELECT body, acknowledged_at FROM messages JOIN deliveries ON message = id"
            ).fetchall()
        )
        assert row == ("hello", None)
    finally:
        await database.close()
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        migrate(new)
        assert columns(old) == columns(new)


def columns(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    query = """SELECT tables.name, columns.* FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table' ORDER BY 1, 2"""
    return db.execute(query).fetchall()


@pytest.mark.parametrize(
    ("statement", "version"),
    [
        ("CREATE TABLE agents (id INTEGER)", 0),
        ("CREATE TABLE notes (text TEXT)", len(STEPS)),
        ("CREATE TABLE notes (text TEXT)", 3),
    ],
    ids=["same name", "same number", "older number"],
)
async def test_a_database_of_another_program_is_refused(tmp_path: Path, statement: str, version: int) -> None:
    """A file whose tables are not those of its schema is refused with words, and nothing is left half done in it."""
    path = tmp_path / "hive.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
        before = db.execute("SELECT * FROM sqlite_schema").fetchall()
    with pytest.raises(HiveError, match=f"schema {version} by its number") as refusal:
        await Database.open(path)
    assert refusal.value.code == "schema_unknown"
    assert "restore a backup" in refusal.value.hint
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM sqlite_schema").fetchall() == before
