-- A hold for an unknown error is over when an operator says something of that error: what it is, or that nobody knows.

-- The fingerprint of what it is for; NULL: it is no unknown error.
ALTER TABLE sync.hold ADD COLUMN cause text
    GENERATED ALWAYS AS (CASE reason WHEN 'unknown' THEN sync.cause(partner, params) END) STORED;

GRANT SELECT (cause) ON sync.hold TO zest_schedule;
GRANT SELECT (fingerprint, said_at) ON sync.classification TO zest_push, zest_schedule;
GRANT EXECUTE ON FUNCTION sync.cause(text, jsonb) TO zest_push; -- who puts a hold
