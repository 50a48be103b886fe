-- What was overwritten is kept. The end of a look answers the suspicions that came before it, and no later one; a person
-- can have a suspect looked at again, or say that it is right.

DO $$
DECLARE name text;
BEGIN
    SELECT c.conname INTO STRICT name FROM pg_constraint c
    WHERE c.conrelid = 'sync.result'::regclass AND c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE '%theirs%';
    EXECUTE format('ALTER TABLE sync.result DROP CONSTRAINT %I', name);
END $$;
-- Of a conflict, or of a change that the policy decided against: what the partner held, by field.
ALTER TABLE sync.result ADD CONSTRAINT result_theirs CHECK (
    theirs IS NULL OR outcome = 'conflict' OR reason IS NOT DISTINCT FROM 'overwriting_partner_change');

ALTER TABLE sync.repair ADD COLUMN looked_at timestamptz; -- of an end without a write: since when it was looked at

-- What a late sender did, it did before it was suspected. So whatever was read, or written, from `until` on answers the
-- suspicions up to then, and none that came later.
CREATE FUNCTION sync.answer_suspicions(s sync.standing, until timestamptz) RETURNS sync.standing
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF s.suspect_since <= until THEN
        SELECT min(u.made_at) INTO s.suspect_since FROM sync.repair u
        WHERE u.tenant_id = s.tenant_id AND u.partner = s.partner AND u.entity = s.entity AND u.record_id = s.record_id
          AND u.outcome = 'suspected' AND u.made_at > until;
    END IF;
    IF s.suspect_since IS NULL THEN
        s.suspect_state := NULL; s.suspect_reason := NULL; s.suspect_not_before := NULL; s.suspect_attempts := 0;
    END IF;
    RETURN s;
END $$;
REVOKE EXECUTE ON FUNCTION sync.answer_suspicions(sync.standing, timestamptz) FROM PUBLIC;

-- As before, but for what it says of suspicions.
CREATE OR REPLACE FUNCTION sync.project_result() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    is_end boolean := NEW.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned');
    is_delivered boolean := NEW.outcome IN ('delivered', 'delivered_with_warning');
    s sync.standing := sync.standing_of(NEW.tenant_id, NEW.partner, NEW.entity, NEW.record_id);
    p sync.pending;
    sent sync.intent;
    older sync.change;
