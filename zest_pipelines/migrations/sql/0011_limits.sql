-- The queue in the order in which records go: by when each became due, or is due again. The two columns besides, so that
-- who is due is told by the index alone.
DROP INDEX sync.pending_queue;
CREATE INDEX pending_queue ON sync.pending (partner, tenant_id, coalesce(not_before, since)) INCLUDE (not_before, since)
    WHERE state IN ('due', 'retry', 'unknown') AND waits_for IS NULL;

ALTER TABLE sync.lease
    ADD COLUMN goes_on_at timestamptz; -- when the push that gave it back is to be asked for again; NULL: by the minute
GRANT SELECT (goes_on_at) ON sync.lease TO zest_schedule;
