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
ALTER TABLE agents ADD COLUMN status TEXT NOT NULL DEFAULT '';
