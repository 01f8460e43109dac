-- 0008  what brokers have announced: each message once, and the latest publication of each datum
-- Why:  the same message comes from several brokers and again after a lost connection.
-- Cost: nothing for existing rows.

CREATE TABLE announced (
    destination TEXT NOT NULL,
    id TEXT NOT NULL,                     -- of the message
    time INTEGER NOT NULL,
    PRIMARY KEY (destination, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX announced_time ON announced (time);

CREATE TABLE announced_data (
    destination TEXT NOT NULL,
    data_id TEXT NOT NULL,
    published INTEGER NOT NULL,
    data_file INTEGER,                    -- NULL: withdrawn
    time INTEGER NOT NULL,
    PRIMARY KEY (destination, data_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX announced_data_time ON announced_data (time);

-- The digest that content has to have once it is fetched.
CREATE TABLE expected_digest (
    data_file INTEGER PRIMARY KEY,
    method TEXT NOT NULL,
    digest TEXT NOT NULL                  -- hex
) STRICT;
