-- 0009  incidents by what they are about, one-time codes of web users that were used
-- Why:  an incident closes by itself when its cause is gone, and operators see those of their scope.
-- Cost: one index over failed publications.

ALTER TABLE incident ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE incident ADD COLUMN subject_kind TEXT NOT NULL DEFAULT '';  -- destination, host, volume …
ALTER TABLE incident ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE incident ADD COLUMN acknowledged_at INTEGER;
ALTER TABLE incident ADD COLUMN muted_by TEXT NOT NULL DEFAULT '';
CREATE INDEX incident_open ON incident (id) WHERE resolved_at IS NULL;
CREATE INDEX incident_resolved ON incident (resolved_at, id) WHERE resolved_at IS NOT NULL;
CREATE INDEX outbox_failed ON outbox (destination, id) WHERE state = 'failed';

ALTER TABLE web_user ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;
