-- 0010  users of the v1 API, help of metadata fields, webhooks
-- Cost: nothing for existing rows.

CREATE TABLE api_user (
    name TEXT PRIMARY KEY,
    active INTEGER NOT NULL DEFAULT 1,
    comment TEXT NOT NULL DEFAULT '',
    password_hash TEXT NOT NULL DEFAULT '',
    services TEXT NOT NULL DEFAULT '',    -- regular expression on whole service names
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

ALTER TABLE metadata_field ADD COLUMN tooltip TEXT NOT NULL DEFAULT '';

-- The events themselves are the outbox: a webhook remembers how far it has come.
CREATE TABLE webhook (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,                 -- sealed
    types TEXT NOT NULL DEFAULT '[]',     -- of events; none: all
    owner TEXT NOT NULL,                  -- web user whose rights bound what is sent
    objects TEXT NOT NULL DEFAULT '["*"]',
    active INTEGER NOT NULL DEFAULT 1,
    comment TEXT NOT NULL DEFAULT '',
    sent_up_to INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,     -- in vain, since the last success
    failing_since INTEGER,
    due_at INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
