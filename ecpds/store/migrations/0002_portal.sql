-- 0002  what the portal's tree needs: product dates beside the queue, and the rows a user may see
-- Why:  a destination shown by date would read all its transfers for one directory of dates.
-- Cost: one pass over all transfers, writer held (about 4 s for a million), 60 bytes a transfer.

ALTER TABLE transfer ADD COLUMN time_base INTEGER;  -- that of the data file
UPDATE transfer SET time_base = (SELECT time_base FROM data_file WHERE id = transfer.data_file);
CREATE INDEX transfer_date ON transfer (destination, time_base, target, id) WHERE deleted = 0;

CREATE TRIGGER transfer_time_base AFTER UPDATE OF time_base ON data_file
WHEN new.time_base IS NOT old.time_base
BEGIN
    UPDATE transfer SET time_base = new.time_base WHERE data_file = new.id;
END;

-- One row a transfer that is not hidden by its status; time decides about the rest (visible_at,
-- expires_at).  The cross join keeps the order of the tables, so that a range of names stays one.
CREATE VIEW portal_entry AS
SELECT
    transfer.destination AS destination,
    transfer.target AS target,
    transfer.id AS transfer,
    transfer.status AS status,
    transfer.scheduled_at AS scheduled_at,
    MIN(transfer.queue_at, transfer.scheduled_at) AS visible_at,
    transfer.expires_at AS expires_at,
    transfer.time_base AS time_base,
    data_file.id AS file,
    data_file.instance AS instance,
    data_file.size AS size,
    data_file.arrived_at AS arrived_at,
    data_file.file_time AS file_time,
    data_file.checksum AS checksum,
    data_file.volume AS volume,
    data_file.object_key AS object_key,
    digest.hex AS etag
FROM transfer
CROSS JOIN data_file ON data_file.id = transfer.data_file
LEFT JOIN digest ON digest.data_file = data_file.id
    AND digest.instance = COALESCE(data_file.instance, 0) AND digest.algorithm = 'etag'
WHERE transfer.deleted = 0 AND transfer.status NOT IN ('INIT', 'SCHE', 'FETC')
    AND data_file.stored = 1;

CREATE INDEX parked_upload_user ON parked_upload (user, parked_at);
CREATE INDEX subscriber_password ON subscriber (login, password_hash) WHERE active = 1;
