-- How far each backfill has come. Beside the rows it speaks of, so that it goes where they go: into
-- a restore, to a standby, and not into another database.

CREATE TABLE backfills (
    -- SHA-256 of what was asked for: an index entry must fit into a third of a page.
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