BEGIN
    SELECT * INTO sent FROM sync.intent i WHERE i.month = NEW.month AND i.intent_id = NEW.intent_id;
    SELECT * INTO p FROM sync.pending q WHERE q.tenant_id = NEW.tenant_id AND q.partner = NEW.partner
        AND q.entity = NEW.entity AND q.record_id = NEW.record_id;
    IF is_end AND NEW.version > s.version THEN
        s.version := NEW.version; s.outcome := NEW.outcome; s.reason := NEW.reason; s.params := NEW.params;
        s.on_date := CASE WHEN NEW.version = p.version THEN p.on_date ELSE (
            SELECT c.on_date FROM sync.change c WHERE c.month = NEW.month AND c.tenant_id = NEW.tenant_id
              AND c.partner = NEW.partner AND c.entity = NEW.entity AND c.record_id = NEW.record_id
              AND c.version = NEW.version) END;
    END IF;
    IF is_delivered AND NEW.version > s.delivered_version THEN
        s.delivered_version := NEW.version; s.delivered_month := NEW.month; s.is_cancelled := NEW.is_cancelled;
        -- Whatever a late sender did before it was sent, this has written over it.
        s := sync.answer_suspicions(s, coalesce(sent.made_at, NEW.made_at));
    END IF;
    IF NEW.partner_id IS NOT NULL AND NEW.version >= s.known_version THEN
        s.known_version := NEW.version; s.partner_id := NEW.partner_id; s.partner_version := NEW.partner_version;
        s.links := coalesce(sent.links, s.links);
    END IF;
    IF sent.intent_id IS NOT NULL AND NEW.outcome <> 'unknown' THEN
        s := sync.without_intent(s, sent.intent_id);
    ELSIF s.doubt_intent = sent.intent_id THEN
        s.doubt_is_answered := true;
    END IF;
    PERFORM sync.put_standing(s);

    IF p.version IS NULL THEN
        RETURN NULL; -- nothing of the record is open
    END IF;
    IF is_end AND NEW.version = p.version THEN
        IF p.open > 1 THEN
            SELECT * INTO older FROM sync.change c
            WHERE c.tenant_id = NEW.tenant_id AND c.partner = NEW.partner AND c.entity = NEW.entity
              AND c.record_id = NEW.record_id AND c.version < NEW.version AND NOT EXISTS (
                  SELECT FROM sync.result r WHERE r.month = c.month AND r.tenant_id = c.tenant_id
                    AND r.partner = c.partner AND r.entity = c.entity AND r.record_id = c.record_id
                    AND r.version = c.version AND r.outcome IN
                    ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned'))
            ORDER BY c.version DESC LIMIT 1;
        END IF;
        IF older.version IS NULL THEN
            DELETE FROM sync.pending q WHERE q.tenant_id = NEW.tenant_id AND q.partner = NEW.partner
                AND q.entity = NEW.entity AND q.record_id = NEW.record_id AND q.version = NEW.version;
            RETURN NULL;
        END IF;
        -- One that push has not settled yet: it is not forgotten.
        UPDATE sync.pending q SET
            version = older.version, month = older.month, op = older.op, client_id = older.client_id,
            staff_id = older.staff_id, on_date = older.on_date, edited_at = older.edited_at, state = 'due',
            reason = NULL, params = '{}', attempts = 0, not_before = NULL, open = q.open - 1
        WHERE q.tenant_id = NEW.tenant_id AND q.partner = NEW.partner AND q.entity = NEW.entity
          AND q.record_id = NEW.record_id;
    ELSIF is_end AND NEW.version < p.version THEN
        UPDATE sync.pending q SET open = q.open - 1, since = CASE q.open WHEN 2 THEN q.edited_at ELSE q.since END
        WHERE q.tenant_id = NEW.tenant_id AND q.partner = NEW.partner AND q.entity = NEW.entity
          AND q.record_id = NEW.record_id;
    ELSIF NOT is_end AND ((NEW.outcome <> 'unknown' AND NEW.version = p.version)
                          OR (NEW.outcome = 'unknown' AND NEW.intent_id = s.doubt_intent)) THEN
        -- Doubt about an older version's sending is doubt about the record, whatever is newest.
        UPDATE sync.pending q SET
            state = CASE NEW.outcome WHEN 'released' THEN 'due' ELSE NEW.outcome END,
            reason = CASE WHEN NEW.outcome <> 'released' THEN NEW.reason END,
            params = CASE WHEN NEW.outcome <> 'released' THEN NEW.params ELSE '{}' END,
            attempts = CASE WHEN NEW.outcome = 'released' THEN 0 ELSE q.attempts + 1 END,
            not_before = NEW.not_before
        WHERE q.tenant_id = NEW.tenant_id AND q.partner = NEW.partner AND q.entity = NEW.entity
          AND q.record_id = NEW.record_id;
    END IF;
    PERFORM sync.agree_on_doubt(s);
    RETURN NULL;
END $$;

-- As before, but for what it says of suspicions.
CREATE OR REPLACE FUNCTION sync.project_repair() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    s sync.standing := sync.standing_of(NEW.tenant_id, NEW.partner, NEW.entity, NEW.record_id);
    sent sync.intent;
BEGIN
    SELECT * INTO sent FROM sync.intent i
    WHERE i.tenant_id = NEW.tenant_id AND i.partner = NEW.partner AND i.entity = NEW.entity
      AND i.record_id = NEW.record_id AND i.intent_id = NEW.intent_id;
    IF NEW.partner_id IS NOT NULL AND NEW.version >= s.known_version THEN
        s.known_version := NEW.version; s.partner_id := NEW.partner_id; s.partner_version := NEW.partner_version;
        s.links := coalesce(sent.links, s.links);
    END IF;
    IF NEW.outcome = 'suspected' THEN
        s.suspect_state := 'due'; s.suspect_reason := NEW.reason; s.suspect_not_before := NEW.not_before;
        s.suspect_since := coalesce(s.suspect_since, NEW.made_at); s.suspect_attempts := 0;
    ELSIF NEW.outcome IN ('equal', 'repaired', 'superseded') THEN
        s := sync.answer_suspicions(s, coalesce(sent.made_at, NEW.looked_at, NEW.made_at));
    ELSIF s.suspect_state IS NOT NULL THEN
        s.suspect_state := NEW.outcome; s.suspect_reason := NEW.reason; s.suspect_not_before := NEW.not_before;
        s.suspect_attempts := s.suspect_attempts + 1;
    END IF;
    IF NEW.outcome = 'unknown' THEN
        s.doubt_is_answered := s.doubt_is_answered OR coalesce(s.doubt_intent = NEW.intent_id, false);
    ELSIF NEW.outcome <> 'suspected' AND sent.intent_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM sync.result r WHERE r.month = sent.month AND r.intent_id = sent.intent_id
          AND r.outcome <> 'unknown') THEN
        s := sync.without_intent(s, sent.intent_id);
    END IF;
    PERFORM sync.put_standing(s);
    PERFORM sync.agree_on_doubt(s);
    RETURN NULL;
END $$;

