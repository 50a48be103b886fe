-- Limits of every kind and whose turn it is at them: what a connection may have of the limits that it shares with others,
-- what the ledger keeps of each limit, and the queue in the order in which records go.

ALTER TABLE sync.connection
    ADD COLUMN weight         integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100), -- its share, beside others'
    ADD COLUMN deliver_within interval CHECK (deliver_within > interval '0'); -- how old an edit may get; NULL: any age

ALTER TABLE sync.budget
    ADD COLUMN state jsonb NOT NULL DEFAULT '{}', -- how far the limit is spent
    ALTER COLUMN tat DROP NOT NULL;

-- By when each record became due, or is due again. The two columns besides, so that who is due is told by the index alone.
DROP INDEX sync.pending_queue;
CREATE INDEX pending_queue ON sync.pending (partner, tenant_id, coalesce(not_before, since)) INCLUDE (not_before, since)
    WHERE state IN ('due', 'retry', 'unknown') AND waits_for IS NULL;

ALTER TABLE sync.lease
    ADD COLUMN goes_on_at timestamptz; -- when the push that gave it back is to be asked for again; NULL: by the minute
GRANT SELECT (goes_on_at) ON sync.lease TO zest_schedule;
