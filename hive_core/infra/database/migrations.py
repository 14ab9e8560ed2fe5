"""The database schema as numbered migration steps.

The statements of a released step are never edited: a change is a new step. `PRAGMA user_version` holds the number of
the last step that ran.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hive_core.errors import HiveError
from hive_core.infra.database.later_steps import (
    HOSTS_OF_CHECKS,
    MODEL_TABLES,
    NETWORK_DEFAULT,
    OWNERS,
    PEOPLE_TABLES,
)
from hive_core.infra.database.network_tables import NETWORK_TABLES

_STEP_1 = """
CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('agent', 'manager')),
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped')),
    config TEXT NOT NULL,
    prompt TEXT NOT NULL,
    deployment INTEGER NOT NULL,
    instance TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- Apart from `agents`, so that a port outlives its agent and a re-created agent finds its own again.
CREATE TABLE web_ports (
    name TEXT PRIMARY KEY,
    port INTEGER NOT NULL UNIQUE
) STRICT;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    body TEXT NOT NULL,
    reply_to INTEGER,
    idempotency_key TEXT,
    sent_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX messages_by_key ON messages (sender, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Agents whose row was deleted and whose files were not yet: see hive_core/agents/purge.py.
CREATE TABLE purges (
    name TEXT PRIMARY KEY
) STRICT;

-- A message to everyone is stored once and delivered many times.
CREATE TABLE deliveries (
    message INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    instance TEXT,
    leased_until INTEGER,
    acknowledged_at INTEGER,
    PRIMARY KEY (message, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_waiting ON deliveries (recipient, message) WHERE acknowledged_at IS NULL;
CREATE INDEX deliveries_done ON deliveries (acknowledged_at) WHERE acknowledged_at IS NOT NULL;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
"""

# Both texts are part of the released steps 2 and 3.
_PROPOSAL_COLUMNS = """\
    state TEXT NOT NULL,
    proposer TEXT NOT NULL,
    note TEXT NOT NULL,
    sha TEXT NOT NULL,
    base TEXT,
    closure TEXT,
    waits_for TEXT CHECK (waits_for IN ('manager', 'operator')),
    approvals TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (agent, number)
) STRICT, WITHOUT ROWID;
"""
_PROPOSAL_INDEXES = """\
CREATE INDEX proposals_by_age ON proposals (created_at);
CREATE INDEX proposals_open ON proposals (created_at)
    WHERE state IN ('proposal', 'building', 'built', 'approved');
CREATE INDEX proposals_deployed ON proposals (agent, number) WHERE state = 'deployed';
"""

_STEP_2 = f"""
-- An index of the tags in the applied repositories: see hive_core/gate/records/index.py. Times are milliseconds.
CREATE TABLE proposals (
    agent TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('config', 'spawn', 'destroy', 'rollback')),
{_PROPOSAL_COLUMNS}{_PROPOSAL_INDEXES}
-- The build output of the active deployment; '' for an agent of an older hyperhive, until it is known.
ALTER TABLE agents ADD COLUMN closure TEXT NOT NULL DEFAULT '';
"""

_STEP_3 = f"""
-- The same table without the list of kinds, so that kinds can be added: the first is `rebuild`.
CREATE TABLE proposals_3 (
    agent TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
{_PROPOSAL_COLUMNS}INSERT INTO proposals_3 SELECT * FROM proposals;
DROP TABLE proposals;
ALTER TABLE proposals_3 RENAME TO proposals;
{_PROPOSAL_INDEXES}CREATE INDEX proposals_rebuilt ON proposals (agent, number) WHERE kind = 'rebuild';

-- The audit entries of agents that needed an update.
CREATE INDEX audit_updates ON audit (subject) WHERE action = 'needs_update';
"""  # noqa: S608 - made of constants only

_STEP_4 = """
-- Questions of agents to the operator: see hive_core/messaging/. The id is that of the message to the operator.
CREATE TABLE questions (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    text TEXT NOT NULL,
    options TEXT NOT NULL,
    free_text INTEGER NOT NULL,
    idempotency_key TEXT,
    asked_at INTEGER NOT NULL,
    expires_at INTEGER,
    state TEXT NOT NULL,
    answer TEXT,
    answered_by TEXT,
    ended_at INTEGER
) STRICT;
CREATE UNIQUE INDEX questions_by_key ON questions (agent, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX questions_open ON questions (agent) WHERE state = 'open';
CREATE INDEX questions_expiring ON questions (expires_at) WHERE state = 'open' AND expires_at IS NOT NULL;
CREATE INDEX questions_ended ON questions (ended_at) WHERE ended_at IS NOT NULL;

-- Delivered and cancelled reminders are kept for a while, so that their idempotency keys stay known.
CREATE TABLE reminders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    text TEXT NOT NULL,
    idempotency_key TEXT,
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE UNIQUE INDEX reminders_by_key ON reminders (agent, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX reminders_waiting ON reminders (agent) WHERE ended_at IS NULL;
CREATE INDEX reminders_due ON reminders (due_at) WHERE ended_at IS NULL;
CREATE INDEX reminders_ended ON reminders (ended_at) WHERE ended_at IS NOT NULL;

-- Signed-in browsers on the pages of agents: see hive_core/agents/page_access.py.
CREATE TABLE page_sessions (
    digest TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    user TEXT NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;

-- The status that the agent reports.
ALTER TABLE agents ADD COLUMN status TEXT NOT NULL DEFAULT '';
"""

_STEP_5 = """
-- Options of spawns and destroys, kept only in tags before: NULL until the next start of the daemon has read them.
ALTER TABLE proposals ADD COLUMN start INTEGER;
ALTER TABLE proposals ADD COLUMN purge INTEGER;
UPDATE proposals SET start = 1, purge = 0 WHERE kind NOT IN ('spawn', 'destroy');
"""

_STEP_6 = """
-- What an operator has allowed the build of a proposal to fetch, as JSON; NULL is nothing.
ALTER TABLE proposals ADD COLUMN allowed_fetches TEXT;
"""

_STEP_7 = """
-- Steps 1 and 4 got these tables after the first databases had run them, so some databases lack them.
CREATE TABLE IF NOT EXISTS purges (
    name TEXT PRIMARY KEY
) STRICT;
CREATE TABLE IF NOT EXISTS page_sessions (
    digest TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    user TEXT NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;
"""

_STEP_8 = """
-- The operator's repositories: see hive_core/work/repositories/store.py. `checks`, `host_keys` and `facts` are JSON;
-- a `review` that is NULL is the one of the settings.
CREATE TABLE repositories (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    branch TEXT NOT NULL,
    push TEXT NOT NULL,
    merges INTEGER NOT NULL,
    review TEXT,
    instructions INTEGER NOT NULL,
    checks TEXT NOT NULL,
    credential TEXT NOT NULL,
    host_keys TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    fetched_at INTEGER,
    facts TEXT NOT NULL
) STRICT;
"""

_STEP_9 = """
-- An index of the tags in the work repositories: see hive_core/work/gate/records/index.py. Times are milliseconds.
CREATE TABLE work (
    repo TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    proposer TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    branch TEXT NOT NULL,
    base TEXT NOT NULL,
    sha TEXT NOT NULL,
    waits_for TEXT,
    approvals TEXT NOT NULL,
    outcome TEXT NOT NULL,
    landed TEXT,
    link TEXT NOT NULL,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (repo, number)
) STRICT;
CREATE INDEX work_by_age ON work (created_at);
CREATE INDEX work_open ON work (created_at)
    WHERE state IN ('proposal', 'building', 'built', 'approved');
CREATE INDEX work_unpublished ON work (changed_at) WHERE state = 'deployed' AND link = '';

-- Remarks on work. They are in no tag, as they change nothing.
CREATE TABLE work_comments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    repo TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    path TEXT,
    line INTEGER,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX work_comments_of ON work_comments (repo, number);
"""

_STEP_10 = """
-- The place of a delivery in its recipient's inbox, in place of its message's id, if the operator has moved it; and who
-- has edited a message.
ALTER TABLE deliveries ADD COLUMN place INTEGER;
ALTER TABLE messages ADD COLUMN edited_by TEXT;
DROP INDEX deliveries_waiting;
CREATE INDEX deliveries_waiting ON deliveries (recipient, coalesce(place, message), message)
    WHERE acknowledged_at IS NULL;
"""

STEPS = (
    _STEP_1,
    _STEP_2,
    _STEP_3,
    _STEP_4,
    _STEP_5,
    _STEP_6,
    _STEP_7,
    _STEP_8,
    _STEP_9,
    _STEP_10,
    NETWORK_TABLES,
    MODEL_TABLES,
    NETWORK_DEFAULT,
    HOSTS_OF_CHECKS,
    PEOPLE_TABLES,
    OWNERS,
)


def migrate(connection: sqlite3.Connection) -> int:
    """Run the missing steps, each in one transaction, and return the number of the schema.

    Raises HiveError `schema_too_new` if a newer program has written the file, and `schema_unknown` if the tables are
    not those of its schema.
    """
    current = check_version(connection)
    for number, step in enumerate(STEPS[current:], start=current + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # A full disk, a lock, no permission.
                raise
            connection.execute("ROLLBACK")
            raise _unknown(current, str(error)) from None
    _check_columns(connection, current, len(STEPS))
    return len(STEPS)


def check_tables(connection: sqlite3.Connection, version: int) -> None:
    """Raise `schema_unknown` if tables are missing that the schema `version` has, and that no later step adds."""
    if version == 0 and _columns(connection):
        raise _unknown(version, "a new database has none")
    _check_columns(connection, version, version, later=_ADDED_LATER)


_ADDED_LATER = frozenset({"purges", "page_sessions"})
"""Tables that the databases of some schemas lack: see step 7."""


def _check_columns(
    connection: sqlite3.Connection, number: int, version: int, later: frozenset[str] = frozenset()
) -> None:
    with closing(_new_database(version)) as new:
        missing = {column for column in _columns(new) - _columns(connection) if column[0] not in later}
    if missing:
        raise _unknown(number, "it lacks " + ", ".join(sorted(".".join(column) for column in missing)[:_SHOWN]))


def check_version(connection: sqlite3.Connection) -> int:
    """Return the number of the file's schema, 0 for an empty file. Raises HiveError `schema_too_new`."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    check_number(current)
    return int(current)


def check_number(schema: int) -> None:
    """Raise HiveError `schema_too_new` if this program does not know the schema of this number."""
    if schema > len(STEPS):
        raise HiveError(
            "schema_too_new",
            f"the database has schema {schema}, this program knows schemas up to {len(STEPS)}",
            hint="start the newer hyperhive that wrote it, or restore a copy from before the update",
        )


_SHOWN = 3
"""Missing columns that an error names."""


def _unknown(number: int, why: str) -> HiveError:
    return HiveError(
        "schema_unknown",
        f"the database has schema {number} by its number, but other tables: {why}",
        hint="restore a backup; if another program has made the file, choose another --state-dir",
    )


def _new_database(version: int) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("\n".join(STEPS[:version]))
    return connection


def _columns(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    query = """SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table'"""
    return set(connection.execute(query))
