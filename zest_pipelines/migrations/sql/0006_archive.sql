-- A settled month of history is put away: its four partitions are detached and moved to the schema `archive`, where an
-- operator can read them, tenant by tenant. What the records stand at is in sync.standing (docs/adr/0013).

CREATE SCHEMA archive;
GRANT USAGE ON SCHEMA archive TO zest_migrator, zest_operator;

-- The migrator archives. Whether a month is settled he has to see for all tenants at once, and nothing else of them.
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['connection', 'event_cursor', 'update_event', 'change', 'pending', 'standing'] LOOP
        EXECUTE format('CREATE POLICY archivist_sees_all ON sync.%I FOR SELECT TO zest_migrator USING (true)', t);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA sync TO zest_migrator;
GRANT SELECT (tenant_id, partner) ON sync.connection TO zest_migrator;
GRANT SELECT (tenant_id, partner, xid, event_id, system_id) ON sync.event_cursor TO zest_migrator;
GRANT SELECT (tenant_id, month, xid, event_id) ON sync.update_event TO zest_migrator;
GRANT SELECT (tenant_id, month, on_date) ON sync.change TO zest_migrator;
GRANT SELECT (tenant_id, month, open, since) ON sync.pending TO zest_migrator;
GRANT SELECT (tenant_id, delivered_month, open_intents, doubt_month, suspect_state) ON sync.standing TO zest_migrator;

-- Keeps everybody out of history until the transaction ends, so that what is then seen of the month stays so. False: it is
-- in use. Whoever comes meanwhile waits behind us, so we wait for a moment only, and less than a deadlock takes to show.
CREATE FUNCTION sync.lock_history(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '100ms' AS $$
DECLARE parent text;
BEGIN
    LOCK TABLE ONLY sync.update_event, ONLY sync.change, ONLY sync.intent, ONLY sync.result IN ACCESS EXCLUSIVE MODE;
    FOREACH parent IN ARRAY ARRAY['update_event', 'change', 'intent', 'result'] LOOP
        EXECUTE format('LOCK TABLE sync.%I, sync.%I IN ACCESS EXCLUSIVE MODE',
                       parent || '_default', parent || to_char(month, '_YYYY_MM'));
    END LOOP;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Puts the month's tables away and returns their names. They lose the triggers of their parents.
CREATE FUNCTION sync.archive_month(month date) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    parent text;
    part text;
    parts text[] := '{}';
BEGIN
    FOREACH parent IN ARRAY ARRAY['update_event', 'change', 'intent', 'result'] LOOP
        part := parent || to_char(month, '_YYYY_MM');
        EXECUTE format('ALTER TABLE sync.%I DETACH PARTITION sync.%I', parent, part);
        EXECUTE format('ALTER TABLE sync.%I SET SCHEMA archive', part);
        EXECUTE format('CREATE POLICY own_tenant ON archive.%I
                        USING (tenant_id = current_setting(''app.tenant'', true))', part);
        EXECUTE format('CREATE TRIGGER refuse_rewrite BEFORE INSERT OR UPDATE OR DELETE ON archive.%I
                        FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite()', part);
        EXECUTE format('ALTER TABLE archive.%I ENABLE ALWAYS TRIGGER refuse_rewrite', part);
        EXECUTE format('GRANT SELECT ON archive.%I TO zest_operator', part);
        parts := parts || part;
    END LOOP;
    RETURN parts;
END $$;

REVOKE EXECUTE ON FUNCTION sync.lock_history(date), sync.archive_month(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.lock_history(date), sync.archive_month(date) TO zest_migrator;