-- What is asked of a connection is asked by its own tenant, and there is one.
CREATE FUNCTION sync.require_connection(tenant text, partner text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF tenant IS DISTINCT FROM current_setting('app.tenant', true) THEN
        RAISE EXCEPTION 'the tenant asked for is not the one set in this transaction: run SELECT set_config(''app.tenant'', ''<tenant id>'', true) first'
            USING ERRCODE = 'ZT001';
    END IF;
    IF NOT EXISTS (SELECT FROM sync.connection c WHERE c.tenant_id = tenant AND c.partner = require_connection.partner) THEN
        RAISE EXCEPTION 'this tenant has no connection to that partner: an operator makes one with zest connect'
            USING ERRCODE = 'ZT004';
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION sync.require_connection(text, text) FROM PUBLIC;

-- As before, but for the guard.
CREATE OR REPLACE FUNCTION sync.request_push(tenant text, partner text, from_date date, to_date date) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    PERFORM sync.require_connection(tenant, partner);
    INSERT INTO sync.push_request AS r (tenant_id, partner, from_date, to_date, requested_by)
    VALUES (tenant, request_push.partner, request_push.from_date, request_push.to_date, session_user)
    RETURNING r.request_id INTO made;
    RETURN made;
END $$;

-- As before, but for the guard.
CREATE OR REPLACE FUNCTION sync.request_retry(tenant text, partner text, entity text DEFAULT NULL, record_id uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    PERFORM sync.require_connection(tenant, partner);
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

-- "Give it up" (abandon), or "it is there, under this id" (adopt): of the version that is open now. Or, of a settled one
-- that a late sender may have touched and that only a person can look up: "it is right as it is" (adopt).
CREATE OR REPLACE FUNCTION sync.decide(tenant text, partner text, entity text, record_id uuid, version bigint, act text,
                            partner_id text, reason text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    PERFORM sync.require_connection(tenant, partner);
    IF act IS NULL OR act NOT IN ('abandon', 'adopt') THEN
        RAISE EXCEPTION 'there is no such decision: it is abandon or adopt' USING ERRCODE = 'ZT005';
    END IF;
    IF (act = 'adopt') <> (coalesce(partner_id, '') <> '') THEN
        RAISE EXCEPTION 'an adoption names the partner''s id of the record, and nothing else does' USING ERRCODE = 'ZT005';
    END IF;
    IF coalesce(trim(reason), '') = '' THEN
        RAISE EXCEPTION 'say why, for those who ask later' USING ERRCODE = 'ZT005';
    END IF;
    IF NOT EXISTS (SELECT FROM sync.pending p WHERE p.tenant_id = tenant AND p.partner = decide.partner
                   AND p.entity = decide.entity AND p.record_id = decide.record_id AND p.version = decide.version)
       AND NOT (act = 'adopt' AND EXISTS (
           SELECT FROM sync.standing s WHERE s.tenant_id = tenant AND s.partner = decide.partner
             AND s.entity = decide.entity AND s.record_id = decide.record_id AND s.version = decide.version
             AND s.suspect_state = 'parked')) THEN
        RAISE EXCEPTION 'this version is not open at that partner: look at the record in sync.badge and decide on the one that is'
            USING ERRCODE = 'ZT006';
    END IF;
    INSERT INTO sync.decision AS d (tenant_id, partner, entity, record_id, version, act, partner_id, reason, decided_by)
    VALUES (tenant, decide.partner, decide.entity, decide.record_id, decide.version, decide.act,
            nullif(decide.partner_id, ''), decide.reason, session_user)
    RETURNING d.decision_id INTO made;
    RETURN made;
END $$;

-- Both values of each field that somebody had changed at the partner and that ours went over, or is to.
CREATE VIEW sync.overwritten AS
SELECT r.tenant_id, r.partner, r.entity, r.record_id, r.version, theirs.key AS field,
       coalesce(sent.links ->> theirs.key, c.image ->> theirs.key) AS ours, theirs.value AS theirs, r.made_at AS at
FROM sync.result r
JOIN sync.change c ON c.month = r.month AND c.tenant_id = r.tenant_id AND c.partner = r.partner
    AND c.entity = r.entity AND c.record_id = r.record_id AND c.version = r.version
LEFT JOIN sync.intent sent ON sent.month = r.month AND sent.intent_id = r.intent_id
CROSS JOIN LATERAL jsonb_each_text(r.theirs) AS theirs
WHERE r.reason = 'overwriting_partner_change';

-- A word on a suspect is carried out, and a look asked for is made, by the next push: the scheduler sees who has one.
CREATE POLICY scheduler_sees_all ON sync.repair FOR SELECT TO zest_schedule USING (true);
GRANT SELECT (tenant_id, partner, entity, record_id, made_at) ON sync.repair TO zest_schedule;
GRANT SELECT (act) ON sync.decision TO zest_schedule;
GRANT SELECT ON sync.overwritten TO zest_product, zest_operator;
