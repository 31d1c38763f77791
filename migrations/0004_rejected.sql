-- Stores rejected samples whose label set is not in `sources`, and the exact values of the samples
-- of incomplete rows. Adds a function that finds what the database refuses.

ALTER TABLE rejected_samples
    ALTER COLUMN source_id DROP NOT NULL,
    -- Not `labels`: queries that join `sources` use that name, unqualified, for its column.
    ADD COLUMN source_labels JSONB,
    -- SHA-256 of the labels, as in `sources`.
    ADD COLUMN source_digest BYTEA,
    ADD COLUMN detail TEXT,
    ADD CONSTRAINT rejected_samples_source_or_labels
        CHECK ((source_id IS NULL) = (source_labels IS NOT NULL AND source_digest IS NOT NULL));

-- A request that is sent again must not store its rejected samples twice.
CREATE UNIQUE INDEX rejected_samples_without_source_key
    ON rejected_samples (source_digest, metric, timestamp_ms, value, reason) WHERE source_id IS NULL;

COMMENT ON COLUMN rejected_samples.source_labels IS
    'The label set where `sources` has no row for it: its limit was reached, or it was refused. Of '
    'several samples that were rejected together, the first has all of a large one, the others have it cut.';
COMMENT ON COLUMN rejected_samples.detail IS
    'What the database said, where it refused the sample.';

ALTER TABLE pending_halves ADD COLUMN status_sample DOUBLE PRECISION;

COMMENT ON TABLE pending_halves IS 'Samples whose other sample has not arrived yet.';
COMMENT ON COLUMN pending_halves.status_sample IS 'The value that app_status was read from.';

CREATE FUNCTION receiver_run_for_each(statement TEXT, entries JSONB[])
RETURNS TABLE (place INT, code TEXT, broken TEXT, message TEXT)
LANGUAGE plpgsql
AS $function$
DECLARE
    first INT;
    last INT;
    -- Length of the parts into which a failed part is split. There are at most eight of them, so
    -- that few runs are wasted if all entries fail.
    step INT;
    -- A stack of the parts still to be run, each by the positions of its first and last entry.
    firsts INT[] := ARRAY[1];
    lasts INT[] := ARRAY[cardinality(entries)];
    depth INT := CASE WHEN cardinality(entries) > 0 THEN 1 ELSE 0 END;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    WHILE depth > 0 LOOP
        first := firsts[depth];
        last := lasts[depth];
        depth := depth - 1;
        BEGIN
            EXECUTE statement USING entries[first:last];
        EXCEPTION WHEN OTHERS THEN
            -- Not caused by an entry: the whole transaction must be run again, now or later.
            IF SQLSTATE ~ '^(08|25|40|53|55|57|58|XX)' THEN
                RAISE;
            END IF;
            IF first = last THEN
                place := first;
                code := SQLSTATE;
                message := SQLERRM;
                GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
                RETURN NEXT;
            ELSE
                step := (last - first) / 8 + 1;
                WHILE last >= first LOOP
                    depth := depth + 1;
                    firsts[depth] := greatest(first, last - step + 1);
                    lasts[depth] := last;
                    last := last - step;
                END LOOP;
            END IF;
        END;
    END LOOP;
END;
$function$;

COMMENT ON FUNCTION receiver_run_for_each IS
    'Runs a statement whose $1 is an array over entries; where it fails, over ever smaller parts. '
    'Returns which entries it failed for, by their place from 1, and why (the SQLSTATE, the name of the '
    'constraint, the message). The others stay in effect.';
