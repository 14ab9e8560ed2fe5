"""The tables of the rules of the network, as a step of the migrations. It is released: never edit it."""

from __future__ import annotations

NETWORK_TABLES = """
-- Rules made while agents run: see hive_core/outside/network/store.py. `agent` is `*` for all agents, `entry` is empty
-- for a rule that opens everything. `change` numbers what happens to the network, over all tables, for readers of logs.
CREATE TABLE network_rules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL,
    effect TEXT NOT NULL CHECK (effect IN ('allow', 'deny', 'open')),
    entry TEXT NOT NULL,
    request INTEGER,
    made_by TEXT NOT NULL,
    note TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    ends_at INTEGER,
    ended_at INTEGER,
    ended_by TEXT,
    change INTEGER NOT NULL
) STRICT;
CREATE INDEX network_rules_in_force ON network_rules (agent, entry) WHERE ended_at IS NULL;
CREATE INDEX network_rules_changed ON network_rules (agent, change);
CREATE INDEX network_rules_ended ON network_rules (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE network_requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL,
    entry TEXT NOT NULL,
    why TEXT NOT NULL,
    hours REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'denied', 'expired')),
    asked_at INTEGER NOT NULL,
    decided_at INTEGER,
    decided_by TEXT,
    note TEXT NOT NULL,
    change INTEGER NOT NULL
) STRICT;
CREATE INDEX network_requests_open ON network_requests (agent, entry) WHERE state = 'open';
CREATE INDEX network_requests_changed ON network_requests (agent, change);
CREATE INDEX network_requests_decided ON network_requests (decided_at) WHERE decided_at IS NOT NULL;

-- `told` is 1 once the refusals of a host were told to who decides on the agent's requests.
CREATE TABLE network_refusals (
    agent TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    reason TEXT NOT NULL,
    missing TEXT NOT NULL,
    detail TEXT NOT NULL,
    times INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    change INTEGER NOT NULL,
    PRIMARY KEY (agent, host, port, reason)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_refusals_changed ON network_refusals (agent, change);

-- Bytes by days, counted from 1970 in UTC.
CREATE TABLE network_traffic (
    agent TEXT NOT NULL,
    day INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (agent, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE network_changes (
    number INTEGER NOT NULL
) STRICT;
INSERT INTO network_changes (number) VALUES (0);

-- Nothing that an agent was allowed may be left for a new agent of its name, whatever else is kept of it.
CREATE TRIGGER network_of_deleted_agents AFTER DELETE ON agents BEGIN
    DELETE FROM network_rules WHERE agent = OLD.name;
    DELETE FROM network_requests WHERE agent = OLD.name;
    DELETE FROM network_refusals WHERE agent = OLD.name;
    DELETE FROM network_traffic WHERE agent = OLD.name;
END;
"""
