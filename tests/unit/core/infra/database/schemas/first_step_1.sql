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
