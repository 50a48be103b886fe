-- A settled record in question says why it is as fully as an open one does: with parameters, and by an operator's word
-- where the error is an unknown one.

ALTER TABLE sync.standing ADD COLUMN suspect_params jsonb NOT NULL DEFAULT '{}';
-- The fingerprint of what a record is in question for; NULL: it is no unknown error.
ALTER TABLE sync.standing ADD COLUMN suspect_cause text
    GENERATED ALWAYS AS (CASE suspect_reason WHEN 'unknown' THEN sync.cause(partner, suspect_params) END) STORED;

-- As before, but with the parameters of a suspicion.
CREATE OR REPLACE FUNCTION sync.put_standing(s sync.standing) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE sync.standing t SET
        version = s.version, outcome = s.outcome, reason = s.reason, params = s.params, on_date = s.on_date,
        delivered_version = s.delivered_version, delivered_month = s.delivered_month, is_cancelled = s.is_cancelled,
        known_version = s.known_version, partner_id = s.partner_id, partner_version = s.partner_version,
        links = s.links, open_intents = s.open_intents, doubt_intent = s.doubt_intent, doubt_month = s.doubt_month,
        doubt_version = s.doubt_version, doubt_at = s.doubt_at, doubt_is_answered = s.doubt_is_answered,
        suspect_state = s.suspect_state, suspect_reason = s.suspect_reason, suspect_since = s.suspect_since,
        suspect_not_before = s.suspect_not_before, suspect_attempts = s.suspect_attempts,
        suspect_params = s.suspect_params
    WHERE t.tenant_id = s.tenant_id AND t.partner = s.partner AND t.entity = s.entity AND t.record_id = s.record_id;
END $$;

-- As before, but for the parameters.
CREATE OR REPLACE FUNCTION sync.answer_suspicions(s sync.standing, until timestamptz) RETURNS sync.standing
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF s.suspect_since <= until THEN
        SELECT min(u.made_at) INTO s.suspect_since FROM sync.repair u
        WHERE u.tenant_id = s.tenant_id AND u.partner = s.partner AND u.entity = s.entity AND u.record_id = s.record_id
          AND u.outcome = 'suspected' AND u.made_at > until;
    END IF;
    IF s.suspect_since IS NULL THEN
        s.suspect_state := NULL; s.suspect_reason := NULL; s.suspect_not_before := NULL; s.suspect_attempts := 0;
        s.suspect_params := '{}';
    END IF;
    RETURN s;
END $$;

-- As before, but for the parameters.
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
        s.suspect_params := NEW.params;
    ELSIF NEW.outcome IN ('equal', 'repaired', 'superseded') THEN
        s := sync.answer_suspicions(s, coalesce(sent.made_at, NEW.looked_at, NEW.made_at));
    ELSIF s.suspect_state IS NOT NULL THEN
        s.suspect_state := NEW.outcome; s.suspect_reason := NEW.reason; s.suspect_not_before := NEW.not_before;
        s.suspect_attempts := s.suspect_attempts + 1; s.suspect_params := NEW.params;
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

-- Of those that stand, tenant by tenant, since the owner is bound by row-level security too.
ALTER TABLE sync.connection NO FORCE ROW LEVEL SECURITY;
DO $$
DECLARE
    tenants text[] := ARRAY(SELECT DISTINCT c.tenant_id FROM sync.connection c);
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY tenants LOOP
        PERFORM set_config('app.tenant', tenant, true);
        UPDATE sync.standing s SET suspect_params = coalesce((
            SELECT u.params FROM sync.repair u
            WHERE u.tenant_id = s.tenant_id AND u.partner = s.partner AND u.entity = s.entity
              AND u.record_id = s.record_id AND u.outcome NOT IN ('equal', 'repaired', 'superseded')
            ORDER BY u.repair_no DESC LIMIT 1), '{}')
        WHERE s.tenant_id = tenant AND s.suspect_state IS NOT NULL;
    END LOOP;
    PERFORM set_config('app.tenant', '', true);
END $$;
ALTER TABLE sync.connection FORCE ROW LEVEL SECURITY;

