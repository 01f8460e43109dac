-- 0013  logins as another broker checks them, and messages in the order in which they were sent
-- Why:  Mosquitto reads no Argon2; a replay asks for what was sent since then, however old its cause.
-- Cost: an index of what was sent, built once.

CREATE TABLE broker_login (
    of TEXT PRIMARY KEY,                  -- SHA-256 of the stored hash of the same password
    form TEXT NOT NULL,                   -- what the broker reads
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_sent ON outbox (sent_at, id) WHERE state = 'sent' AND topic != '';
