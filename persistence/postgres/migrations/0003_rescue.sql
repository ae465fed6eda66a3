-- The rescue copy: the journal's frames in batches, and now and then a checkpoint, from which `doorbuster restore` rebuilds a
-- data directory. Nothing here is meant for reports.

CREATE TABLE doorbuster.rescue_owner (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    engine_id text NOT NULL CHECK (engine_id ~ '^[0-9a-f]{32}$'),
    epoch bigint NOT NULL CHECK (epoch > 0),
    token_digest text NOT NULL CHECK (token_digest ~ '^[0-9a-f]{64}$'),
    last_frame bigint NOT NULL CHECK (last_frame >= 0),
    last_checksum bigint NOT NULL CHECK (last_checksum BETWEEN 0 AND 4294967295),
    taken_at timestamptz NOT NULL DEFAULT now(),
    attached_at timestamptz NOT NULL DEFAULT now(),
    shipped_at timestamptz
);
COMMENT ON TABLE doorbuster.rescue_owner IS 'Which data directory may write the copy, and how far it has come. One row.';
COMMENT ON COLUMN doorbuster.rescue_owner.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN doorbuster.rescue_owner.engine_id IS 'Whose journal it is: the engine id in the data directory''s FORMAT file.';
COMMENT ON COLUMN doorbuster.rescue_owner.epoch IS 'Grows with each restore: whoever wrote under an earlier one is refused.';
COMMENT ON COLUMN doorbuster.rescue_owner.token_digest IS 'BLAKE3 of the owning directory''s secret rescue_owner, hexadecimal.';
COMMENT ON COLUMN doorbuster.rescue_owner.last_frame IS 'Last journal frame in the copy; 0 before the first.';
COMMENT ON COLUMN doorbuster.rescue_owner.last_checksum IS 'CRC32C of that frame, to which the next one is chained.';
COMMENT ON COLUMN doorbuster.rescue_owner.taken_at IS 'When this epoch began.';
COMMENT ON COLUMN doorbuster.rescue_owner.attached_at IS 'When its owner last connected.';
COMMENT ON COLUMN doorbuster.rescue_owner.shipped_at IS 'When the last batch came in.';

CREATE TABLE doorbuster.rescue_batches (
    first_frame bigint PRIMARY KEY CHECK (first_frame > 0),
    last_frame bigint NOT NULL UNIQUE,
    follows bigint REFERENCES doorbuster.rescue_batches (last_frame) ON DELETE SET NULL,
    epoch bigint NOT NULL CHECK (epoch > 0),
    previous_checksum bigint NOT NULL CHECK (previous_checksum BETWEEN 0 AND 4294967295),
    checksum bigint NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),
    records bigint NOT NULL CHECK (records >= 0),
    raw_bytes bigint NOT NULL CHECK (raw_bytes > 0),
    form smallint NOT NULL CHECK (form > 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 16),
    payload bytea NOT NULL,
    shipped_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT frames_are_in_order CHECK (last_frame >= first_frame),
    CONSTRAINT no_frame_is_missing CHECK (follows = first_frame - 1)
);
-- Compressed already; the server would only try in vain.
ALTER TABLE doorbuster.rescue_batches ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX rescue_batches_follow ON doorbuster.rescue_batches (follows);
CREATE UNIQUE INDEX rescue_batches_have_one_beginning ON doorbuster.rescue_batches ((true)) WHERE follows IS NULL;
COMMENT ON TABLE doorbuster.rescue_batches IS 'The journal''s frames, in gapless runs. Each row follows another, but for the first one at hand.';
COMMENT ON COLUMN doorbuster.rescue_batches.first_frame IS 'First frame of the run.';
COMMENT ON COLUMN doorbuster.rescue_batches.last_frame IS 'Last frame of the run.';
COMMENT ON COLUMN doorbuster.rescue_batches.follows IS 'Last frame of the run before; null where that is pruned or never was.';
COMMENT ON COLUMN doorbuster.rescue_batches.epoch IS 'The epoch of rescue_owner under which it was written.';
COMMENT ON COLUMN doorbuster.rescue_batches.previous_checksum IS 'CRC32C of the frame before the first.';
COMMENT ON COLUMN doorbuster.rescue_batches.checksum IS 'CRC32C of the last frame.';
COMMENT ON COLUMN doorbuster.rescue_batches.records IS 'Records in these frames.';
COMMENT ON COLUMN doorbuster.rescue_batches.raw_bytes IS 'Bytes of the frames before compression.';
COMMENT ON COLUMN doorbuster.rescue_batches.form IS 'Form of the payload; see docs/formats.md.';
COMMENT ON COLUMN doorbuster.rescue_batches.hash IS 'First 16 bytes of BLAKE3 over the engine''s id and all of the above.';
COMMENT ON COLUMN doorbuster.rescue_batches.payload IS 'The frames, byte for byte, as one LZ4 block.';
COMMENT ON COLUMN doorbuster.rescue_batches.shipped_at IS 'When it came in.';