-- As before, but for records in question too.
CREATE OR REPLACE FUNCTION sync.request_status(request uuid) RETURNS TABLE (
    request_id uuid, kind text, tenant_id text, partner text, from_date date, to_date date, requested_at timestamptz,
    total integer, delivered integer, waiting integer, retrying integer, action_needed integer, check_needed integer,
    not_needed integer, is_done boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT q.request_id, 'push' AS kind, q.tenant_id, q.partner, q.from_date, q.to_date, q.requested_at,
               NULL::text AS entity, NULL::uuid AS record_id, NULL::text AS why, NULL::text AS cause
        FROM sync.push_request q WHERE q.request_id = request
        UNION ALL
        SELECT q.request_id, 'retry', q.tenant_id, q.partner, q.from_date, q.to_date, q.requested_at, q.entity,
               q.record_id, q.reason, q.fingerprint
        FROM sync.retry_request q WHERE q.request_id = request
    ), of_days AS (
        SELECT p.entity, p.record_id, p.state IN ('due', 'retry', 'unknown') AND p.edited_at <= a.requested_at
                   AND sync.waits_for(p) IS NULL AS moves
        FROM asked a
        JOIN sync.pending p ON p.tenant_id = a.tenant_id AND p.partner = a.partner
            AND p.on_date BETWEEN a.from_date AND a.to_date
        WHERE a.kind = 'push'
        UNION ALL
        SELECT s.entity, s.record_id, s.suspect_state IN ('due', 'retry', 'unknown')
        FROM asked a
        JOIN sync.standing s ON s.tenant_id = a.tenant_id AND s.partner = a.partner AND s.version > 0
            AND s.on_date BETWEEN a.from_date AND a.to_date
        WHERE a.kind = 'push' AND NOT EXISTS (
            SELECT FROM sync.pending p WHERE p.tenant_id = s.tenant_id AND p.partner = s.partner
            AND p.entity = s.entity AND p.record_id = s.record_id)
    ), tried AS (
        SELECT r.entity, r.record_id
        FROM asked a
        JOIN sync.result r ON r.tenant_id = a.tenant_id AND r.partner = a.partner AND r.outcome = 'released'
            AND r.made_at > a.requested_at AND r.reason = 'asked_again'
            AND r.entity = coalesce(a.entity, r.entity) AND r.record_id = coalesce(a.record_id, r.record_id)
        WHERE a.kind = 'retry' AND (
            SELECT max(stopped.made_at) FROM sync.result stopped
            WHERE stopped.month = r.month AND stopped.tenant_id = r.tenant_id AND stopped.partner = r.partner
              AND stopped.entity = r.entity AND stopped.record_id = r.record_id AND stopped.version = r.version
              AND stopped.result_no < r.result_no) < a.requested_at
          AND ((a.why IS NULL AND a.cause IS NULL) OR (
              SELECT coalesce(a.why = CASE stopped.reason WHEN 'unknown' THEN sync.told(stopped.partner, stopped.params)
                                      ELSE stopped.reason END, true)
                 AND (a.cause IS NULL
                      OR (stopped.reason = 'unknown' AND a.cause = sync.cause(stopped.partner, stopped.params)))
              FROM sync.result stopped
              WHERE stopped.month = r.month AND stopped.tenant_id = r.tenant_id AND stopped.partner = r.partner
                AND stopped.entity = r.entity AND stopped.record_id = r.record_id AND stopped.version = r.version
                AND stopped.result_no < r.result_no
              ORDER BY stopped.result_no DESC LIMIT 1))
          AND (a.from_date IS NULL OR EXISTS (
              SELECT FROM sync.change c
              WHERE c.month = r.month AND c.tenant_id = r.tenant_id AND c.partner = r.partner AND c.entity = r.entity
                AND c.record_id = r.record_id AND c.version = r.version
                AND c.on_date BETWEEN a.from_date AND a.to_date))
        UNION -- a record once
        SELECT u.entity, u.record_id -- few rows: a connection's late answers, and what became of them
        FROM asked a
        JOIN sync.repair u ON u.tenant_id = a.tenant_id AND u.partner = a.partner AND u.outcome = 'suspected'
            AND u.made_at > a.requested_at AND u.reason = 'asked_again'
            AND u.entity = coalesce(a.entity, u.entity) AND u.record_id = coalesce(a.record_id, u.record_id)
        WHERE a.kind = 'retry' AND (
            SELECT max(stopped.made_at) FROM sync.repair stopped
            WHERE stopped.tenant_id = u.tenant_id AND stopped.partner = u.partner AND stopped.entity = u.entity
              AND stopped.record_id = u.record_id AND stopped.repair_no < u.repair_no) < a.requested_at
          AND ((a.why IS NULL AND a.cause IS NULL) OR (
              SELECT coalesce(a.why = CASE stopped.reason WHEN 'unknown' THEN sync.told(stopped.partner, stopped.params)
                                      ELSE stopped.reason END, true)
                 AND (a.cause IS NULL
                      OR (stopped.reason = 'unknown' AND a.cause = sync.cause(stopped.partner, stopped.params)))
              FROM sync.repair stopped
              WHERE stopped.tenant_id = u.tenant_id AND stopped.partner = u.partner AND stopped.entity = u.entity
                AND stopped.record_id = u.record_id AND stopped.repair_no < u.repair_no
              ORDER BY stopped.repair_no DESC LIMIT 1))
          AND (a.from_date IS NULL OR EXISTS (
              SELECT FROM sync.standing s WHERE s.tenant_id = u.tenant_id AND s.partner = u.partner
                AND s.entity = u.entity AND s.record_id = u.record_id
                AND s.on_date BETWEEN a.from_date AND a.to_date))
    ), stopped AS (
        SELECT p.entity, p.record_id
        FROM asked a
        JOIN sync.pending p ON p.tenant_id = a.tenant_id AND p.partner = a.partner
            AND p.state IN ('parked', 'conflict', 'retry')
            AND p.entity = coalesce(a.entity, p.entity) AND p.record_id = coalesce(a.record_id, p.record_id)
            AND coalesce(a.why = CASE p.reason WHEN 'unknown' THEN sync.told(p.partner, p.params) ELSE p.reason END, true)
            AND (a.cause IS NULL OR a.cause = p.cause)
            AND (a.from_date IS NULL OR p.on_date BETWEEN a.from_date AND a.to_date)
        WHERE a.kind = 'retry' AND (
            SELECT max(r.made_at) FROM sync.result r
            WHERE r.month = p.month AND r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
              AND r.record_id = p.record_id AND r.version = p.version) < a.requested_at
        UNION
        SELECT s.entity, s.record_id
        FROM asked a
        JOIN sync.standing s ON s.tenant_id = a.tenant_id AND s.partner = a.partner
            AND s.suspect_state IN ('parked', 'retry')
            AND s.entity = coalesce(a.entity, s.entity) AND s.record_id = coalesce(a.record_id, s.record_id)
            AND coalesce(a.why = CASE s.suspect_reason WHEN 'unknown' THEN sync.told(s.partner, s.suspect_params)
                                 ELSE s.suspect_reason END, true)
            AND (a.cause IS NULL OR a.cause = s.suspect_cause)
            AND (a.from_date IS NULL OR s.on_date BETWEEN a.from_date AND a.to_date)
        WHERE a.kind = 'retry' AND (
            SELECT max(u.made_at) FROM sync.repair u
            WHERE u.tenant_id = s.tenant_id AND u.partner = s.partner AND u.entity = s.entity
              AND u.record_id = s.record_id) < a.requested_at
    ), covered AS (
        SELECT * FROM of_days
        UNION ALL
        SELECT s.entity, s.record_id, true FROM stopped s
        UNION ALL
        SELECT t.entity, t.record_id, CASE WHEN p.version IS NULL THEN EXISTS (
                SELECT FROM sync.standing s WHERE s.tenant_id = a.tenant_id AND s.partner = a.partner
                AND s.entity = t.entity AND s.record_id = t.record_id
                AND s.suspect_state IN ('due', 'retry', 'unknown'))
            ELSE p.state IN ('due', 'retry', 'unknown') AND p.edited_at <= a.requested_at
                AND sync.waits_for(p) IS NULL END
        FROM asked a CROSS JOIN tried t
        LEFT JOIN sync.pending p ON p.tenant_id = a.tenant_id AND p.partner = a.partner AND p.entity = t.entity
            AND p.record_id = t.record_id
        WHERE NOT EXISTS (SELECT FROM stopped s WHERE s.entity = t.entity AND s.record_id = t.record_id)
    ), stands AS (
        SELECT c.moves, CASE
            WHEN b.badge NOT IN ('ok', 'delivered_with_warning') THEN b.badge
            WHEN s.outcome IN ('delivered', 'delivered_with_warning') THEN 'delivered'
            ELSE 'not_needed' END AS word
        FROM asked a CROSS JOIN covered c
        LEFT JOIN LATERAL (
            SELECT v.badge FROM sync.badge v WHERE v.tenant_id = a.tenant_id AND v.partner = a.partner
            AND v.entity = c.entity AND v.record_id = c.record_id LIMIT 1) b ON true
        LEFT JOIN sync.standing s ON s.tenant_id = a.tenant_id AND s.partner = a.partner AND s.entity = c.entity
            AND s.record_id = c.record_id
    )
    SELECT a.request_id, a.kind, a.tenant_id, a.partner, a.from_date, a.to_date, a.requested_at,
           count(n.word)::integer,
           (count(*) FILTER (WHERE n.word = 'delivered'))::integer,
           (count(*) FILTER (WHERE n.word = 'waiting'))::integer,
           (count(*) FILTER (WHERE n.word = 'retrying'))::integer,
           (count(*) FILTER (WHERE n.word = 'action_needed'))::integer,
           (count(*) FILTER (WHERE n.word = 'check_needed'))::integer,
           (count(*) FILTER (WHERE n.word = 'not_needed'))::integer,
           coalesce(NOT bool_or(n.moves), true) AND NOT EXISTS (
               SELECT FROM sync.update_event e
               LEFT JOIN sync.event_cursor k ON k.tenant_id = e.tenant_id AND k.partner = a.partner
               WHERE e.tenant_id = a.tenant_id AND e.at <= a.requested_at
                 AND (e.xid, e.event_id) > (coalesce(k.xid, xid8 '0'), coalesce(k.event_id, 0))
                 AND e.xid < pg_snapshot_xmax(pg_current_snapshot())) -- else of another cluster, before a restore
    FROM asked a LEFT JOIN stands n ON true
    GROUP BY a.request_id, a.kind, a.tenant_id, a.partner, a.from_date, a.to_date, a.requested_at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this tenant has no such request: give the id that push-week, release, request_push or request_retry told, and in SQL set the tenant first (set_config)'
            USING ERRCODE = 'ZT007';
    END IF;
