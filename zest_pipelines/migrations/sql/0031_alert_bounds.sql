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
    ADD COLUMN turned_at timestamptz NOT NULL DEFAULT clock_timestamp(); -- since when it stands like this and waits for that
CREATE FUNCTION sync.note_turn() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.turned_at := clock_timestamp();
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION sync.note_turn() FROM PUBLIC;
-- What is tried again is in doubt at times and is retried at others: it stands alike.
CREATE TRIGGER note_turn BEFORE UPDATE ON sync.pending
    FOR EACH ROW WHEN (replace(OLD.state, 'unknown', 'retry') IS DISTINCT FROM replace(NEW.state, 'unknown', 'retry')
                       OR OLD.waits_for IS DISTINCT FROM NEW.waits_for)
    EXECUTE FUNCTION sync.note_turn();
GRANT SELECT (turned_at) ON sync.pending TO zest_alert;

-- Alerts see what is delivered and suspect, and what came in and was not taken over.
GRANT SELECT (tenant_id, partner, suspect_state, suspect_reason, suspect_since) ON sync.standing TO zest_alert;
GRANT SELECT (tenant_id, partner, entity, partner_id, landed_no, result_no, outcome, reason, params, made_at)
    ON sync.master_result TO zest_alert;
CREATE POLICY alerts_see_all ON sync.standing FOR SELECT TO zest_alert USING (true);
CREATE POLICY alerts_see_all ON sync.master_result FOR SELECT TO zest_alert USING (true);

-- A hold that is lifted is no occurrence.
CREATE TRIGGER note_unexplained AFTER INSERT OR UPDATE ON sync.hold
    FOR EACH ROW WHEN (NEW.reason = 'unknown' AND NEW.lifted_at IS NULL) EXECUTE FUNCTION sync.note_unexplained();
