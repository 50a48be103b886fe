-- A doubt that comes to stand on another row keeps its reason and its time, a changed mapping releases what was parked
-- under the old one, and the scheduler sees no words of a hold.

ALTER TABLE sync.lease ADD COLUMN mapping text; -- version of the mapping that the last push wrote by; NULL: not known
GRANT SELECT (mapping) ON sync.lease TO zest_schedule;
GRANT SELECT (reason) ON sync.pending TO zest_schedule; -- a code of the catalogue

REVOKE SELECT ON sync.hold FROM zest_schedule;
GRANT SELECT (tenant_id, partner, reason, until, noted_at) ON sync.hold TO zest_schedule;

-- A pending record is `unknown` exactly while the call that it is in doubt about is over. What is known of that call was
-- stored with it, whichever version was the newest then.
CREATE OR REPLACE FUNCTION sync.agree_on_doubt(s sync.standing) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    p sync.pending;
    was sync.pending;
BEGIN
    SELECT * INTO p FROM sync.pending q WHERE q.tenant_id = s.tenant_id AND q.partner = s.partner
        AND q.entity = s.entity AND q.record_id = s.record_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    was := p;
    IF s.doubt_is_answered AND p.state <> 'unknown' THEN
        p.state := 'unknown'; p.params := '{}'; p.reason := NULL; p.not_before := NULL;
        SELECT answered.reason, answered.not_before INTO p.reason, p.not_before FROM (
            SELECT r.reason, r.not_before, r.made_at FROM sync.result r
            WHERE r.month = s.doubt_month AND r.tenant_id = s.tenant_id AND r.partner = s.partner
              AND r.entity = s.entity AND r.record_id = s.record_id AND r.version = s.doubt_version
              AND r.intent_id = s.doubt_intent AND r.outcome = 'unknown'
            UNION ALL
            SELECT u.reason, u.not_before, u.made_at FROM sync.repair u
            WHERE u.tenant_id = s.tenant_id AND u.partner = s.partner AND u.entity = s.entity
              AND u.record_id = s.record_id AND u.intent_id = s.doubt_intent AND u.outcome = 'unknown') AS answered
        ORDER BY answered.made_at DESC LIMIT 1;
    ELSIF p.state = 'unknown' AND NOT s.doubt_is_answered THEN
        p.state := 'due'; p.reason := NULL; p.params := '{}'; p.attempts := 0; p.not_before := NULL;
    END IF;
    p.waits_for := CASE WHEN s.doubt_intent IS NULL THEN sync.waits_for(p) END;
    IF (p.state, p.waits_for) IS DISTINCT FROM (was.state, was.waits_for) THEN
        UPDATE sync.pending q SET
            state = p.state, reason = p.reason, params = p.params, attempts = p.attempts, not_before = p.not_before,
            waits_for = p.waits_for
        WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner AND q.entity = p.entity
          AND q.record_id = p.record_id;
    END IF;
END $$;

-- As before, but for how a new row learns of a doubt.
CREATE OR REPLACE FUNCTION sync.project_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    s sync.standing;
    p sync.pending;
BEGIN
    UPDATE sync.pending q SET open = q.open + 1, since = least(q.since, NEW.edited_at)
    WHERE q.tenant_id = NEW.tenant_id AND q.partner = NEW.partner AND q.entity = NEW.entity
      AND q.record_id = NEW.record_id AND q.version > NEW.version;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    p.tenant_id := NEW.tenant_id; p.partner := NEW.partner; p.entity := NEW.entity; p.record_id := NEW.record_id;
    p.version := NEW.version; p.month := NEW.month; p.op := NEW.op; p.client_id := NEW.client_id;
    p.staff_id := NEW.staff_id; p.on_date := NEW.on_date; p.edited_at := NEW.edited_at;
    p.waits_for := sync.waits_for(p);
    INSERT INTO sync.pending AS q (tenant_id, partner, entity, record_id, version, month, op, client_id, staff_id,
                                   on_date, edited_at, since, waits_for, state)
    VALUES (p.tenant_id, p.partner, p.entity, p.record_id, p.version, p.month, p.op, p.client_id, p.staff_id,
            p.on_date, p.edited_at, p.edited_at, p.waits_for, 'due')
    ON CONFLICT (tenant_id, partner, entity, record_id) DO UPDATE SET
        version = excluded.version, month = excluded.month, op = excluded.op, client_id = excluded.client_id,
        staff_id = excluded.staff_id, on_date = excluded.on_date, edited_at = excluded.edited_at,
        since = least(q.since, excluded.since), open = q.open + 1, waits_for = excluded.waits_for,
        state = CASE WHEN q.state = 'unknown' THEN 'unknown' ELSE 'due' END,
        reason = CASE WHEN q.state = 'unknown' THEN q.reason END,
        params = CASE WHEN q.state = 'unknown' THEN q.params ELSE '{}' END,
        attempts = CASE WHEN q.state = 'unknown' THEN q.attempts ELSE 0 END,
        not_before = CASE WHEN q.state = 'unknown' THEN q.not_before END;
    SELECT * INTO s FROM sync.standing t WHERE t.tenant_id = NEW.tenant_id AND t.partner = NEW.partner
        AND t.entity = NEW.entity AND t.record_id = NEW.record_id AND t.doubt_is_answered;
    IF FOUND THEN
        PERFORM sync.agree_on_doubt(s);
    END IF;
    RETURN NULL;
END $$;

-- What is asked for in SQL is answered in sentences.
CREATE FUNCTION sync.check_days() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.from_date IS NULL OR NEW.to_date IS NULL OR NEW.from_date > NEW.to_date THEN
        RAISE EXCEPTION 'give the first and the last of the days to be pushed, the first not after the last'
            USING ERRCODE = 'ZT005';
    END IF;
    IF NEW.from_date < '1900-01-01' OR NEW.to_date > '2200-01-01' THEN
        RAISE EXCEPTION 'days from 1900-01-01 to 2200-01-01 can be pushed: no visit lies outside'
            USING ERRCODE = 'ZT005';
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION sync.check_days() FROM PUBLIC;
CREATE TRIGGER check_days BEFORE INSERT ON sync.push_request FOR EACH ROW EXECUTE FUNCTION sync.check_days();

-- Under an id that is another record's, the next edit would be written over that one. Index: the primary key of standing.
CREATE FUNCTION sync.check_adoption() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT FROM sync.standing s WHERE s.tenant_id = NEW.tenant_id AND s.partner = NEW.partner
               AND s.entity = NEW.entity AND s.partner_id = NEW.partner_id AND s.record_id <> NEW.record_id) THEN
        RAISE EXCEPTION 'under that id the partner has another record of this tenant: look up which one is this record''s, and give that id'
            USING ERRCODE = 'ZT008';
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION sync.check_adoption() FROM PUBLIC;
CREATE TRIGGER check_adoption BEFORE INSERT ON sync.decision
    FOR EACH ROW WHEN (NEW.act = 'adopt') EXECUTE FUNCTION sync.check_adoption();
