-- 0003  what is known of content on its way: compressed copies, half-received files
-- Why:  a compressed copy is made once for all hosts of a destination; a download that broke off
--       goes on where it was, also after a restart.
-- Cost: none, new tables.

CREATE TABLE squeezed (
    data_file INTEGER NOT NULL,
    instance INTEGER NOT NULL,            -- 0 for the first
    filters TEXT NOT NULL,                -- as named by the destination: gzip or gzip,bzip2
    version TEXT NOT NULL,                -- levels and libraries
    size INTEGER NOT NULL,                -- -1: not smaller than the original, nothing is kept
    volume TEXT NOT NULL DEFAULT '',
    object_key TEXT NOT NULL DEFAULT '',
    made_at INTEGER NOT NULL,
    PRIMARY KEY (data_file, instance, filters)
) STRICT, WITHOUT ROWID;
CREATE INDEX squeezed_object ON squeezed (object_key) WHERE object_key != '';

-- One download that broke off: what of it lies in a volume's directory of uploads.
CREATE TABLE half_received (
    data_file INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    source TEXT NOT NULL,
    version TEXT NOT NULL,                -- size, time and tag at the source
    volume TEXT NOT NULL,
    temporary TEXT NOT NULL,
    received INTEGER NOT NULL,            -- bytes without a gap
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX half_received_name ON half_received (temporary);

-- Partial files at remote sites that no attempt will go on with, to be removed there.
CREATE TABLE stale_partial (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    record TEXT NOT NULL,                 -- JSON: name, offset, version, state
    tries INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
) STRICT;
CREATE INDEX stale_partial_due ON stale_partial (due_at);
CREATE INDEX resume_record_time ON resume_record (updated_at);

-- Whoever forgets what a later attempt could go on with has it removed at the remote site; an empty
-- record says that there is nothing any more.
CREATE TRIGGER resume_dropped AFTER DELETE ON resume_record WHEN old.record != ''
BEGIN
    INSERT INTO stale_partial (host, record, due_at) VALUES (old.host, old.record, 0);
END;

ALTER TABLE attempt ADD COLUMN filters TEXT NOT NULL DEFAULT '';     -- how it was compressed
ALTER TABLE attempt ADD COLUMN resumed_at INTEGER NOT NULL DEFAULT 0; -- first byte of this attempt
