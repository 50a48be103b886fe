-- When what is wrong becomes an alert: bounds that operations set; and since when a connection's edits could go.

-- One row.
CREATE TABLE sync.alert_bounds (
    is_only       boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    partner_after interval NOT NULL DEFAULT '30 minutes' CHECK (partner_after >= '1 minute'), -- a fault of the partner's
    edits_after   interval NOT NULL DEFAULT '1 hour' CHECK (edits_after >= '1 minute'), -- edits that could go
    users_after   interval NOT NULL DEFAULT '1 day' CHECK (users_after >= '1 minute') -- what a tenant's people have to do
);
INSERT INTO sync.alert_bounds DEFAULT VALUES;
GRANT SELECT, UPDATE (partner_after, edits_after, users_after) ON sync.alert_bounds TO zest_operator;
GRANT SELECT ON sync.alert_bounds TO zest_alert;

ALTER TABLE sync.alert_target
    DROP CONSTRAINT alert_target_owners_check,
    ADD CONSTRAINT alert_target_owners_check CHECK (owners <@ ARRAY['us', 'unknown', 'partner', 'user']);

-- A hold that is over stays, so that it is known since when calls may go again.
ALTER TABLE sync.hold
    ADD COLUMN lifted_at timestamptz; -- NULL: the connection is not as it should be
REVOKE DELETE ON sync.hold FROM zest_push;
ALTER TABLE sync.connection
    ADD COLUMN resumed_at timestamptz; -- the last time
GRANT SELECT (lifted_at) ON sync.hold TO zest_alert;
GRANT SELECT (resumed_at) ON sync.connection TO zest_alert;

-- How long a record stands as it does. It was edited long before, perhaps: while hours were closed, or for a later week.
ALTER TABLE sync.pending
    ADD COLUMN turned_at timestamptz NOT NULL DEFAULT clock_timestamp(); -- since when it has this state and waits for that
CREATE FUNCTION sync.note_turn() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.turned_at := clock_timestamp();
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION sync.note_turn() FROM PUBLIC;
CREATE TRIGGER note_turn BEFORE UPDATE ON sync.pending
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.waits_for IS DISTINCT FROM NEW.waits_for)
    EXECUTE FUNCTION sync.note_turn();
GRANT SELECT (turned_at) ON sync.pending TO zest_alert;

-- A hold that is lifted is no occurrence.
CREATE TRIGGER note_unexplained AFTER INSERT OR UPDATE ON sync.hold
    FOR EACH ROW WHEN (NEW.reason = 'unknown' AND NEW.lifted_at IS NULL) EXECUTE FUNCTION sync.note_unexplained();
