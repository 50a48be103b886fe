-- Another try of what was stopped, asked for by a person; and indexes for what is asked by day and by state.

-- A period's records. On the parent, so that the months to come have it too.
CREATE INDEX change_of_day ON sync.change (tenant_id, partner, on_date);

-- What a request for another try can release: the scheduler looks for it across all tenants.
CREATE INDEX pending_stopped ON sync.pending (partner, tenant_id) WHERE state IN ('parked', 'conflict', 'retry');

-- What cannot become a master: each reading says what of it still stands.
CREATE INDEX landed_version_unmappable ON sync.landed_version (tenant_id, partner, entity, partner_id, landed_no)
    WHERE problem IS NOT NULL;

CREATE TABLE sync.retry_request (
    request_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    text NOT NULL,
    partner      text NOT NULL,
    entity       text CHECK (entity IN ('visit', 'visit_record')), -- NULL: of every kind
    record_id    uuid, -- NULL: every record. A visit and its record have one id
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection
);
CREATE INDEX retry_request_of_connection ON sync.retry_request (tenant_id, partner, requested_at);

ALTER TABLE sync.retry_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync.retry_request FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sync.retry_request USING (tenant_id = current_setting('app.tenant', true));
CREATE POLICY scheduler_sees_all ON sync.retry_request FOR SELECT TO zest_schedule USING (true);

CREATE TRIGGER refuse_rewrite BEFORE UPDATE OR DELETE ON sync.retry_request
    FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.retry_request
    FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite();
ALTER TABLE sync.retry_request ENABLE ALWAYS TRIGGER refuse_rewrite;
ALTER TABLE sync.retry_request ENABLE ALWAYS TRIGGER refuse_truncate;

-- The user's own button: "send it again" (再送). Nothing named: all that is stopped at the connection.
CREATE FUNCTION sync.request_retry(tenant text, partner text, entity text DEFAULT NULL, record_id uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    IF tenant IS DISTINCT FROM current_setting('app.tenant', true) THEN
        RAISE EXCEPTION 'the tenant asked for is not the one set in this transaction: run SELECT set_config(''app.tenant'', ''<tenant id>'', true) first'
            USING ERRCODE = 'ZT001';
    END IF;
    IF NOT EXISTS (SELECT FROM sync.connection c WHERE c.tenant_id = tenant AND c.partner = request_retry.partner) THEN
        RAISE EXCEPTION 'this tenant has no connection to that partner: an operator makes one with zest connect'
            USING ERRCODE = 'ZT004';
    END IF;
    IF entity NOT IN ('visit', 'visit_record') THEN
        RAISE EXCEPTION 'there is no such kind of record: it is visit or visit_record, or NULL for both'
            USING ERRCODE = 'ZT005';
    END IF;
    IF record_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM sync.change c WHERE c.tenant_id = tenant AND c.partner = request_retry.partner
          AND c.entity = coalesce(request_retry.entity, c.entity) AND c.record_id = request_retry.record_id) THEN
        RAISE EXCEPTION 'nothing of this record was ever to be sent to that partner: look its kind and id up in sync.badge'
            USING ERRCODE = 'ZT006';
    END IF;
    INSERT INTO sync.retry_request AS r (tenant_id, partner, entity, record_id, requested_by)
    VALUES (tenant, request_retry.partner, request_retry.entity, request_retry.record_id, session_user)
    RETURNING r.request_id INTO made;
    RETURN made;
END $$;

REVOKE EXECUTE ON FUNCTION sync.request_retry(text, text, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.request_retry(text, text, text, uuid) TO zest_product, zest_operator;
GRANT SELECT ON sync.retry_request TO zest_push, zest_operator;

-- Who has a request that nobody has served: its record's last result is older. The month finds the partition.
GRANT SELECT (tenant_id, partner, entity, record_id, requested_at) ON sync.retry_request TO zest_schedule;
GRANT SELECT (month) ON sync.pending TO zest_schedule;
GRANT SELECT (month, made_at) ON sync.result TO zest_schedule;

-- Whose connection is held: its last answer, and what speaks against that it still stands.
GRANT SELECT (reason) ON sync.result TO zest_schedule;
GRANT SELECT (changed_at) ON sync.connection TO zest_schedule;
GRANT SELECT (tenant_id, partner, changed_at) ON sync.credential TO zest_schedule;
CREATE POLICY scheduler_sees_all ON sync.credential FOR SELECT TO zest_schedule USING (true);
