-- 0011  what a WIS2 node knows: discovery records, what was told of each datum, messages of others
-- Why:  whether a message says new or update depends on what was told before, whoever asks.
-- Cost: nothing for existing rows.

CREATE TABLE wis2_record (
    id TEXT PRIMARY KEY,                  -- urn:wmo:md:CENTRE:NAME
    document TEXT NOT NULL,               -- as it is served
    version INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    announced_at INTEGER                  -- NULL: not yet
) STRICT;

CREATE TABLE wis2_told (
    data_id TEXT PRIMARY KEY,
    destination TEXT NOT NULL,
    transfer INTEGER NOT NULL,
    digest TEXT NOT NULL,                 -- hex of the content that was told last
    relation TEXT NOT NULL,               -- canonical or update
    href TEXT NOT NULL,
    time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX wis2_told_transfer ON wis2_told (transfer);
CREATE INDEX wis2_told_time ON wis2_told (time);

-- The message that announced a file, for whoever tells of it again.
CREATE TABLE wis2_origin (
    data_file INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    document TEXT NOT NULL,
    links TEXT NOT NULL DEFAULT '[]'      -- other addresses of the same content
) STRICT;
