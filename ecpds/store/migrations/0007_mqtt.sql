-- 0007  what the MQTT broker keeps over a restart, and what is to be known of a publication
-- Why:  a durable session or a retained message that a restart forgets is a lost notification.
-- Cost: nothing for existing rows but an index on an outbox that was never written to before.

CREATE TABLE mqtt_retained (
    topic TEXT PRIMARY KEY,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    properties TEXT NOT NULL DEFAULT '{}',  -- JSON: content type, user properties, others
    destination TEXT NOT NULL DEFAULT '',
    transfer INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE TABLE mqtt_session (
    user TEXT NOT NULL,
    client TEXT NOT NULL,
    lasts INTEGER NOT NULL,               -- how long it is kept after its connection
    ends_at INTEGER,                      -- NULL while it is connected
    subscriptions TEXT NOT NULL,          -- JSON: filter to [qos, number, as published, no local]
    PRIMARY KEY (user, client)
) STRICT, WITHOUT ROWID;

CREATE TABLE mqtt_queue (
    id INTEGER PRIMARY KEY,               -- given by the broker, in the order of publication
    user TEXT NOT NULL,
    client TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    retain INTEGER NOT NULL,
    numbers TEXT NOT NULL,                -- JSON: subscription identifiers
    properties TEXT NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX mqtt_queue_session ON mqtt_queue (user, client, id);

ALTER TABLE outbox ADD COLUMN event TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN retained INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_order ON outbox (destination, kind, id) WHERE state = 'waiting';
CREATE INDEX outbox_transfer ON outbox (transfer, id);
CREATE INDEX outbox_topic ON outbox (topic, kind, id) WHERE retained = 1;
CREATE INDEX outbox_state ON outbox (state, id);
CREATE INDEX outbox_created ON outbox (created_at);