END $$;

-- As before, but it tells more of records in question.
CREATE OR REPLACE VIEW sync.badge AS
SELECT open.tenant_id, open.partner, open.entity, open.record_id, open.version,
       CASE WHEN open.state = 'due' AND NOT open.is_broken THEN 'waiting'
            WHEN open.state = 'conflict' THEN 'check_needed'
            WHEN r.owner = 'user' THEN CASE open.state WHEN 'unknown' THEN 'check_needed' ELSE 'action_needed' END
            WHEN open.state IN ('due', 'retry', 'unknown') THEN 'retrying'
            ELSE 'check_needed' END AS badge,
       open.told AS reason, open.params, open.attempts, open.not_before, open.on_date, open.since
FROM (
    SELECT as_said.*, CASE as_said.why WHEN 'unknown' THEN sync.told(as_said.partner, as_said.params) ELSE as_said.why END
               AS told
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
) AS as_said) AS open
LEFT JOIN sync.reason r ON r.code = open.told
UNION ALL
SELECT s.tenant_id, s.partner, s.entity, s.record_id, s.version,
       CASE WHEN s.suspect_state = 'parked' THEN 'check_needed'
            WHEN s.suspect_state IS NOT NULL THEN 'retrying'
            WHEN s.outcome = 'delivered_with_warning' THEN 'delivered_with_warning'
            ELSE 'ok' END,
       CASE WHEN s.suspect_state IS NULL THEN s.reason
            WHEN s.suspect_reason = 'unknown' THEN sync.told(s.partner, s.suspect_params)
            ELSE s.suspect_reason END,
       CASE WHEN s.suspect_state IS NULL THEN s.params ELSE s.suspect_params END,
       s.suspect_attempts, s.suspect_not_before, s.on_date, s.suspect_since
FROM sync.standing s
WHERE s.version > 0
  AND NOT EXISTS (SELECT FROM sync.pending p WHERE p.tenant_id = s.tenant_id AND p.partner = s.partner
                  AND p.entity = s.entity AND p.record_id = s.record_id);

GRANT SELECT (suspect_cause) ON sync.standing TO zest_schedule, zest_alert;
GRANT SELECT (suspect_params) ON sync.standing TO zest_alert;
