-- A field that a partner sends and its format does not have is told once.

CREATE TABLE sync.unknown_field (
    tenant_id text NOT NULL,
    partner   text NOT NULL,
    entity    text NOT NULL CHECK (entity IN ('client', 'staff')),
    field     text NOT NULL, -- its printable name, such as Patient.nickname
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(), -- first
    PRIMARY KEY (tenant_id, partner, entity, field)
);
ALTER TABLE sync.unknown_field ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync.unknown_field FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sync.unknown_field USING (tenant_id = current_setting('app.tenant', true));
GRANT SELECT, INSERT ON sync.unknown_field TO zest_land;
GRANT SELECT ON sync.unknown_field TO zest_operator;
