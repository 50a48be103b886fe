-- Who may do what: each table has one writer. tests/integration/grants.yaml holds the same as a matrix, and a test
-- compares it with what the server really grants.

-- Row-level security: every login sees the tenant that its transaction names, and no other.
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY[
        'schedule.tenant', 'schedule.client', 'schedule.staff', 'schedule.visit', 'schedule.visit_record',
        'sync.connection', 'sync.credential', 'sync.snapshot', 'sync.landed_version', 'sync.master_change',
        'sync.master_result', 'sync.identity', 'sync.update_event', 'sync.tombstone', 'sync.event_cursor',
        'sync.change', 'sync.intent', 'sync.result', 'sync.pending', 'sync.lease', 'sync.push_request', 'sync.audit'
    ] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_tenant ON %s USING (tenant_id = current_setting(''app.tenant'', true))', t);
    END LOOP;
END $$;

-- The scheduler alone looks across tenants, and only at opaque columns that say who is due.
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY[
        'schedule.tenant', 'sync.connection', 'sync.snapshot', 'sync.master_change', 'sync.master_result',
        'sync.update_event', 'sync.event_cursor', 'sync.pending', 'sync.lease', 'sync.push_request', 'sync.identity',
        'sync.result'
    ] LOOP
        EXECUTE format('CREATE POLICY scheduler_sees_all ON %s FOR SELECT TO zest_schedule USING (true)', t);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA schedule, sync TO zest_schedule;
GRANT SELECT (tenant_id) ON schedule.tenant TO zest_schedule;
GRANT SELECT (tenant_id, partner, timing, land_every, paused_at) ON sync.connection TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, state, started_at, finished_at) ON sync.snapshot TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, partner_id, landed_no) ON sync.master_change TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, partner_id, landed_no, outcome) ON sync.master_result TO zest_schedule;
GRANT SELECT (tenant_id, xid, event_id, entity) ON sync.update_event TO zest_schedule;
GRANT SELECT ON sync.event_cursor TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, record_id, version, op, client_id, staff_id, on_date, state, not_before,
              edited_at, since) ON sync.pending TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, record_id, partner_id, valid_to) ON sync.identity TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, record_id, version, result_no, outcome, partner_id, is_cancelled)
    ON sync.result TO zest_schedule;
GRANT SELECT (tenant_id, partner, holder, until) ON sync.lease TO zest_schedule;
GRANT SELECT (tenant_id, partner, from_date, to_date, requested_at) ON sync.push_request TO zest_schedule;

-- The product.
GRANT USAGE ON SCHEMA schedule, sync TO zest_product;
GRANT SELECT ON schedule.tenant, schedule.client, schedule.staff TO zest_product;
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule.visit, schedule.visit_record TO zest_product;
GRANT SELECT ON sync.badge, sync.delivery, sync.connection_health, sync.reason TO zest_product;

-- Operators: settings, and a look at everything of one tenant but its credentials' text.
GRANT USAGE ON SCHEMA schedule, sync TO zest_operator;
GRANT SELECT ON ALL TABLES IN SCHEMA schedule, sync TO zest_operator;
REVOKE SELECT ON sync.credential FROM zest_operator;
GRANT SELECT (tenant_id, partner, changed_at) ON sync.credential TO zest_operator;
GRANT INSERT, UPDATE ON schedule.tenant, sync.connection, sync.credential TO zest_operator;

-- The way in.
GRANT USAGE ON SCHEMA schedule, sync TO zest_land, zest_diff, zest_apply;
GRANT SELECT ON sync.connection, sync.credential, sync.snapshot, sync.landed_version TO zest_land;
GRANT INSERT, UPDATE ON sync.snapshot TO zest_land;
GRANT INSERT ON sync.landed_version TO zest_land;
GRANT USAGE ON SEQUENCE sync.landed_no TO zest_land;
GRANT SELECT ON sync.landed_version, sync.master_change, sync.master_result TO zest_diff;
GRANT INSERT ON sync.master_change TO zest_diff;
GRANT SELECT ON sync.master_change, sync.master_result, sync.identity, schedule.client, schedule.staff TO zest_apply;
GRANT INSERT ON sync.master_result TO zest_apply;
GRANT INSERT, UPDATE ON sync.identity, schedule.client, schedule.staff TO zest_apply;
GRANT USAGE ON SEQUENCE sync.master_result_no TO zest_apply;

-- The way out.
GRANT USAGE ON SCHEMA schedule, sync TO zest_accumulate, zest_push;
GRANT SELECT ON schedule.tenant, sync.connection, sync.update_event, sync.change, sync.event_cursor TO zest_accumulate;
GRANT INSERT ON sync.change TO zest_accumulate;
GRANT INSERT, UPDATE ON sync.event_cursor TO zest_accumulate;
GRANT SELECT ON sync.connection, sync.credential, sync.change, sync.intent, sync.result, sync.pending, sync.identity,
    sync.push_request, sync.lease, sync.snapshot TO zest_push;
GRANT INSERT ON sync.intent, sync.result TO zest_push;
GRANT INSERT, UPDATE ON sync.lease TO zest_push;
GRANT USAGE ON SEQUENCE sync.result_no TO zest_push;

-- The ledger.
GRANT USAGE ON SCHEMA sync TO zest_budget;
GRANT SELECT, INSERT, UPDATE ON sync.budget TO zest_budget;

-- Functions: nobody may run one that is not named here.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sync FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.request_push(text, text, date, date) TO zest_product, zest_operator;
GRANT EXECUTE ON FUNCTION sync.write_audit(text, text, text, jsonb) TO zest_operator;
GRANT EXECUTE ON FUNCTION sync.make_months(date, integer) TO zest_operator;
SELECT sync.make_months(current_date, 14);
