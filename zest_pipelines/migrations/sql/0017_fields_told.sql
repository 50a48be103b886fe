-- A field that a partner sends and its format does not have is noted with its page, and told with a report: a process that
-- dies between the two leaves it to the next reading.

ALTER TABLE sync.unknown_field
    ADD COLUMN records integer NOT NULL DEFAULT 0, -- new versions that had it, as long as it was not told
    ADD COLUMN told_at timestamptz DEFAULT now();  -- NULL: not yet; those of before have been
ALTER TABLE sync.unknown_field ALTER COLUMN told_at DROP DEFAULT;
GRANT UPDATE (records, told_at) ON sync.unknown_field TO zest_land;
