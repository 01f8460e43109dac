-- 0015  sums and indexes for what people look at: counts of transfers, content of volumes, hours
-- Why:  a page of a site with a million transfers read all of them to count them.
-- Cost: one pass over transfers, files and attempts (about 5 s for a million), then 10 us more for
--       each transfer; the counter in `destination`, whose wide row was rewritten, is gone.

DROP TRIGGER transfer_pending_insert;
DROP TRIGGER transfer_pending_update;
DROP TRIGGER transfer_pending_delete;
ALTER TABLE destination DROP COLUMN pending;

-- Live transfers by destination and status; outstanding are those that somebody should look at.
CREATE TABLE transfer_count (
    destination TEXT NOT NULL,
    status TEXT NOT NULL,
    files INTEGER NOT NULL,
    outstanding INTEGER NOT NULL,
    PRIMARY KEY (destination, status)
) STRICT, WITHOUT ROWID;

INSERT INTO transfer_count (destination, status, files, outstanding)
SELECT destination, status, COUNT(*),
    SUM(status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
        OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '')
FROM transfer WHERE deleted = 0 GROUP BY destination, status;

CREATE TRIGGER transfer_count_insert AFTER INSERT ON transfer WHEN new.deleted = 0
BEGIN
    INSERT INTO transfer_count (destination, status, files, outstanding)
    VALUES (new.destination, new.status, 1,
        new.status = 'WAIT' AND new.start_count > 0 OR new.status = 'FAIL'
        OR new.status = 'RETR' AND new.status_by = '' OR new.status = 'STOP' AND new.status_by = '')
    ON CONFLICT DO UPDATE SET files = files + 1, outstanding = outstanding + excluded.outstanding;
END;
CREATE TRIGGER transfer_count_update
AFTER UPDATE OF status, deleted, start_count, status_by, destination ON transfer
WHEN old.status != new.status OR old.deleted != new.deleted OR old.destination != new.destination
    OR (old.start_count > 0) != (new.start_count > 0) OR (old.status_by = '') != (new.status_by = '')
BEGIN
    UPDATE transfer_count SET files = files - 1, outstanding = outstanding - (
        old.status = 'WAIT' AND old.start_count > 0 OR old.status = 'FAIL'
        OR old.status = 'RETR' AND old.status_by = '' OR old.status = 'STOP' AND old.status_by = '')
    WHERE destination = old.destination AND status = old.status AND old.deleted = 0;
    INSERT INTO transfer_count (destination, status, files, outstanding)
    SELECT new.destination, new.status, 1,
        new.status = 'WAIT' AND new.start_count > 0 OR new.status = 'FAIL'
        OR new.status = 'RETR' AND new.status_by = '' OR new.status = 'STOP' AND new.status_by = ''
    WHERE new.deleted = 0
    ON CONFLICT DO UPDATE SET files = files + 1, outstanding = outstanding + excluded.outstanding;
END;
CREATE TRIGGER transfer_count_delete AFTER DELETE ON transfer WHEN old.deleted = 0
BEGIN
    UPDATE transfer_count SET files = files - 1, outstanding = outstanding - (
        old.status = 'WAIT' AND old.start_count > 0 OR old.status = 'FAIL'
        OR old.status = 'RETR' AND old.status_by = '' OR old.status = 'STOP' AND old.status_by = '')
    WHERE destination = old.destination AND status = old.status;
END;

-- Rows come and go here only when something went wrong.
CREATE INDEX transfer_outstanding ON transfer (id)
    WHERE deleted = 0 AND (status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
        OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '');
CREATE INDEX transfer_outstanding_destination ON transfer (destination, id)
    WHERE deleted = 0 AND (status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
        OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '');

-- Stored content by volume and hour of its arrival (hours since 1970).
CREATE TABLE stored_hour (
    volume TEXT NOT NULL,
    hour INTEGER NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (volume, hour)
) STRICT, WITHOUT ROWID;

INSERT INTO stored_hour (volume, hour, files, bytes)
SELECT volume, arrived_at / 3600000000, COUNT(*), SUM(MAX(size, 0)) FROM data_file
WHERE stored = 1 AND removed = 0 GROUP BY 1, 2;

CREATE TRIGGER stored_hour_insert AFTER INSERT ON data_file
WHEN new.stored = 1 AND new.removed = 0
BEGIN
    INSERT INTO stored_hour (volume, hour, files, bytes)
    VALUES (new.volume, new.arrived_at / 3600000000, 1, MAX(new.size, 0))
    ON CONFLICT DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER stored_hour_update
AFTER UPDATE OF stored, removed, size, volume, arrived_at ON data_file
WHEN (old.stored = 1 AND old.removed = 0) OR (new.stored = 1 AND new.removed = 0)
BEGIN
    UPDATE stored_hour SET files = files - 1, bytes = bytes - MAX(old.size, 0)
    WHERE volume = old.volume AND hour = old.arrived_at / 3600000000
        AND old.stored = 1 AND old.removed = 0;
    INSERT INTO stored_hour (volume, hour, files, bytes)
    SELECT new.volume, new.arrived_at / 3600000000, 1, MAX(new.size, 0)
    WHERE new.stored = 1 AND new.removed = 0
    ON CONFLICT DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER stored_hour_delete AFTER DELETE ON data_file
WHEN old.stored = 1 AND old.removed = 0
BEGIN
    UPDATE stored_hour SET files = files - 1, bytes = bytes - MAX(old.size, 0)
    WHERE volume = old.volume AND hour = old.arrived_at / 3600000000;
END;

-- Attempts by host and hour of their start.
CREATE TABLE host_hour (
    host TEXT NOT NULL,
    hour INTEGER NOT NULL,
    files INTEGER NOT NULL,               -- that were done
    bytes INTEGER NOT NULL,               -- of those
    failed INTEGER NOT NULL,
    duration INTEGER NOT NULL,            -- microseconds, of those that were done
    PRIMARY KEY (host, hour)
) STRICT, WITHOUT ROWID;

INSERT INTO host_hour (host, hour, files, bytes, failed, duration)
SELECT host, started_at / 3600000000, SUM(status = 'DONE'),
    SUM(CASE WHEN status = 'DONE' THEN sent ELSE 0 END), SUM(status != 'DONE'),
    SUM(CASE WHEN status = 'DONE' THEN MAX(COALESCE(finished_at, 0) - started_at, 0) ELSE 0 END)
FROM attempt GROUP BY 1, 2;
