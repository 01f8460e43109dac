-- 0001  all entities of the hub
-- Times are whole microseconds UTC, lengths of time whole microseconds, sizes bytes, flags 0 or 1,
-- secrets texts that begin with "sealed:".

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE destination (
    name TEXT PRIMARY KEY,
    config TEXT NOT NULL,                 -- JSON of model.destination.Destination, secrets sealed
    active INTEGER NOT NULL,
    acquisition INTEGER NOT NULL,
    type TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL DEFAULT '',
    max_pending INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'WAIT',
    state_by TEXT NOT NULL DEFAULT '',
    state_reason TEXT NOT NULL DEFAULT '',
    current_host TEXT NOT NULL DEFAULT '',
    round INTEGER NOT NULL DEFAULT 1,
    failures INTEGER NOT NULL DEFAULT 0,
    switched_at INTEGER,
    last_ok_at INTEGER,
    last_ok_id INTEGER,
    last_failed_at INTEGER,
    last_failed_id INTEGER,
    has_requeued INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,   -- live transfers in WAIT or RETR, kept by triggers
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE host (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    role TEXT NOT NULL,
    method TEXT NOT NULL,
    active INTEGER NOT NULL,
    connections INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    duration INTEGER NOT NULL DEFAULT 0,
    checked_at INTEGER,
    valid INTEGER,
    last_error TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE association (
    destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    host TEXT NOT NULL REFERENCES host (name) ON DELETE RESTRICT ON UPDATE CASCADE,
    priority INTEGER NOT NULL,
    PRIMARY KEY (destination, host)
) STRICT, WITHOUT ROWID;
CREATE INDEX association_host ON association (host);

CREATE TABLE alias (
    source TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    copy TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    rule TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL DEFAULT '',
    legacy INTEGER NOT NULL DEFAULT 0,
    position INTEGER NOT NULL,
    PRIMARY KEY (source, copy)
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_copy ON alias (copy);

CREATE TABLE data_file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    instance INTEGER,
    original TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL DEFAULT '',
    size INTEGER NOT NULL DEFAULT -1,
    arrived_at INTEGER NOT NULL,
    file_time INTEGER,
    time_base INTEGER,
    time_step INTEGER NOT NULL DEFAULT -1,
    meta_stream TEXT NOT NULL DEFAULT 'None',
    meta_target TEXT NOT NULL DEFAULT 'None',
    meta_time TEXT NOT NULL DEFAULT '00',
    meta_type TEXT NOT NULL DEFAULT '',
    group_by TEXT NOT NULL DEFAULT '',
    host TEXT NOT NULL DEFAULT '',
    stored INTEGER NOT NULL DEFAULT 0,
    standby INTEGER NOT NULL DEFAULT 0,
    delete_original INTEGER NOT NULL DEFAULT 0,
    file_count INTEGER NOT NULL DEFAULT 1,
    caller TEXT NOT NULL DEFAULT '',
    submitter TEXT NOT NULL DEFAULT '',
    submitted_from TEXT NOT NULL DEFAULT '',
    checksum TEXT NOT NULL DEFAULT '',
    volume TEXT NOT NULL DEFAULT '',
    object_key TEXT NOT NULL DEFAULT '',
    get_started_at INTEGER,
    get_duration INTEGER,
    remote_host TEXT NOT NULL DEFAULT '',
    retrieval_count INTEGER NOT NULL DEFAULT 0,
    retrieval_at INTEGER,
    filter_name TEXT NOT NULL DEFAULT '',
    filter_at INTEGER,
    filter_size INTEGER,
    filter_key TEXT NOT NULL DEFAULT '',
    transfer_group TEXT NOT NULL DEFAULT '',
    deleted INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX data_file_purge ON data_file (id) WHERE deleted = 1 AND removed = 0;
CREATE INDEX data_file_object ON data_file (object_key) WHERE object_key != '';
CREATE INDEX data_file_group ON data_file (group_by) WHERE group_by != '' AND deleted = 0;
CREATE INDEX data_file_arrived ON data_file (arrived_at);

-- Objects that a new instance replaced; their bytes go when no reader needs them.
CREATE TABLE replaced_object (
    volume TEXT NOT NULL,
    object_key TEXT NOT NULL,
    replaced_at INTEGER NOT NULL,
    PRIMARY KEY (volume, object_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE metadata_value (
    data_file INTEGER NOT NULL REFERENCES data_file (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (data_file, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_value_name ON metadata_value (name, value);

CREATE TABLE digest (
    data_file INTEGER NOT NULL REFERENCES data_file (id) ON DELETE CASCADE,
    instance INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    hex TEXT NOT NULL,
    PRIMARY KEY (data_file, instance, algorithm)
) STRICT, WITHOUT ROWID;

CREATE TABLE transfer (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    data_file INTEGER NOT NULL REFERENCES data_file (id),
    target TEXT NOT NULL,
    key_destination TEXT NOT NULL,        -- unique key: destination, target, version of the original
    key_target TEXT NOT NULL,
    unique_name TEXT NOT NULL DEFAULT '',
    identity TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 99,
    status TEXT NOT NULL,
    status_by TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL DEFAULT '',
    reason TEXT,                          -- JSON of model.transfer.Reason
    scheduled_at INTEGER NOT NULL,
    queue_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    start_count INTEGER NOT NULL DEFAULT 0,
    requeue_count INTEGER NOT NULL DEFAULT 0,
    requeue_history INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    first_finish_at INTEGER,
    finished_at INTEGER,
    failed_at INTEGER,
    put_at INTEGER,
    duration INTEGER,
    sent INTEGER NOT NULL DEFAULT 0,
    host TEXT NOT NULL DEFAULT '',
    proxy_host TEXT NOT NULL DEFAULT '',
    backup_host TEXT NOT NULL DEFAULT '',
    asap INTEGER NOT NULL DEFAULT 0,
    event INTEGER NOT NULL DEFAULT 0,
    temporary INTEGER NOT NULL DEFAULT 0, -- held because its name is a temporary one
    is_alias INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX transfer_queue ON transfer (destination, priority, due_at, id)
    WHERE status IN ('WAIT', 'RETR') AND deleted = 0;
CREATE INDEX transfer_due ON transfer (destination, due_at)
    WHERE status IN ('WAIT', 'RETR') AND deleted = 0;
CREATE INDEX transfer_running ON transfer (status, destination)
    WHERE status IN ('INIT', 'SCHE', 'FETC', 'EXEC', 'INTR') AND deleted = 0;
CREATE INDEX transfer_preset ON transfer (destination, priority, queue_at, id)
    WHERE status = 'SCHE' AND deleted = 0;
CREATE INDEX transfer_key ON transfer (key_destination, key_target, unique_name) WHERE deleted = 0;
CREATE INDEX transfer_target ON transfer (destination, target, id) WHERE deleted = 0;
CREATE INDEX transfer_file ON transfer (data_file);
CREATE INDEX transfer_expiry ON transfer (expires_at) WHERE deleted = 0;
CREATE INDEX transfer_status ON transfer (destination, status, id) WHERE deleted = 0;
CREATE INDEX transfer_changed ON transfer (changed_at);

CREATE TRIGGER transfer_pending_insert AFTER INSERT ON transfer
WHEN new.status IN ('WAIT', 'RETR') AND new.deleted = 0
BEGIN
    UPDATE destination SET pending = pending + 1 WHERE name = new.destination;
END;
CREATE TRIGGER transfer_pending_update AFTER UPDATE OF status, deleted ON transfer
WHEN (old.status IN ('WAIT', 'RETR') AND old.deleted = 0)
  != (new.status IN ('WAIT', 'RETR') AND new.deleted = 0)
BEGIN
    UPDATE destination
    SET pending = pending
        + CASE WHEN new.status IN ('WAIT', 'RETR') AND new.deleted = 0 THEN 1 ELSE -1 END
    WHERE name = new.destination;
END;
CREATE TRIGGER transfer_pending_delete AFTER DELETE ON transfer
WHEN old.status IN ('WAIT', 'RETR') AND old.deleted = 0
BEGIN
    UPDATE destination SET pending = pending - 1 WHERE name = old.destination;
END;

CREATE TABLE transfer_history (
    id INTEGER PRIMARY KEY,
    transfer INTEGER NOT NULL,
    destination TEXT NOT NULL,
    time INTEGER NOT NULL,
    status TEXT NOT NULL,
    host TEXT NOT NULL DEFAULT '',
    sent INTEGER NOT NULL DEFAULT 0,
    duration INTEGER,
    comment TEXT NOT NULL DEFAULT '',
    user TEXT NOT NULL DEFAULT '',
    error INTEGER NOT NULL DEFAULT 0,
    reason TEXT
) STRICT;
CREATE INDEX transfer_history_transfer ON transfer_history (transfer, id);
CREATE INDEX transfer_history_time ON transfer_history (time);
CREATE INDEX transfer_history_error ON transfer_history (id) WHERE error = 1;

-- One row for each try of a Transfer with one Host, and what a later try needs to resume.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    transfer INTEGER NOT NULL,
    host TEXT NOT NULL,
    protocol TEXT NOT NULL DEFAULT '',
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    status TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT -1,
    sent INTEGER NOT NULL DEFAULT 0,
    requeue_history INTEGER NOT NULL DEFAULT 0,
    peer TEXT NOT NULL DEFAULT '',
    path TEXT NOT NULL DEFAULT '',
    statistics TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX attempt_transfer ON attempt (transfer, id);
CREATE INDEX attempt_time ON attempt (started_at);

CREATE TABLE resume_record (
    transfer INTEGER NOT NULL,
    host TEXT NOT NULL,
    record TEXT NOT NULL,                 -- JSON: temporary name, offset, source version, protocol state
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (transfer, host)
) STRICT, WITHOUT ROWID;

CREATE TABLE incoming_history (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    user TEXT NOT NULL,
    destination TEXT NOT NULL,
    transfer INTEGER,
    data_file INTEGER,
    file_name TEXT NOT NULL,
    action TEXT NOT NULL,
    protocol TEXT NOT NULL,
    peer TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    comment TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX incoming_history_time ON incoming_history (time);
CREATE INDEX incoming_history_user ON incoming_history (user, time);

CREATE TABLE acquisition_clock (
    destination TEXT NOT NULL,
    host TEXT NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    listed INTEGER NOT NULL DEFAULT 0,
    selected INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (destination, host)
) STRICT, WITHOUT ROWID;

-- Directories made through the portal; never disseminated.
CREATE TABLE portal_directory (
    destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    path TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (destination, path)
) STRICT, WITHOUT ROWID;

-- Uploads that broke off and may be continued.
CREATE TABLE parked_upload (
    user TEXT NOT NULL,
    destination TEXT NOT NULL,
    path TEXT NOT NULL,
    volume TEXT NOT NULL,
    temporary TEXT NOT NULL,
    size INTEGER NOT NULL,
    parked_at INTEGER NOT NULL,
    PRIMARY KEY (user, destination, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy (
    name TEXT PRIMARY KEY,
    active INTEGER NOT NULL,
    comment TEXT NOT NULL DEFAULT '',
    operations TEXT NOT NULL DEFAULT '[]',
    destinations TEXT NOT NULL DEFAULT '[]',
    options TEXT NOT NULL DEFAULT '{}',
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE data_user (
    login TEXT PRIMARY KEY,
    service TEXT NOT NULL DEFAULT 'standard-login',
    active INTEGER NOT NULL,
    comment TEXT NOT NULL DEFAULT '',
    country TEXT NOT NULL DEFAULT '',
    password_hash TEXT NOT NULL DEFAULT '',
    totp_secret TEXT NOT NULL DEFAULT '',
    operations TEXT NOT NULL DEFAULT '[]',
    destinations TEXT NOT NULL DEFAULT '[]',
    policies TEXT NOT NULL DEFAULT '[]',
    ssh_keys TEXT NOT NULL DEFAULT '[]',
    options TEXT NOT NULL DEFAULT '{}',
    last_login_at INTEGER,
    last_login_from TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE s3_key (
    access_key TEXT PRIMARY KEY,
    login TEXT NOT NULL REFERENCES data_user (login) ON DELETE CASCADE,
    secret TEXT NOT NULL,
    prefix TEXT NOT NULL DEFAULT '',
    read_only INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE TABLE subscriber (
    id INTEGER PRIMARY KEY,
    login TEXT NOT NULL REFERENCES data_user (login) ON DELETE CASCADE,
    email TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    country TEXT NOT NULL DEFAULT '',
    password_hash TEXT NOT NULL DEFAULT '',
    active INTEGER NOT NULL DEFAULT 0,
    verify_token_hash TEXT NOT NULL DEFAULT '',
    verify_expires_at INTEGER,
    created_at INTEGER NOT NULL,
    UNIQUE (login, email)
) STRICT;

CREATE TABLE web_user (
    name TEXT PRIMARY KEY,
    active INTEGER NOT NULL,
    comment TEXT NOT NULL DEFAULT '',
    password_hash TEXT NOT NULL DEFAULT '',
    totp_secret TEXT NOT NULL DEFAULT '',
    grants TEXT NOT NULL DEFAULT '[]',
    last_login_at INTEGER,
    last_login_from TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE web_role (
    name TEXT PRIMARY KEY,
    comment TEXT NOT NULL DEFAULT '',
    scopes TEXT NOT NULL DEFAULT '[]'
) STRICT;
INSERT INTO web_role (name, comment, scopes) VALUES
    ('viewer', 'sees', '["*:read"]'),
    ('operator', 'acts on transfers and destinations', '["*:read","*:operate"]'),
    ('editor', 'changes objects', '["*:read","*:operate","*:write"]'),
    ('admin', 'everything', '["*:*"]');

CREATE TABLE web_session (
    token_hash TEXT PRIMARY KEY,
    name TEXT NOT NULL REFERENCES web_user (name) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    peer TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    scopes TEXT NOT NULL DEFAULT '["*:*"]',
    objects TEXT NOT NULL DEFAULT '["*"]',
    networks TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    last_address TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE product_status (
    id INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    time TEXT NOT NULL,
    step INTEGER NOT NULL,
    type TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL,
    schedule_at INTEGER,
    time_base INTEGER,
    buffer INTEGER NOT NULL DEFAULT 0,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX product_status_key ON product_status (stream, time, step, type, id);

-- Durable facts for the event log; a row is removed once it is written to the files.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL,
    time INTEGER NOT NULL,
    type TEXT NOT NULL,
    record TEXT NOT NULL,
    written INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX event_unwritten ON event (id) WHERE written = 0;
CREATE INDEX event_time ON event (time);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    actor TEXT NOT NULL,
    peer TEXT NOT NULL DEFAULT '',
    action TEXT NOT NULL,
    object_type TEXT NOT NULL,
    object_name TEXT NOT NULL,
    difference TEXT NOT NULL DEFAULT '{}',
    outcome TEXT NOT NULL DEFAULT 'ok',
    comment TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX audit_time ON audit (time);
CREATE INDEX audit_object ON audit (object_type, object_name, id);

-- Messages for other systems (MQTT, mail, webhooks), kept until accepted there.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    destination TEXT NOT NULL DEFAULT '',
    transfer INTEGER,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    tries INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    expires_at INTEGER,
    error TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    sent_at INTEGER
) STRICT;
CREATE INDEX outbox_due ON outbox (kind, due_at) WHERE state = 'waiting';

CREATE TABLE transfer_group (
    name TEXT PRIMARY KEY,
    comment TEXT NOT NULL DEFAULT '',
    active INTEGER NOT NULL DEFAULT 1,
    backup INTEGER NOT NULL DEFAULT 0,
    backup_host TEXT NOT NULL DEFAULT '',
    filter INTEGER NOT NULL DEFAULT 0,
    filter_minimum INTEGER NOT NULL DEFAULT 0,
    volumes TEXT NOT NULL DEFAULT '[]'
) STRICT;

-- Rolling byte quotas in minute buckets; holder is "user:NAME" or "destination:NAME".
CREATE TABLE quota_bucket (
    holder TEXT NOT NULL,
    direction TEXT NOT NULL,
    minute INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (holder, direction, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE daily_rate (
    destination TEXT NOT NULL,
    day INTEGER NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    duration INTEGER NOT NULL DEFAULT 0,
    files INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE metadata_field (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL DEFAULT '',
    type TEXT NOT NULL DEFAULT 'text',
    category TEXT NOT NULL DEFAULT '',
    position INTEGER NOT NULL DEFAULT 0,
    max_occurrences INTEGER NOT NULL DEFAULT 1,
    active INTEGER NOT NULL DEFAULT 1,
    destination_types TEXT NOT NULL DEFAULT '[]'
) STRICT;

CREATE TABLE destination_metadata (
    destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    field INTEGER NOT NULL REFERENCES metadata_field (id) ON DELETE CASCADE,
    position INTEGER NOT NULL DEFAULT 0,
    value TEXT NOT NULL,
    PRIMARY KEY (destination, field, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE incident (
    id INTEGER PRIMARY KEY,
    dedup_key TEXT NOT NULL UNIQUE,
    severity TEXT NOT NULL,
    text TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    acknowledged_by TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    muted_until INTEGER,
    resolved_at INTEGER
) STRICT;

CREATE TABLE ban (
    address TEXT PRIMARY KEY,
    score INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    banned_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL
) STRICT;

-- What each site file created, for `apply --prune`.
CREATE TABLE applied (
    file TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (file, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    actor TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
