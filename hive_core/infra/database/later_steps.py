"""Later steps of the database schema; `migrations` runs them, and says how they are kept."""

from __future__ import annotations

NETWORK_DEFAULT = """
-- Until this step, the host's network was the default of `network` in agent.toml.
-- What agents run with stays. The commits of that time mean the host's network where they name none.
CREATE TABLE unnamed_networks (
    agent TEXT NOT NULL,
    sha TEXT NOT NULL,
    PRIMARY KEY (agent, sha)
) STRICT, WITHOUT ROWID;
INSERT INTO unnamed_networks SELECT DISTINCT agent, sha FROM proposals;
UPDATE agents SET config = json_set(config, '$.network', 'host') WHERE json_extract(config, '$.network') IS NULL;
-- 1 if an agent has the host's network only because of that default, NULL until the first start after this step.
ALTER TABLE agents ADD COLUMN network_implied INTEGER DEFAULT 0;
UPDATE agents SET network_implied = NULL;
"""

MODEL_TABLES = """
-- The ledger of calls of models: see hive_core/outside/models/store.py. Money is in nanodollars, times are in
-- milliseconds, and days are counted from 1970 in UTC. `outcome` is NULL while a call is under way.
CREATE TABLE model_calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    call TEXT NOT NULL UNIQUE,
    instance TEXT NOT NULL,
    at INTEGER NOT NULL,
    day INTEGER NOT NULL,
    agent TEXT NOT NULL,
    turn TEXT NOT NULL,
    provider TEXT NOT NULL,
    requested TEXT NOT NULL,
    served TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    max_tokens INTEGER NOT NULL,
    unbounded INTEGER NOT NULL,
    fast INTEGER NOT NULL,
    reserve INTEGER NOT NULL,
    reserve_tokens INTEGER NOT NULL,
    outcome TEXT,
    status INTEGER,
    input INTEGER NOT NULL DEFAULT 0,
    cache_read INTEGER NOT NULL DEFAULT 0,
    cache_write INTEGER NOT NULL DEFAULT 0,
    cache_write_hour INTEGER NOT NULL DEFAULT 0,
    output INTEGER NOT NULL DEFAULT 0,
    reasoning INTEGER NOT NULL DEFAULT 0,
    searches INTEGER NOT NULL DEFAULT 0,
    counted_tokens INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    flags TEXT NOT NULL DEFAULT '',
    first_byte INTEGER,
    duration INTEGER
) STRICT;
CREATE INDEX model_calls_open ON model_calls (instance) WHERE outcome IS NULL;
CREATE INDEX model_calls_of_agent ON model_calls (agent, id);
CREATE INDEX model_calls_by_age ON model_calls (at) WHERE outcome IS NOT NULL;

-- The sums of the calls that have ended. They stay when the calls themselves are deleted.
CREATE TABLE model_sums (
    day INTEGER NOT NULL,
    agent TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_write_hour INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    searches INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    uncertain INTEGER NOT NULL,
    PRIMARY KEY (day, agent, provider, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX model_sums_of_agent ON model_sums (agent, day);

-- What is spent of budgets: of an agent or of the hive (`*`), on a day or in all (-1). `open_...` is for calls that are
-- under way; `warned` and `told` are bits of the limits about which somebody was told.
CREATE TABLE model_spending (
    whose TEXT NOT NULL,
    day INTEGER NOT NULL,
    money INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0,
    open_money INTEGER NOT NULL DEFAULT 0,
    open_tokens INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (whose, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX model_spending_by_day ON model_spending (day);
"""

HOSTS_OF_CHECKS = """
-- The rules of the hosts that checks of a repository reach, as a list in JSON.
ALTER TABLE repositories ADD COLUMN check_hosts TEXT NOT NULL DEFAULT '[]';
"""

PEOPLE_TABLES = """
-- The accounts of people: see hive_core/people. `password` is a hash of argon2id, NULL until the first set-up link is
-- used. Times are in milliseconds.
CREATE TABLE people (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password TEXT,
    made_at INTEGER NOT NULL,
    password_at INTEGER,
    signed_in_at INTEGER
) STRICT, WITHOUT ROWID;

-- Sessions and API tokens, of which only digests are kept. Tokens have a `label`, a `role`, and `agents` that they are
-- for, as a list in JSON or NULL for all; sessions have the `address` from which they were begun.
CREATE TABLE person_credentials (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('session', 'token')),
    digest TEXT NOT NULL UNIQUE,
    person TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT '',
    role TEXT CHECK (role IN ('viewer', 'operator', 'admin')),
    agents TEXT,
    made_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;
CREATE INDEX person_credentials_of ON person_credentials (person);

-- Set-up links that are not used yet. `person` is NULL where the person chooses the name of a new account.
CREATE TABLE set_up_links (
    digest TEXT PRIMARY KEY,
    person TEXT,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    made_by TEXT NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Addresses from which people have signed in: others who guess their passwords do not keep them out there.
CREATE TABLE person_addresses (
    person TEXT NOT NULL,
    address TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (person, address)
) STRICT, WITHOUT ROWID;
"""

OWNERS = """
-- The people to whom agents belong: see hive_core/people/owners.py. A name keeps its owner when the agent is gone.
CREATE TABLE agent_owners (
    agent TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The agents of other owners that an agent's side allows to write with it; both sides have to.
CREATE TABLE agent_contacts (
    agent TEXT NOT NULL,
    other TEXT NOT NULL,
    PRIMARY KEY (agent, other)
) STRICT, WITHOUT ROWID;
-- The person who has sent a message as the operator, and the agent that a message of the hive to the operator is about.
ALTER TABLE messages ADD COLUMN person TEXT;
ALTER TABLE messages ADD COLUMN about TEXT;
-- The person to whom a message of the hive is addressed, if it is to one of the operators.
ALTER TABLE messages ADD COLUMN addressee TEXT;
-- The messages to the operator that a person has read.
CREATE TABLE person_reads (
    person TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (person, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX person_reads_of ON person_reads (message);
"""
