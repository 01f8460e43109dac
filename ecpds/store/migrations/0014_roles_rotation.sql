-- Roles that a site makes itself, and tokens whose secret before is good for a while yet.

CREATE TABLE role (
    name TEXT PRIMARY KEY,
    comment TEXT NOT NULL DEFAULT '',
    scopes TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

ALTER TABLE token ADD COLUMN old_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE token ADD COLUMN old_until INTEGER;
CREATE INDEX token_old ON token (old_hash) WHERE old_hash != '';
