-- A mass change that a person has looked at: up to so many deletes and changes of a field, for the next application.

CREATE TABLE sync.approval (
    approval_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id   text NOT NULL,
    partner     text NOT NULL,
    entity      text NOT NULL CHECK (entity IN ('client', 'staff')),
    deletes     integer NOT NULL CHECK (deletes >= 0),
    changed     jsonb NOT NULL CHECK (jsonb_typeof(changed) = 'object'), -- records by the field's name
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection,
    CHECK (deletes > 0 OR changed <> '{}')
);
CREATE INDEX approval_of_scope ON sync.approval (tenant_id, partner, entity, approved_at);

-- Each approval is used once, by the application that comes next, whether it needed it or not.
CREATE TABLE sync.approval_use (
    approval_id uuid PRIMARY KEY REFERENCES sync.approval,
    tenant_id   text NOT NULL,
    partner     text NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('let_through', 'exceeded', 'not_needed', 'expired')),
    deletes     integer NOT NULL, -- that were about to be applied
    changed     jsonb NOT NULL,
    used_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['approval', 'approval_use'] LOOP
        EXECUTE format('ALTER TABLE sync.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE sync.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_tenant ON sync.%I
                        USING (tenant_id = current_setting(''app.tenant'', true))', t);
        EXECUTE format('CREATE POLICY scheduler_sees_all ON sync.%I FOR SELECT TO zest_schedule USING (true)', t);
        EXECUTE format('CREATE TRIGGER refuse_rewrite BEFORE UPDATE OR DELETE ON sync.%I
                        FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite()', t);
        EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite()', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_rewrite', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_truncate', t);
    END LOOP;
END $$;

CREATE FUNCTION sync.approve(tenant text, partner text, entity text, deletes integer, changed jsonb) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    PERFORM sync.require_connection(tenant, partner);
    IF entity IS NULL OR entity NOT IN ('client', 'staff') THEN
        RAISE EXCEPTION 'there is no such kind of master: it is client or staff' USING ERRCODE = 'ZT005';
    END IF;
    IF deletes IS NULL OR deletes < 0 OR changed IS NULL OR jsonb_typeof(changed) <> 'object'
       OR (deletes = 0 AND changed = '{}') THEN
        RAISE EXCEPTION 'say how much is approved: a number of deletes, and records by the field''s name'
            USING ERRCODE = 'ZT005';
    END IF;
    INSERT INTO sync.approval AS a (tenant_id, partner, entity, deletes, changed, approved_by)
    VALUES (tenant, approve.partner, approve.entity, approve.deletes, approve.changed, session_user)
    RETURNING a.approval_id INTO made;
    RETURN made;
END $$;

REVOKE EXECUTE ON FUNCTION sync.approve(text, text, text, integer, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.approve(text, text, text, integer, jsonb) TO zest_operator;
GRANT SELECT ON sync.approval, sync.approval_use TO zest_apply, zest_operator;
GRANT INSERT ON sync.approval_use TO zest_apply;
GRANT SELECT (approval_id, tenant_id, partner) ON sync.approval TO zest_schedule; -- who has one to be used
GRANT SELECT (approval_id, tenant_id) ON sync.approval_use TO zest_schedule;
