-- 0004  batches with their failures, jobs over many transfers, copies at backup and proxy hosts
-- Why:  a batch must still tell which of its files failed after these were deleted; a bulk action
--       must survive a restart; copies are made, retried and purged beside the queue.
-- Cost: one index built anew over data_file (about 1 s for a million rows).

DROP INDEX data_file_group;
CREATE INDEX data_file_group ON data_file (group_by, id) WHERE group_by != '';
CREATE INDEX transfer_asap ON transfer (queue_at)
    WHERE asap = 1 AND status IN ('WAIT', 'RETR') AND deleted = 0;

CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    verb TEXT NOT NULL,
    request TEXT NOT NULL,                -- JSON: ids or filter, limit, scope of who asked
    actor TEXT NOT NULL,                  -- JSON: name, kind, peer
    state TEXT NOT NULL,                  -- running, done, cancelled, failed
    position INTEGER NOT NULL,            -- transfers from this id on are done, newest first
    total INTEGER NOT NULL,
    total_is_minimum INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    errors TEXT NOT NULL DEFAULT '[]',    -- JSON, the first ones
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX job_running ON job (id) WHERE state = 'running';

-- One copy of the content of a data file at a backup or proxy host.
CREATE TABLE content_copy (
    data_file INTEGER NOT NULL,
    instance INTEGER NOT NULL,            -- 0 for the first
    host TEXT NOT NULL,
    role TEXT NOT NULL,                   -- backup or proxy
    destination TEXT NOT NULL,            -- for which it waits at a proxy, '' at a backup host
    state TEXT NOT NULL,                  -- waiting, there, doomed
    place TEXT NOT NULL DEFAULT '',       -- path at the host, or number at the proxy
    tries INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (data_file, host, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX content_copy_due ON content_copy (state, due_at);
