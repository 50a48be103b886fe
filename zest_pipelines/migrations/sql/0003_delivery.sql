-- Delivery: what is settled of each record at its partner, beside what is open; what a late sender may have touched; why
-- a connection stands still; what a person has decided. `pending` and `standing` are derived from change, intent, result
-- and repair by trigger functions alone, and can be rebuilt from them (docs/adr/0013-two-projections.md).

-- Columns ------------------------------------------------------------------------------------------------------------

ALTER TABLE sync.connection
    ADD COLUMN on_conflict text NOT NULL DEFAULT 'hold' CHECK (on_conflict IN ('hold', 'overwrite')),
    ADD COLUMN closed text[]; -- NULL: the partner's own

ALTER TABLE sync.event_cursor
    ADD COLUMN system_id bigint; -- of the cluster whose transactions these are: numbers mean nothing in another one

ALTER TABLE sync.result
    ADD COLUMN theirs jsonb, -- of a conflict: what the partner holds, by field
    ADD CHECK (theirs IS NULL OR outcome = 'conflict'),
    ADD CHECK (outcome <> 'unknown' OR intent_id IS NOT NULL); -- doubt is about a call

ALTER TABLE sync.pending
    ADD COLUMN waits_for text CHECK (waits_for IN ('client', 'staff', 'visit', 'request')), -- NULL: nothing
    ADD COLUMN open integer NOT NULL DEFAULT 1; -- the record's versions without an end

-- Tables -------------------------------------------------------------------------------------------------------------

-- The other derived table: what is settled of a record, what the partner last said, and what nobody knows the end of.
-- No CHECK on its counts: a wrong one must not keep a result from being stored. The audit finds it.
CREATE TABLE sync.standing (
    tenant_id          text NOT NULL,
    partner            text NOT NULL,
    entity             text NOT NULL,
    record_id          uuid NOT NULL,
    version            bigint NOT NULL DEFAULT 0, -- the newest that has ended; 0: none
    outcome            text,
    reason             text,
    params             jsonb NOT NULL DEFAULT '{}',
    on_date            date,
    delivered_version  bigint NOT NULL DEFAULT 0, -- the newest that was delivered; 0: none
    delivered_month    date,
    is_cancelled       boolean NOT NULL DEFAULT false, -- the partner was told so by it
    known_version      bigint NOT NULL DEFAULT 0, -- the one that the partner's last word was about
    partner_id         text,
    partner_version    text,
    links              jsonb NOT NULL DEFAULT '{}',
    open_intents       integer NOT NULL DEFAULT 0, -- sent, perhaps, and without an end
    doubt_intent       uuid, -- the newest of them
    doubt_month        date,
    doubt_version      bigint,
    doubt_at           timestamptz,
    doubt_is_answered  boolean NOT NULL DEFAULT false, -- its call has come to an end, and said nothing
    suspect_state      text CHECK (suspect_state IN ('due', 'retry', 'unknown', 'parked')), -- NULL: not suspect
    suspect_reason     text,
    suspect_since      timestamptz,
    suspect_not_before timestamptz,
    suspect_attempts   integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, partner, entity, record_id)
) WITH (fillfactor = 80); -- updated at each step of a record
CREATE INDEX standing_suspect ON sync.standing (partner, tenant_id) WHERE suspect_state IS NOT NULL;
-- Of days alone: a table without statistics would have a record looked up by it, among all of the tenant's.
CREATE INDEX standing_of_day ON sync.standing (tenant_id, partner, on_date) WHERE on_date IS NOT NULL;

-- What became of a settled record that a late sender may have touched. Numbered together with the results, in the order
-- in which both were stored.
CREATE TABLE sync.repair (
    repair_no       bigint PRIMARY KEY DEFAULT nextval('sync.result_no'),
    tenant_id       text NOT NULL,
    partner         text NOT NULL,
    entity          text NOT NULL,
    record_id       uuid NOT NULL,
    version         bigint NOT NULL, -- the delivered one that should stand there; 0: none was
    intent_id       uuid, -- of a suspicion: the late one; else the repair's own, NULL: it needed no call
    outcome         text NOT NULL CHECK (outcome IN
                        ('suspected', 'equal', 'repaired', 'superseded', 'retry', 'unknown', 'parked')),
    reason          text,
    params          jsonb NOT NULL DEFAULT '{}',
    partner_id      text,
    partner_version text,
    not_before      timestamptz,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX repair_of_record ON sync.repair (tenant_id, partner, entity, record_id, repair_no);
CREATE UNIQUE INDEX repair_ends_an_intent_once
    ON sync.repair (intent_id) WHERE outcome NOT IN ('suspected', 'unknown');

-- Why nothing is sent over a connection, and until when: closed hours, or the breaker.
CREATE TABLE sync.hold (
    tenant_id text NOT NULL,
    partner   text NOT NULL,
    reason    text NOT NULL,
    params    jsonb NOT NULL DEFAULT '{}',
    failures  integer NOT NULL, -- in a row; 0: closed hours
    since     timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, partner),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection
);

