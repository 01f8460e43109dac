-- 0005  S3: whose key pair it is and what it is for, attributes of objects, uploads in parts
-- Why:  objects carry headers and user metadata; an upload in parts outlives a restart.
-- Cost: columns without a rewrite, new empty tables.

ALTER TABLE s3_key ADD COLUMN comment TEXT NOT NULL DEFAULT '';
ALTER TABLE s3_key ADD COLUMN subscriber INTEGER REFERENCES subscriber (id) ON DELETE CASCADE;
ALTER TABLE s3_key ADD COLUMN last_used_at INTEGER;

-- What an S3 client gave with the content of one instance of a file (JSON of vfs.s3contract).
CREATE TABLE object_attribute (
    data_file INTEGER PRIMARY KEY REFERENCES data_file (id) ON DELETE CASCADE,
    instance INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

-- Uploads in parts.  `temporary` holds the parts that lie where the object wants them: part n at
-- (n - 1) * stride.  Once `etag` is set the object exists and the row only answers a repetition.
CREATE TABLE multipart_upload (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    path TEXT NOT NULL,
    document TEXT NOT NULL DEFAULT '{}',
    volume TEXT NOT NULL DEFAULT '',
    temporary TEXT NOT NULL DEFAULT '',
    stride INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    etag TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX multipart_upload_path ON multipart_upload (user, destination, path, id)
    WHERE etag IS NULL;
CREATE INDEX multipart_upload_age ON multipart_upload (created_at);

CREATE TABLE multipart_part (
    upload TEXT NOT NULL REFERENCES multipart_upload (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    volume TEXT NOT NULL,
    temporary TEXT NOT NULL,
    place INTEGER NOT NULL,              -- offset in that file
    size INTEGER NOT NULL,
    adler INTEGER NOT NULL,
    md5 TEXT NOT NULL,
    checksums TEXT NOT NULL DEFAULT '{}',
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;
