-- 0006  what WebDAV clients set on files, resumable uploads, links, and resets of passwords

-- Dead properties (RFC 4918): of one transfer, so that they follow a rename and go with it.
CREATE TABLE dav_property (
    transfer INTEGER NOT NULL REFERENCES transfer (id) ON DELETE CASCADE,
    name TEXT NOT NULL,                   -- {namespace}name
    value TEXT NOT NULL,                  -- the element, as XML
    PRIMARY KEY (transfer, name)
) STRICT, WITHOUT ROWID;

-- Uploads by the tus protocol; their bytes are those of the parked upload at that place.
CREATE TABLE tus_upload (
    token_hash TEXT PRIMARY KEY,
    login TEXT NOT NULL REFERENCES data_user (login) ON DELETE CASCADE,
    path TEXT NOT NULL,
    size INTEGER,                         -- NULL: the client tells later
    received INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,      -- registered; kept so that a client can learn it
    metadata TEXT NOT NULL DEFAULT '',    -- Upload-Metadata as sent
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tus_upload_expiry ON tus_upload (expires_at);

-- Links that let others read one path (share) or upload below it (request).
CREATE TABLE portal_link (
    id INTEGER PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,                   -- share, request
    login TEXT NOT NULL REFERENCES data_user (login) ON DELETE CASCADE,
    path TEXT NOT NULL,
    comment TEXT NOT NULL DEFAULT '',
    password_hash TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    most_uses INTEGER,                    -- NULL: any number
    uses INTEGER NOT NULL DEFAULT 0,
    most_bytes INTEGER,                   -- NULL: any number
    bytes INTEGER NOT NULL DEFAULT 0,
    used_at INTEGER
) STRICT;
CREATE INDEX portal_link_login ON portal_link (login, id);

ALTER TABLE subscriber ADD COLUMN reset_token_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE subscriber ADD COLUMN reset_expires_at INTEGER;
ALTER TABLE subscriber ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX subscriber_verify ON subscriber (verify_token_hash) WHERE verify_token_hash != '';
CREATE INDEX subscriber_reset ON subscriber (reset_token_hash) WHERE reset_token_hash != '';

-- The last one-time code that a data user has used, so that a restart does not accept it again.
ALTER TABLE data_user ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;
