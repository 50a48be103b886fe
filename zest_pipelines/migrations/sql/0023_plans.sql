-- What somebody else has planned for a client and month, as each file said it. It is compared with the product's visits,
-- and nothing of it is ever written there.

ALTER TABLE sync.snapshot
    DROP CONSTRAINT snapshot_entity_check,
    ADD CONSTRAINT snapshot_entity_check CHECK (entity IN ('client', 'staff', 'plan'));

CREATE TABLE sync.landed_plan (
    tenant_id   text NOT NULL,
    partner     text NOT NULL,
    month       date NOT NULL CHECK (extract(day FROM month) = 1),
    partner_id  text NOT NULL, -- the client's at the partner
    landed_no   bigint NOT NULL DEFAULT nextval('sync.landed_no'), -- plan:N in checks; the greatest one stands
    snapshot_id uuid NOT NULL REFERENCES sync.snapshot,
    said_at     text NOT NULL, -- when the partner said it, the later the greater: an earlier one lands no more
    fingerprint bytea NOT NULL,
    services    jsonb, -- day, service_code, starts, ends, count of each; NULL: it was taken back
    problems    jsonb NOT NULL DEFAULT '[]', -- lines that could not be taken: reason and params
    landed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, partner, month, partner_id, landed_no)
);
ALTER TABLE sync.landed_plan ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync.landed_plan FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sync.landed_plan USING (tenant_id = current_setting('app.tenant', true));

CREATE TRIGGER refuse_rewrite BEFORE UPDATE OR DELETE ON sync.landed_plan
    FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.landed_plan
    FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite();
ALTER TABLE sync.landed_plan ENABLE ALWAYS TRIGGER refuse_rewrite, ENABLE ALWAYS TRIGGER refuse_truncate;

CREATE INDEX visit_confirmed ON schedule.visit (tenant_id, starts_at) WHERE status = 'confirmed';

GRANT SELECT, INSERT ON sync.landed_plan TO zest_land;
GRANT SELECT ON sync.landed_plan TO zest_operator;
-- Who compares sees of visits what is compared, and cannot write them.
GRANT SELECT ON sync.landed_plan TO zest_diff;
GRANT SELECT (tenant_id, partner, entity, partner_id, record_id, valid_to) ON sync.identity TO zest_diff;
GRANT SELECT (tenant_id, visit_id, client_id, starts_at, ends_at, service_code, status) ON schedule.visit TO zest_diff;