-- A person's word on one open version; push carries it out.
CREATE TABLE sync.decision (
    decision_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id   text NOT NULL,
    partner     text NOT NULL,
    entity      text NOT NULL,
    record_id   uuid NOT NULL,
    version     bigint NOT NULL,
    act         text NOT NULL CHECK (act IN ('abandon', 'adopt')),
    partner_id  text, -- of an adoption: it is there, under this id
    reason      text NOT NULL CHECK (reason <> ''),
    decided_by  text NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection,
    CHECK ((act = 'adopt') = (partner_id IS NOT NULL))
);
CREATE INDEX decision_of_record ON sync.decision (tenant_id, partner, entity, record_id, version);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['standing', 'repair', 'hold', 'decision'] LOOP
        EXECUTE format('ALTER TABLE sync.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE sync.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_tenant ON sync.%I
                        USING (tenant_id = current_setting(''app.tenant'', true))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['standing', 'hold', 'decision'] LOOP
        EXECUTE format('CREATE POLICY scheduler_sees_all ON sync.%I FOR SELECT TO zest_schedule USING (true)', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['repair', 'decision'] LOOP
        EXECUTE format('CREATE TRIGGER refuse_rewrite BEFORE UPDATE OR DELETE ON sync.%I
                        FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite()', t);
        EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite()', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_rewrite', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER refuse_truncate', t);
    END LOOP;
END $$;

-- Turns --------------------------------------------------------------------------------------------------------------

-- One transaction at a time writes a tenant's changes, intents, results and repairs, and the two tables derived from
-- them: what a trigger reads cannot change under it, and nobody meets another's rows in another order. Transactions that
-- write history are short: no call is made in one.
CREATE FUNCTION sync.turn(tenant text) RETURNS bigint
LANGUAGE sql IMMUTABLE RETURN hashtextextended('turn of ' || tenant, 0);

CREATE FUNCTION sync.take_turn() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(sync.turn(current_setting('app.tenant', true)));
    RETURN NULL;
END $$;

-- What a record waits for ----------------------------------------------------------------------------------------------

-- The one rule. A record in doubt is read back whatever it waits for, and a version that came late is settled without a
-- call. Bound by row-level security like everybody: it knows the transaction's tenant alone. plpgsql, since that keeps
-- its plan: 13 us a call where a function in SQL takes 100.
CREATE FUNCTION sync.waits_for(p sync.pending) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    RETURN (
        SELECT CASE
            WHEN s.doubt_intent IS NOT NULL OR s.version >= p.version THEN NULL
            WHEN p.op = 'upsert' AND NOT EXISTS (
                SELECT FROM sync.identity i WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner
                  AND i.entity = 'client' AND i.record_id = p.client_id AND i.valid_to IS NULL)
            THEN 'client'
            WHEN p.op = 'upsert' AND p.staff_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM sync.identity i WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner
                  AND i.entity = 'staff' AND i.record_id = p.staff_id AND i.valid_to IS NULL)
            THEN 'staff'
            WHEN p.op = 'upsert' AND p.entity = 'visit_record' AND NOT EXISTS (
                SELECT FROM sync.standing v WHERE v.tenant_id = p.tenant_id AND v.partner = p.partner
                  AND v.entity = 'visit' AND v.record_id = p.record_id AND v.delivered_version > 0 AND NOT v.is_cancelled)
            THEN 'visit'
            WHEN n.timing = 'week' AND NOT EXISTS (
                SELECT FROM sync.push_request q WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner
                  AND p.on_date BETWEEN q.from_date AND q.to_date AND q.requested_at >= p.edited_at)
            THEN 'request' END
        FROM sync.connection n
        LEFT JOIN sync.standing s ON s.tenant_id = n.tenant_id AND s.partner = n.partner AND s.entity = p.entity
            AND s.record_id = p.record_id
        WHERE n.tenant_id = p.tenant_id AND n.partner = p.partner);
END $$;

-- `pending.waits_for` says it as it was when the record's last step came. These look again, and return how many rows
-- have changed.
CREATE FUNCTION sync.recheck(tenant text, partner text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE changed integer;
BEGIN
    PERFORM pg_advisory_xact_lock(sync.turn(tenant));
    UPDATE sync.pending p SET waits_for = sync.waits_for(p)
    WHERE p.tenant_id = recheck.tenant AND p.partner = recheck.partner
      AND p.waits_for IS DISTINCT FROM sync.waits_for(p);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

-- Of all tenants, those where something has come that a record waited for; whoever has his turn is left for later.
-- Under the caller's rights, who sees all tenants. Index: pending_waiting, then one probe a row.
CREATE FUNCTION sync.recheck_waiting(partner text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    tenant text;
    changed integer := 0;
BEGIN
    FOR tenant IN
        SELECT DISTINCT p.tenant_id FROM sync.pending p
        JOIN sync.connection n ON n.tenant_id = p.tenant_id AND n.partner = p.partner
        WHERE p.partner = recheck_waiting.partner AND p.waits_for IS NOT NULL AND CASE p.waits_for
            WHEN 'client' THEN EXISTS (
                SELECT FROM sync.identity i WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner
                  AND i.entity = 'client' AND i.record_id = p.client_id AND i.valid_to IS NULL)
            WHEN 'staff' THEN EXISTS (
                SELECT FROM sync.identity i WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner
                  AND i.entity = 'staff' AND i.record_id = p.staff_id AND i.valid_to IS NULL)
            WHEN 'visit' THEN EXISTS (
                SELECT FROM sync.standing v WHERE v.tenant_id = p.tenant_id AND v.partner = p.partner
                  AND v.entity = 'visit' AND v.record_id = p.record_id AND v.delivered_version > 0
                  AND NOT v.is_cancelled)
            ELSE n.timing <> 'week' OR EXISTS (
                SELECT FROM sync.push_request q WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner
                  AND p.on_date BETWEEN q.from_date AND q.to_date AND q.requested_at >= p.edited_at) END
        ORDER BY p.tenant_id
    LOOP
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(sync.turn(tenant));
        PERFORM set_config('app.tenant', tenant, true);
        changed := changed + sync.recheck(tenant, partner);
    END LOOP;
    PERFORM set_config('app.tenant', '', true);
    RETURN changed;
END $$;

-- The projections ------------------------------------------------------------------------------------------------------

-- The record's row of `standing`, made if it is not there.
CREATE FUNCTION sync.standing_of(tenant text, partner text, entity text, record_id uuid) RETURNS sync.standing
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE s sync.standing;
BEGIN
    SELECT * INTO s FROM sync.standing t WHERE t.tenant_id = tenant AND t.partner = standing_of.partner
        AND t.entity = standing_of.entity AND t.record_id = standing_of.record_id;
    IF NOT FOUND THEN
        INSERT INTO sync.standing AS t (tenant_id, partner, entity, record_id)
        VALUES (tenant, partner, entity, record_id) RETURNING t.* INTO s;
    END IF;
    RETURN s;
END $$;

CREATE FUNCTION sync.put_standing(s sync.standing) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE sync.standing t SET
        version = s.version, outcome = s.outcome, reason = s.reason, params = s.params, on_date = s.on_date,
        delivered_version = s.delivered_version, delivered_month = s.delivered_month, is_cancelled = s.is_cancelled,
        known_version = s.known_version, partner_id = s.partner_id, partner_version = s.partner_version,
        links = s.links, open_intents = s.open_intents, doubt_intent = s.doubt_intent, doubt_month = s.doubt_month,
        doubt_version = s.doubt_version, doubt_at = s.doubt_at, doubt_is_answered = s.doubt_is_answered,
        suspect_state = s.suspect_state, suspect_reason = s.suspect_reason, suspect_since = s.suspect_since,
        suspect_not_before = s.suspect_not_before, suspect_attempts = s.suspect_attempts
    WHERE t.tenant_id = s.tenant_id AND t.partner = s.partner AND t.entity = s.entity AND t.record_id = s.record_id;
END $$;

-- Whether the intent has an end: in a result, or in a repair if it was one's own.
CREATE FUNCTION sync.has_ended(intent_month date, intent uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
BEGIN
    RETURN EXISTS (SELECT FROM sync.result r
                   WHERE r.month = intent_month AND r.intent_id = intent AND r.outcome <> 'unknown')
        OR EXISTS (SELECT FROM sync.repair r
                   WHERE r.intent_id = intent AND r.outcome NOT IN ('suspected', 'unknown'));
END $$;

-- One of the record's intents has come to its end: another one may be left in doubt. More than one never is as long as
-- nobody sends while one is.
CREATE FUNCTION sync.without_intent(s sync.standing, ended uuid) RETURNS sync.standing
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    s.open_intents := s.open_intents - 1;
    IF s.open_intents = 0 OR s.doubt_intent = ended THEN
        s.doubt_intent := NULL; s.doubt_month := NULL; s.doubt_version := NULL; s.doubt_at := NULL;
        s.doubt_is_answered := false;
    END IF;
    IF s.open_intents > 0 AND s.doubt_intent IS NULL THEN
        SELECT i.intent_id, i.month, i.version, i.made_at,
               EXISTS (SELECT FROM sync.result r WHERE r.month = i.month AND r.intent_id = i.intent_id)
               OR EXISTS (SELECT FROM sync.repair r WHERE r.intent_id = i.intent_id AND r.outcome = 'unknown')
        INTO s.doubt_intent, s.doubt_month, s.doubt_version, s.doubt_at, s.doubt_is_answered
        FROM sync.intent i
        WHERE i.tenant_id = s.tenant_id AND i.partner = s.partner AND i.entity = s.entity
          AND i.record_id = s.record_id AND NOT sync.has_ended(i.month, i.intent_id)
        ORDER BY i.version DESC, i.made_at DESC LIMIT 1;
    END IF;
    RETURN s;
END $$;

-- An intent comes: until its end is known, nobody knows what the partner has.
CREATE FUNCTION sync.project_intent() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE s sync.standing := sync.standing_of(NEW.tenant_id, NEW.partner, NEW.entity, NEW.record_id);
BEGIN
    s.open_intents := s.open_intents + 1;
    IF s.doubt_intent IS NULL OR (NEW.version, NEW.made_at) > (s.doubt_version, s.doubt_at) THEN
        s.doubt_intent := NEW.intent_id; s.doubt_month := NEW.month; s.doubt_version := NEW.version;
        s.doubt_at := NEW.made_at; s.doubt_is_answered := false;
    END IF;
    PERFORM sync.put_standing(s);
    PERFORM sync.agree_on_doubt(s);
    RETURN NULL;
END $$;

-- A pending record is `unknown` exactly while the call that it is in doubt about is over.
CREATE FUNCTION sync.agree_on_doubt(s sync.standing) RETURNS void
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
        p.state := 'unknown'; p.reason := s.suspect_reason; p.params := '{}'; p.not_before := s.suspect_not_before;
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

-- A change comes: it is what is pending unless a newer one is. An older one that comes late is counted, and settled with
-- that newer one; if the newer one is settled already, the late one stands here until push settles it as superseded (it
-- compares with the last terminal version before it sends). A record in doubt stays in doubt: it is read back first.
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
    SELECT * INTO s FROM sync.standing t WHERE t.tenant_id = NEW.tenant_id AND t.partner = NEW.partner
        AND t.entity = NEW.entity AND t.record_id = NEW.record_id;
    INSERT INTO sync.pending AS q (tenant_id, partner, entity, record_id, version, month, op, client_id, staff_id,
                                   on_date, edited_at, since, waits_for, state, reason, not_before)
    VALUES (p.tenant_id, p.partner, p.entity, p.record_id, p.version, p.month, p.op, p.client_id, p.staff_id,
            p.on_date, p.edited_at, p.edited_at, p.waits_for,
            CASE WHEN s.doubt_is_answered THEN 'unknown' ELSE 'due' END,
            CASE WHEN s.doubt_is_answered THEN s.suspect_reason END,
            CASE WHEN s.doubt_is_answered THEN s.suspect_not_before END)
    ON CONFLICT (tenant_id, partner, entity, record_id) DO UPDATE SET
        version = excluded.version, month = excluded.month, op = excluded.op, client_id = excluded.client_id,
        staff_id = excluded.staff_id, on_date = excluded.on_date, edited_at = excluded.edited_at,
        since = least(q.since, excluded.since), open = q.open + 1, waits_for = excluded.waits_for,
        state = CASE WHEN q.state = 'unknown' THEN 'unknown' ELSE 'due' END,
        reason = CASE WHEN q.state = 'unknown' THEN q.reason END,
        params = CASE WHEN q.state = 'unknown' THEN q.params ELSE '{}' END,
        attempts = CASE WHEN q.state = 'unknown' THEN q.attempts ELSE 0 END,
        not_before = CASE WHEN q.state = 'unknown' THEN q.not_before END;
    RETURN NULL;
END $$;

-- A result comes: a terminal one takes its own version away and no other; an open one says how that version stands.
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
        -- Whatever a late sender did before, this has written over it.
        s.suspect_state := NULL; s.suspect_reason := NULL; s.suspect_since := NULL; s.suspect_not_before := NULL;
        s.suspect_attempts := 0;
    END IF;
    SELECT * INTO sent FROM sync.intent i WHERE i.month = NEW.month AND i.intent_id = NEW.intent_id;
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

-- What is said of a call whose end is known came too late: it says nothing about the record any more. Of a result it is
-- for push to note the suspicion (it sees that the row was not stored); a repair becomes one by itself.
CREATE FUNCTION sync.refuse_late() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF sync.has_ended(NEW.month, NEW.intent_id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION sync.suspect_late() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT FROM sync.repair r
               WHERE r.intent_id = NEW.intent_id AND r.outcome NOT IN ('suspected', 'unknown')) THEN
        NEW.outcome := 'suspected';
    END IF;
    RETURN NEW;
END $$;

-- A repair comes: a suspicion, how looking at it went, or its end.
CREATE FUNCTION sync.project_repair() RETURNS trigger
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
        s.suspect_state := NULL; s.suspect_reason := NULL; s.suspect_since := NULL; s.suspect_not_before := NULL;
        s.suspect_attempts := 0;
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

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['change', 'intent', 'result', 'repair'] LOOP
        EXECUTE format('CREATE TRIGGER a_take_turn BEFORE INSERT ON sync.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION sync.take_turn()', t);
        EXECUTE format('ALTER TABLE sync.%I ENABLE ALWAYS TRIGGER a_take_turn', t);
    END LOOP;
END $$;
CREATE TRIGGER refuse_late BEFORE INSERT ON sync.result
    FOR EACH ROW WHEN (NEW.intent_id IS NOT NULL) EXECUTE FUNCTION sync.refuse_late();
CREATE TRIGGER suspect_late BEFORE INSERT ON sync.repair
    FOR EACH ROW WHEN (NEW.intent_id IS NOT NULL) EXECUTE FUNCTION sync.suspect_late();
CREATE TRIGGER project_intent AFTER INSERT ON sync.intent FOR EACH ROW EXECUTE FUNCTION sync.project_intent();
CREATE TRIGGER project_repair AFTER INSERT ON sync.repair FOR EACH ROW EXECUTE FUNCTION sync.project_repair();
ALTER TABLE sync.result ENABLE ALWAYS TRIGGER refuse_late;
ALTER TABLE sync.repair ENABLE ALWAYS TRIGGER suspect_late;
ALTER TABLE sync.intent ENABLE ALWAYS TRIGGER project_intent;
ALTER TABLE sync.repair ENABLE ALWAYS TRIGGER project_repair;

-- A person's word ------------------------------------------------------------------------------------------------------

-- "Give it up" (abandon), or "it is there, under this id" (adopt): of the version that is open now.
CREATE FUNCTION sync.decide(tenant text, partner text, entity text, record_id uuid, version bigint, act text,
                            partner_id text, reason text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE made uuid;
BEGIN
    IF tenant IS DISTINCT FROM current_setting('app.tenant', true) THEN
        RAISE EXCEPTION 'the tenant asked for is not the one set in this transaction: run SELECT set_config(''app.tenant'', ''<tenant id>'', true) first'
            USING ERRCODE = 'ZT001';
    END IF;
    IF NOT EXISTS (SELECT FROM sync.connection c WHERE c.tenant_id = tenant AND c.partner = decide.partner) THEN
        RAISE EXCEPTION 'this tenant has no connection to that partner: an operator makes one with zest connect'
            USING ERRCODE = 'ZT004';
    END IF;
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
                   AND p.entity = decide.entity AND p.record_id = decide.record_id AND p.version = decide.version) THEN
        RAISE EXCEPTION 'this version is not open at that partner: look at the record in sync.badge and decide on the one that is'
            USING ERRCODE = 'ZT006';
    END IF;
    INSERT INTO sync.decision AS d (tenant_id, partner, entity, record_id, version, act, partner_id, reason, decided_by)
    VALUES (tenant, decide.partner, decide.entity, decide.record_id, decide.version, decide.act,
            nullif(decide.partner_id, ''), decide.reason, session_user)
    RETURNING d.decision_id INTO made;
    RETURN made;
END $$;

-- The tenant is gone: all that is open at its connection is given up. Returns how many records.
CREATE FUNCTION sync.abandon_all(tenant text, partner text, reason text) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT count(sync.decide(tenant, abandon_all.partner, p.entity, p.record_id, p.version, 'abandon', NULL, abandon_all.reason))::integer
    FROM sync.pending p WHERE p.tenant_id = tenant AND p.partner = abandon_all.partner
$$;

-- Views ----------------------------------------------------------------------------------------------------------------

-- One row a record and connection that the partner must receive or has received.
CREATE OR REPLACE VIEW sync.badge AS
SELECT open.tenant_id, open.partner, open.entity, open.record_id, open.version,
       CASE WHEN open.state = 'due' AND NOT open.is_broken THEN 'waiting'
            WHEN open.state = 'conflict' THEN 'check_needed'
            WHEN r.owner = 'user' THEN CASE open.state WHEN 'unknown' THEN 'check_needed' ELSE 'action_needed' END
            WHEN open.state IN ('due', 'retry', 'unknown') THEN 'retrying'
            ELSE 'check_needed' END AS badge,
       open.why AS reason, open.params, open.attempts, open.not_before, open.on_date, open.since
FROM (
    SELECT p.tenant_id, p.partner, p.entity, p.record_id, p.version, p.state, p.attempts, p.on_date, p.since,
           shown.why, coalesce(h.reason = shown.why AND h.reason <> 'outside_window', false) AS is_broken,
           CASE WHEN h.reason = shown.why THEN h.params ELSE p.params END AS params,
           CASE WHEN h.reason = shown.why THEN greatest(p.not_before, h.until) ELSE p.not_before END AS not_before
    FROM sync.pending p
    JOIN sync.connection c ON c.tenant_id = p.tenant_id AND c.partner = p.partner
    LEFT JOIN sync.hold h ON h.tenant_id = p.tenant_id AND h.partner = p.partner AND h.until > clock_timestamp()
        AND p.state IN ('due', 'retry')
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN p.state = 'retry' THEN coalesce(h.reason, p.reason)
            WHEN p.state <> 'due' THEN p.reason
            WHEN c.paused_at IS NOT NULL THEN 'connection_paused'
            ELSE coalesce(CASE sync.waits_for(p) WHEN 'client' THEN 'client_not_yet_at_partner'
                                                 WHEN 'staff' THEN 'staff_not_yet_at_partner'
                                                 WHEN 'visit' THEN 'visit_not_yet_delivered'
                                                 WHEN 'request' THEN 'not_requested_yet' END, h.reason) END
    ) AS shown (why)
) AS open
LEFT JOIN sync.reason r ON r.code = open.why
UNION ALL
SELECT s.tenant_id, s.partner, s.entity, s.record_id, s.version,
       CASE WHEN s.suspect_state = 'parked' THEN 'check_needed'
            WHEN s.suspect_state IS NOT NULL THEN 'retrying'
            WHEN s.outcome = 'delivered_with_warning' THEN 'delivered_with_warning'
            ELSE 'ok' END,
       CASE WHEN s.suspect_state IS NULL THEN s.reason ELSE s.suspect_reason END,
       CASE WHEN s.suspect_state IS NULL THEN s.params ELSE '{}' END,
       s.suspect_attempts, s.suspect_not_before, s.on_date, s.suspect_since
FROM sync.standing s
WHERE s.version > 0
  AND NOT EXISTS (SELECT FROM sync.pending p WHERE p.tenant_id = s.tenant_id AND p.partner = s.partner
                  AND p.entity = s.entity AND p.record_id = s.record_id);

-- Both values of each field in which the partner's copy is another than ours, of the records held for that.
CREATE VIEW sync.conflict AS
SELECT p.tenant_id, p.partner, p.entity, p.record_id, p.version, theirs.key AS field,
       coalesce(sent.links ->> theirs.key, c.image ->> theirs.key) AS ours,
       theirs.value AS theirs, held.made_at AS since
FROM sync.pending p
JOIN sync.change c ON c.month = p.month AND c.tenant_id = p.tenant_id AND c.partner = p.partner
    AND c.entity = p.entity AND c.record_id = p.record_id AND c.version = p.version
CROSS JOIN LATERAL (
    SELECT r.theirs, r.intent_id, r.made_at FROM sync.result r
    WHERE r.month = p.month AND r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
      AND r.record_id = p.record_id AND r.version = p.version AND r.outcome = 'conflict'
    ORDER BY r.result_no DESC LIMIT 1) AS held
LEFT JOIN sync.intent sent ON sent.month = p.month AND sent.intent_id = held.intent_id
CROSS JOIN LATERAL jsonb_each_text(held.theirs) AS theirs
WHERE p.state = 'conflict';

-- What there was before -----------------------------------------------------------------------------------------------

-- The owner is bound by row-level security and there is no tenant to set: it is lifted from him for this transaction.
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['connection', 'identity', 'push_request', 'change', 'intent', 'result', 'repair',
                             'pending', 'standing', 'event_cursor'] LOOP
        EXECUTE format('ALTER TABLE sync.%I NO FORCE ROW LEVEL SECURITY', t);
    END LOOP;
END $$;

INSERT INTO sync.standing (tenant_id, partner, entity, record_id)
SELECT r.tenant_id, r.partner, r.entity, r.record_id FROM sync.result r
UNION SELECT i.tenant_id, i.partner, i.entity, i.record_id FROM sync.intent i;

UPDATE sync.standing s SET version = r.version, outcome = r.outcome, reason = r.reason, params = r.params,
    on_date = c.on_date
FROM (
    SELECT DISTINCT ON (r.tenant_id, r.partner, r.entity, r.record_id) r.* FROM sync.result r
    WHERE r.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned')
    ORDER BY r.tenant_id, r.partner, r.entity, r.record_id, r.version DESC) AS r
LEFT JOIN sync.change c ON c.month = r.month AND c.tenant_id = r.tenant_id AND c.partner = r.partner
    AND c.entity = r.entity AND c.record_id = r.record_id AND c.version = r.version
WHERE (s.tenant_id, s.partner, s.entity, s.record_id) = (r.tenant_id, r.partner, r.entity, r.record_id);

UPDATE sync.standing s SET delivered_version = r.version, delivered_month = r.month, is_cancelled = r.is_cancelled
FROM (
    SELECT DISTINCT ON (r.tenant_id, r.partner, r.entity, r.record_id) r.* FROM sync.result r
    WHERE r.outcome IN ('delivered', 'delivered_with_warning')
    ORDER BY r.tenant_id, r.partner, r.entity, r.record_id, r.version DESC) AS r
WHERE (s.tenant_id, s.partner, s.entity, s.record_id) = (r.tenant_id, r.partner, r.entity, r.record_id);

UPDATE sync.standing s SET known_version = r.version, partner_id = r.partner_id, partner_version = r.partner_version
FROM (
    SELECT DISTINCT ON (r.tenant_id, r.partner, r.entity, r.record_id) r.* FROM sync.result r
    WHERE r.partner_id IS NOT NULL
    ORDER BY r.tenant_id, r.partner, r.entity, r.record_id, r.version DESC, r.result_no DESC) AS r
WHERE (s.tenant_id, s.partner, s.entity, s.record_id) = (r.tenant_id, r.partner, r.entity, r.record_id);

UPDATE sync.standing s SET links = r.links
FROM (
    SELECT DISTINCT ON (r.tenant_id, r.partner, r.entity, r.record_id)
           r.tenant_id, r.partner, r.entity, r.record_id, i.links
    FROM sync.result r JOIN sync.intent i ON i.month = r.month AND i.intent_id = r.intent_id
    WHERE r.partner_id IS NOT NULL
    ORDER BY r.tenant_id, r.partner, r.entity, r.record_id, r.version DESC, r.result_no DESC) AS r
WHERE (s.tenant_id, s.partner, s.entity, s.record_id) = (r.tenant_id, r.partner, r.entity, r.record_id);

UPDATE sync.standing s SET open_intents = d.open_intents, doubt_intent = d.intent_id, doubt_month = d.month,
    doubt_version = d.version, doubt_at = d.made_at, doubt_is_answered = d.is_answered
FROM (
    SELECT DISTINCT ON (i.tenant_id, i.partner, i.entity, i.record_id) i.*,
           count(*) OVER (PARTITION BY i.tenant_id, i.partner, i.entity, i.record_id) AS open_intents,
           EXISTS (SELECT FROM sync.result u WHERE u.month = i.month AND u.intent_id = i.intent_id) AS is_answered
    FROM sync.intent i
    WHERE NOT EXISTS (SELECT FROM sync.result e
                      WHERE e.month = i.month AND e.intent_id = i.intent_id AND e.outcome <> 'unknown')
    ORDER BY i.tenant_id, i.partner, i.entity, i.record_id, i.version DESC, i.made_at DESC) AS d
WHERE (s.tenant_id, s.partner, s.entity, s.record_id) = (d.tenant_id, d.partner, d.entity, d.record_id);

UPDATE sync.pending p SET open = c.open
FROM (
    SELECT c.tenant_id, c.partner, c.entity, c.record_id, count(*) AS open FROM sync.change c
    WHERE NOT EXISTS (
        SELECT FROM sync.result r WHERE r.month = c.month AND r.tenant_id = c.tenant_id AND r.partner = c.partner
          AND r.entity = c.entity AND r.record_id = c.record_id AND r.version = c.version
          AND r.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned'))
    GROUP BY c.tenant_id, c.partner, c.entity, c.record_id) AS c
WHERE (p.tenant_id, p.partner, p.entity, p.record_id) = (c.tenant_id, c.partner, c.entity, c.record_id);

UPDATE sync.pending p SET waits_for = sync.waits_for(p);
UPDATE sync.event_cursor SET system_id = (SELECT system_identifier FROM pg_control_system());

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['connection', 'identity', 'push_request', 'change', 'intent', 'result', 'repair',
                             'pending', 'standing', 'event_cursor'] LOOP
        EXECUTE format('ALTER TABLE sync.%I FORCE ROW LEVEL SECURITY', t);
    END LOOP;
END $$;

-- Last, so that the rows are in them once.
DROP INDEX sync.change_of_day; -- as standing_of_day: each new month has no statistics
CREATE INDEX change_of_day ON sync.change (tenant_id, partner, on_date) WHERE on_date IS NOT NULL;
DROP INDEX sync.pending_queue;
CREATE INDEX pending_queue ON sync.pending (partner, tenant_id, attempts, since) INCLUDE (not_before)
    WHERE state IN ('due', 'retry', 'unknown') AND waits_for IS NULL;
CREATE INDEX pending_waiting ON sync.pending (partner, tenant_id) WHERE waits_for IS NOT NULL;

-- Who may do what ------------------------------------------------------------------------------------------------------

GRANT SELECT ON sync.standing, sync.repair, sync.hold, sync.decision TO zest_push, zest_operator;
GRANT INSERT ON sync.repair TO zest_push;
GRANT INSERT, UPDATE, DELETE ON sync.hold TO zest_push;
GRANT SELECT ON sync.pending, sync.standing TO zest_accumulate;
GRANT SELECT ON sync.hold TO zest_product, zest_schedule;
GRANT SELECT ON sync.conflict TO zest_product, zest_operator;
GRANT SELECT (month) ON sync.update_event TO zest_schedule;
GRANT SELECT (waits_for) ON sync.pending TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, record_id, version, delivered_version, is_cancelled, doubt_intent, doubt_at,
              doubt_is_answered, suspect_state, suspect_not_before) ON sync.standing TO zest_schedule;
GRANT SELECT (tenant_id, partner, entity, record_id, version, decided_at) ON sync.decision TO zest_schedule;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sync FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.turn(text) TO zest_schedule;
GRANT EXECUTE ON FUNCTION sync.waits_for(sync.pending) TO zest_push, zest_product, zest_operator;
GRANT EXECUTE ON FUNCTION sync.recheck(text, text) TO zest_push, zest_accumulate, zest_schedule;
GRANT EXECUTE ON FUNCTION sync.recheck_waiting(text) TO zest_schedule;
GRANT EXECUTE ON FUNCTION sync.decide(text, text, text, uuid, bigint, text, text, text) TO zest_product, zest_operator;
GRANT EXECUTE ON FUNCTION sync.abandon_all(text, text, text) TO zest_operator;
