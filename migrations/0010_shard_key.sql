-- By what Citus divides rejected samples among its nodes. It must be in every unique key, and NULL
-- it cannot be, while samples whose label set `sources` does not have are of no source.

-- In the order in which a receiver locks them: it may be running.
LOCK TABLE pending_rows, rejected_samples IN ACCESS EXCLUSIVE MODE;

ALTER TABLE rejected_samples ADD COLUMN shard_key INT NOT NULL DEFAULT 0;

-- Writes the table anew, where UPDATE would leave each row behind.
ALTER TABLE rejected_samples ALTER COLUMN shard_key TYPE INT USING COALESCE(source_id, 0);

ALTER TABLE rejected_samples
    DROP CONSTRAINT rejected_samples_pkey,
    ADD CONSTRAINT rejected_samples_pkey PRIMARY KEY (id, shard_key),
    DROP CONSTRAINT rejected_samples_with_source_key,
    ADD CONSTRAINT rejected_samples_with_source_key
        UNIQUE (source_id, metric, timestamp_ms, value, reason, table_name, shard_key);

DROP INDEX rejected_samples_without_source_key;

CREATE UNIQUE INDEX rejected_samples_without_source_key ON rejected_samples
    (source_digest, metric, timestamp_ms, value, reason, table_name, shard_key) WHERE source_id IS NULL;

COMMENT ON COLUMN rejected_samples.shard_key IS
    'source_id, or 0 where there is none: by this Citus distributes the table.';
