-- 0012  what was learned of hosts: their last addresses, the quirks of their servers
-- Why:  a node that starts while the name service is away, or beside a server that swallows EPSV,
--       should not have to learn it again.
-- Cost: none, a new table; one statement each half minute in which something was learned.

CREATE TABLE remote_fact (
    host TEXT NOT NULL,                   -- nickname
    module TEXT NOT NULL,                 -- who learned it
    fact TEXT NOT NULL,
    value TEXT NOT NULL,                  -- never a secret
    learned_at INTEGER NOT NULL,
    PRIMARY KEY (host, module, fact)
) STRICT, WITHOUT ROWID;
CREATE INDEX remote_fact_time ON remote_fact (learned_at);

CREATE TRIGGER host_forgotten AFTER DELETE ON host
BEGIN
    DELETE FROM remote_fact WHERE host = old.name;
END;

CREATE INDEX stale_partial_host ON stale_partial (host);
