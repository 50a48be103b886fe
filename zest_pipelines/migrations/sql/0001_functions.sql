-- What the database does by itself: versions and update events, append-only history, the pending projection, months.
-- All of it is owned by zest_owner, which nobody logs in as and which row-level security binds too.

-- Months --------------------------------------------------------------------------------------------------------------

-- A partition is reached through its parent only: nobody is granted it, and its own row-level security lets nothing
-- through. Triggers of rows are the parent's; one of statements is not handed down.
CREATE FUNCTION sync.make_partition(parent text, part text, bounds text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF to_regclass(format('sync.%I', part)) IS NULL THEN
        EXECUTE format('CREATE TABLE sync.%I PARTITION OF sync.%I %s', part, parent, bounds);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE sync.%I FORCE ROW LEVEL SECURITY', part);
        EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite()', part);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_truncate', part);
    END IF;
EXCEPTION WHEN check_violation THEN
    NULL; -- the month was not prepared in time: its rows are in the default partition, and it stays there
END $$;

-- Makes the partitions of the history tables from `first` on; safe to repeat. What comes outside of them lands in the
-- default partition, so nothing is ever refused for want of one.
CREATE FUNCTION sync.make_months(first date, months integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    parent text;
    start date;
BEGIN
    FOREACH parent IN ARRAY ARRAY['update_event', 'change', 'intent', 'result'] LOOP
        PERFORM sync.make_partition(parent, parent || '_default', 'DEFAULT');
        FOR start IN SELECT (date_trunc('month', first) + make_interval(months => n))::date
                     FROM generate_series(0, months - 1) AS n LOOP
            PERFORM sync.make_partition(
                parent, format('%s_%s', parent, to_char(start, 'YYYY_MM')),
                format('FOR VALUES FROM (%L) TO (%L)', start, (start + interval '1 month')::date));
        END LOOP;
    END LOOP;
END $$;

-- The product's edits ---------------------------------------------------------------------------------------------------

-- A statement trigger, since row-level security would make the rows of no tenant silently invisible.
CREATE FUNCTION sync.require_tenant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF coalesce(current_setting('app.tenant', true), '') = '' THEN
        RAISE EXCEPTION 'no tenant is set in this transaction: run SELECT set_config(''app.tenant'', ''<tenant id>'', true) first'
            USING ERRCODE = 'ZT001';
    END IF;
    RETURN NULL;
END $$;

-- Versions of one record rise in the order of its commits: the row's lock, and for a row that is not there yet or no
-- longer a lock on its id, is held from the drawing of the version to the commit.
CREATE FUNCTION sync.raise_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    row_before jsonb := to_jsonb(OLD);
    row_after jsonb := to_jsonb(NEW);
    entity_name text := TG_TABLE_NAME;
BEGIN
    -- First the row, then its id, in every order of events: an upsert beside a delete would deadlock otherwise.
    IF TG_OP = 'INSERT' AND entity_name = 'visit' THEN
        PERFORM FROM schedule.visit v WHERE v.tenant_id = NEW.tenant_id AND v.visit_id = NEW.visit_id FOR UPDATE;
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM FROM schedule.visit_record r WHERE r.tenant_id = NEW.tenant_id AND r.visit_id = NEW.visit_id FOR UPDATE;
    END IF;
    IF TG_OP <> 'UPDATE' THEN -- an update holds the row's lock already
        PERFORM pg_advisory_xact_lock(hashtextextended(
            concat_ws(' ', entity_name, coalesce(row_after, row_before) ->> 'tenant_id',
                      coalesce(row_after, row_before) ->> 'visit_id'), 0));
    END IF;
    IF TG_OP <> 'DELETE' AND entity_name = 'visit_record' THEN
        IF TG_OP = 'INSERT' THEN -- a change of the visit's people that is under way would not see this row
            PERFORM FROM schedule.visit v WHERE v.tenant_id = NEW.tenant_id AND v.visit_id = NEW.visit_id FOR SHARE;
        END IF;
        SELECT v.client_id, v.staff_id INTO NEW.client_id, NEW.staff_id
        FROM schedule.visit v WHERE v.tenant_id = NEW.tenant_id AND v.visit_id = NEW.visit_id;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSIF TG_OP = 'INSERT' THEN
        NEW.version := 1 + coalesce((SELECT t.version FROM sync.tombstone t WHERE t.tenant_id = NEW.tenant_id
            AND t.entity = entity_name AND t.record_id = NEW.visit_id), 0);
    ELSE
        IF (OLD.tenant_id, OLD.visit_id) IS DISTINCT FROM (NEW.tenant_id, NEW.visit_id) THEN
            RAISE EXCEPTION 'the key of a % cannot be changed: delete it and insert another', entity_name
                USING ERRCODE = 'ZT002';
        END IF;
        NEW.version := OLD.version;
        IF NEW IS DISTINCT FROM OLD THEN
            NEW.version := OLD.version + 1;
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION sync.write_update_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    image jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
    new_version bigint := (image ->> 'version')::bigint + CASE WHEN TG_OP = 'DELETE' THEN 1 ELSE 0 END;
    moment timestamptz := clock_timestamp();
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.version = OLD.version THEN
        RETURN NULL; -- nothing was changed
    END IF;
    IF TG_OP = 'DELETE' THEN
        INSERT INTO sync.tombstone AS t (tenant_id, entity, record_id, version)
        VALUES (OLD.tenant_id, TG_TABLE_NAME, OLD.visit_id, new_version)
        ON CONFLICT (tenant_id, entity, record_id) DO UPDATE SET version = excluded.version;
    END IF;
    IF TG_TABLE_NAME = 'visit_record' THEN
        image := image || jsonb_build_object('visit_starts_at', coalesce(
            (SELECT to_jsonb(v.starts_at) FROM schedule.visit v
             WHERE v.tenant_id = image ->> 'tenant_id' AND v.visit_id = (image ->> 'visit_id')::uuid),
            (SELECT e.image -> 'visit_starts_at' FROM sync.update_event e -- one statement deleted the visit as well
             WHERE e.tenant_id = OLD.tenant_id AND e.entity = 'visit_record' AND e.record_id = OLD.visit_id
             ORDER BY e.version DESC LIMIT 1)));
    END IF;
    INSERT INTO sync.update_event (month, tenant_id, entity, record_id, version, op, image, at)
    VALUES (date_trunc('month', moment AT TIME ZONE 'UTC')::date, image ->> 'tenant_id', TG_TABLE_NAME,
            (image ->> 'visit_id')::uuid, new_version, lower(TG_OP), image, moment);
    IF TG_TABLE_NAME = 'visit' AND TG_OP = 'UPDATE' THEN
        UPDATE schedule.visit_record r SET client_id = NULL -- the trigger before it puts the visit's people in
        WHERE r.tenant_id = NEW.tenant_id AND r.visit_id = NEW.visit_id
          AND (r.client_id, r.staff_id) IS DISTINCT FROM
              ((image ->> 'client_id')::uuid, (image ->> 'staff_id')::uuid);
    END IF;
    RETURN NULL;
END $$;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['visit', 'visit_record'] LOOP
        EXECUTE format('CREATE TRIGGER a_require_tenant BEFORE INSERT OR UPDATE OR DELETE ON schedule.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION sync.require_tenant()', t);
        EXECUTE format('CREATE TRIGGER b_raise_version BEFORE INSERT OR UPDATE OR DELETE ON schedule.%I
                        FOR EACH ROW EXECUTE FUNCTION sync.raise_version()', t);
        EXECUTE format('CREATE TRIGGER c_write_update_event AFTER INSERT OR UPDATE OR DELETE ON schedule.%I
                        FOR EACH ROW EXECUTE FUNCTION sync.write_update_event()', t);
        EXECUTE format('ALTER TABLE schedule.%I ENABLE ALWAYS TRIGGER a_require_tenant', t);
        EXECUTE format('ALTER TABLE schedule.%I ENABLE ALWAYS TRIGGER b_raise_version', t);
        EXECUTE format('ALTER TABLE schedule.%I ENABLE ALWAYS TRIGGER c_write_update_event', t);
    END LOOP;
END $$;

-- Masters carry a version too, for the product's own caches; they are not events.
CREATE FUNCTION sync.raise_master_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.version := OLD.version;
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER raise_master_version BEFORE UPDATE ON schedule.client
    FOR EACH ROW EXECUTE FUNCTION sync.raise_master_version();
CREATE TRIGGER raise_master_version BEFORE UPDATE ON schedule.staff
    FOR EACH ROW EXECUTE FUNCTION sync.raise_master_version();

-- History is append only ------------------------------------------------------------------------------------------------

CREATE FUNCTION sync.refuse_rewrite() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION '%.% is history: it can be added to, not changed', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'ZT003';
END $$;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['landed_version', 'master_change', 'master_result', 'update_event', 'change', 'intent',
                             'result', 'push_request', 'audit'] LOOP
        EXECUTE format('CREATE TRIGGER refuse_rewrite BEFORE UPDATE OR DELETE ON sync.%I
                        FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite()', t);
        EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite()', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_rewrite', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_truncate', t);
    END LOOP;
END $$;

-- The pending projection --------------------------------------------------------------------------------------------------

-- A change comes: it is what is pending unless a newer one is. An older one that comes late is settled with that newer
-- one; if the newer one is settled already, the late one stands here until push settles it as superseded (it compares
-- with the last terminal version before it sends). A record in doubt stays in doubt: it must be read back first.
CREATE FUNCTION sync.project_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO sync.pending AS p (tenant_id, partner, entity, record_id, version, month, op, client_id, staff_id,
                                   on_date, edited_at, since)
    VALUES (NEW.tenant_id, NEW.partner, NEW.entity, NEW.record_id, NEW.version, NEW.month, NEW.op, NEW.client_id,
            NEW.staff_id, NEW.on_date, NEW.edited_at, NEW.edited_at)
    ON CONFLICT (tenant_id, partner, entity, record_id) DO UPDATE SET
        version = excluded.version, month = excluded.month, op = excluded.op, client_id = excluded.client_id,
        staff_id = excluded.staff_id, on_date = excluded.on_date, edited_at = excluded.edited_at,
        since = least(p.since, excluded.since),
        state = CASE WHEN p.state = 'unknown' THEN 'unknown' ELSE 'due' END,
        reason = CASE WHEN p.state = 'unknown' THEN p.reason END,
        params = CASE WHEN p.state = 'unknown' THEN p.params ELSE '{}' END,
        attempts = CASE WHEN p.state = 'unknown' THEN p.attempts ELSE 0 END,
        not_before = CASE WHEN p.state = 'unknown' THEN p.not_before END
    WHERE p.version < excluded.version;
    RETURN NULL;
END $$;
CREATE TRIGGER project_change AFTER INSERT ON sync.change
    FOR EACH ROW EXECUTE FUNCTION sync.project_change();

-- A result comes: a terminal one takes its own version away and no other; an open one says how that version stands.
CREATE FUNCTION sync.project_result() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.outcome = 'unknown' THEN
        PERFORM FROM sync.pending p WHERE p.tenant_id = NEW.tenant_id AND p.partner = NEW.partner
            AND p.entity = NEW.entity AND p.record_id = NEW.record_id FOR UPDATE;
        IF EXISTS (SELECT FROM sync.result r WHERE r.month = NEW.month AND r.intent_id = NEW.intent_id
                   AND r.outcome <> 'unknown') THEN
            RETURN NULL; -- somebody has read it back since: there is no doubt
        END IF;
    END IF;
    IF NEW.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned') THEN
        DELETE FROM sync.pending p
        WHERE p.tenant_id = NEW.tenant_id AND p.partner = NEW.partner AND p.entity = NEW.entity
          AND p.record_id = NEW.record_id AND p.version = NEW.version;
    ELSE
        UPDATE sync.pending p SET
            state = CASE NEW.outcome WHEN 'released' THEN 'due' ELSE NEW.outcome END,
            reason = CASE WHEN NEW.outcome <> 'released' THEN NEW.reason END,
            params = CASE WHEN NEW.outcome <> 'released' THEN NEW.params ELSE '{}' END,
            attempts = CASE WHEN NEW.outcome = 'released' THEN 0 ELSE p.attempts + 1 END,
            not_before = NEW.not_before
        WHERE p.tenant_id = NEW.tenant_id AND p.partner = NEW.partner AND p.entity = NEW.entity
          AND p.record_id = NEW.record_id
          -- Doubt about an older version's sending is doubt about the record, whatever is newest.
          AND (p.version = NEW.version OR (p.version > NEW.version AND NEW.outcome = 'unknown'));
    END IF;
    -- The doubt about an older version's sending is over, so a newer one that inherited it may go.
    IF NEW.intent_id IS NOT NULL AND NEW.outcome <> 'unknown' THEN
        UPDATE sync.pending p SET state = 'due', reason = NULL, params = '{}', attempts = 0, not_before = NULL
        WHERE p.tenant_id = NEW.tenant_id AND p.partner = NEW.partner AND p.entity = NEW.entity
          AND p.record_id = NEW.record_id AND p.version > NEW.version AND p.state = 'unknown';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER project_result AFTER INSERT ON sync.result
    FOR EACH ROW EXECUTE FUNCTION sync.project_result();

DO $$
BEGIN
    ALTER TABLE sync.change ENABLE ALWAYS TRIGGER project_change;
    ALTER TABLE sync.result ENABLE ALWAYS TRIGGER project_result;
END $$;

-- Requests and the audit log -----------------------------------------------------------------------------------------------

-- The user's own button: "push these days now" (ユーザーが明示的に行う連携). Both dates are inclusive.
CREATE FUNCTION sync.request_push(tenant text, partner text, from_date date, to_date date) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    IF tenant IS DISTINCT FROM current_setting('app.tenant', true) THEN
        RAISE EXCEPTION 'the tenant asked for is not the one set in this transaction: run SELECT set_config(''app.tenant'', ''<tenant id>'', true) first'
            USING ERRCODE = 'ZT001';
    END IF;
    IF NOT EXISTS (SELECT FROM sync.connection c WHERE c.tenant_id = tenant AND c.partner = request_push.partner) THEN
        RAISE EXCEPTION 'this tenant has no connection to that partner: an operator makes one with zest connect'
            USING ERRCODE = 'ZT004';
    END IF;
    INSERT INTO sync.push_request AS r (tenant_id, partner, from_date, to_date, requested_by)
    VALUES (tenant, request_push.partner, request_push.from_date, request_push.to_date, session_user)
    RETURNING r.request_id INTO made;
    RETURN made;
END $$;

CREATE FUNCTION sync.write_audit(tenant text, act text, subject text, detail jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    INSERT INTO sync.audit (tenant_id, actor, act, subject, detail) VALUES (tenant, session_user, act, subject, detail)
$$;