CREATE TABLE doorbuster.rescue_checkpoints (
    checkpoint_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    replay_from bigint NOT NULL CHECK (replay_from > 0),
    durable_frame bigint,
    head bytea,
    pages bigint,
    bytes bigint,
    begun_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT finished_is_whole CHECK (
        finished_at IS NULL
        OR (durable_frame IS NOT NULL AND head IS NOT NULL AND pages IS NOT NULL AND bytes IS NOT NULL)
    )
);
COMMENT ON TABLE doorbuster.rescue_checkpoints IS 'Copies of the checkpoint store. Only a finished one counts.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.checkpoint_id IS 'Ascending.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.replay_from IS 'With it, frames before this one are not needed.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.durable_frame IS 'It may reflect frames up to this one, so they are needed.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.head IS 'What is said of it before its pages; see docs/formats.md.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.pages IS 'How many pages it has.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.bytes IS 'Bytes of its pages, compressed.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.begun_at IS 'When its first page came in.';
COMMENT ON COLUMN doorbuster.rescue_checkpoints.finished_at IS 'When it was whole; null before.';

CREATE TABLE doorbuster.rescue_pages (
    checkpoint_id bigint NOT NULL REFERENCES doorbuster.rescue_checkpoints ON DELETE CASCADE,
    page bigint NOT NULL CHECK (page >= 0),
    raw_bytes bigint NOT NULL CHECK (raw_bytes >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 16),
    payload bytea NOT NULL,
    PRIMARY KEY (checkpoint_id, page)
);
ALTER TABLE doorbuster.rescue_pages ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON TABLE doorbuster.rescue_pages IS 'The pages of the copies of the checkpoint store.';
COMMENT ON COLUMN doorbuster.rescue_pages.checkpoint_id IS 'Of which copy.';
COMMENT ON COLUMN doorbuster.rescue_pages.page IS 'Its number: 0, 1, 2, ….';
COMMENT ON COLUMN doorbuster.rescue_pages.raw_bytes IS 'Bytes before compression.';
COMMENT ON COLUMN doorbuster.rescue_pages.hash IS 'First 16 bytes of BLAKE3; see docs/formats.md.';
COMMENT ON COLUMN doorbuster.rescue_pages.payload IS 'Entries of the store as one LZ4 block.';

CREATE TABLE doorbuster.rescue_secrets (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    form smallint NOT NULL CHECK (form > 0),
    salt bytea NOT NULL CHECK (octet_length(salt) = 16),
    iterations integer NOT NULL CHECK (iterations > 0),
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 12),
    sealed bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE doorbuster.rescue_secrets IS 'The data directory''s secrets, encrypted under the operator''s rescue key, which is not here.';
COMMENT ON COLUMN doorbuster.rescue_secrets.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN doorbuster.rescue_secrets.form IS 'Form of sealed; see docs/formats.md.';
COMMENT ON COLUMN doorbuster.rescue_secrets.salt IS 'Salt of PBKDF2-HMAC-SHA256 over the rescue key.';
COMMENT ON COLUMN doorbuster.rescue_secrets.iterations IS 'Its iterations.';
COMMENT ON COLUMN doorbuster.rescue_secrets.nonce IS 'Nonce of AES-256-GCM.';
COMMENT ON COLUMN doorbuster.rescue_secrets.sealed IS 'Names and bytes of the secrets, encrypted, with the tag behind.';
COMMENT ON COLUMN doorbuster.rescue_secrets.sealed_at IS 'When.';
