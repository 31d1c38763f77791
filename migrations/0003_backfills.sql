-- The progress of each backfill. It is stored with the rows it refers to: a restored backup or a
-- standby has both, and another database has neither.

CREATE TABLE backfills (
    -- SHA-256 of the URL and the parameters: an index entry may take at most a third of a page.
    digest BYTEA PRIMARY KEY,
    source_url TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL,
    done_ms BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

COMMENT ON TABLE backfills IS
    'Backfills that were stopped, and where the same command goes on; those that ended are gone.';
COMMENT ON COLUMN backfills.done_ms IS
    'All up to here is stored; milliseconds since the Unix epoch, as start_ms and end_ms.';
