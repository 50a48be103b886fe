-- "Send it again" of a group: what is stopped for one reason, or what belongs to some days.

ALTER TABLE sync.retry_request
    ADD COLUMN reason text, -- for which it is stopped; NULL: for whatever
    ADD COLUMN from_date date, -- NULL: of whatever day
    ADD COLUMN to_date date,
    ADD CHECK ((from_date IS NULL) = (to_date IS NULL) AND from_date <= to_date);
GRANT SELECT (reason, from_date, to_date) ON sync.retry_request TO zest_schedule;
GRANT SELECT (suspect_reason, on_date) ON sync.standing TO zest_schedule;

-- As before, but for groups.
DROP FUNCTION sync.request_retry(text, text, text, uuid);
CREATE FUNCTION sync.request_retry(tenant text, partner text, entity text DEFAULT NULL, record_id uuid DEFAULT NULL,
                                   reason text DEFAULT NULL, from_date date DEFAULT NULL, to_date date DEFAULT NULL)
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
    IF reason IS NOT NULL AND NOT EXISTS (SELECT FROM sync.reason r WHERE r.code = request_retry.reason) THEN
        RAISE EXCEPTION 'there is no such reason: sync.badge and sync.reason have the codes' USING ERRCODE = 'ZT005';
    END IF;
    IF (from_date IS NULL) <> (to_date IS NULL) OR from_date > to_date THEN
        RAISE EXCEPTION 'give both days, the first one first, or none' USING ERRCODE = 'ZT005';
    END IF;
    INSERT INTO sync.retry_request AS r (tenant_id, partner, entity, record_id, reason, from_date, to_date, requested_by)
    VALUES (tenant, request_retry.partner, request_retry.entity, request_retry.record_id, request_retry.reason,
            request_retry.from_date, request_retry.to_date, session_user)
    RETURNING r.request_id INTO made;
    RETURN made;
END $$;
REVOKE EXECUTE ON FUNCTION sync.request_retry(text, text, text, uuid, text, date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.request_retry(text, text, text, uuid, text, date, date) TO zest_product, zest_operator;

-- As before, but for groups.
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
               NULL::text AS entity, NULL::uuid AS record_id, NULL::text AS why
        FROM sync.push_request q WHERE q.request_id = request
        UNION ALL
        SELECT q.request_id, 'retry', q.tenant_id, q.partner, q.from_date, q.to_date, q.requested_at, q.entity,
               q.record_id, q.reason
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
          AND (a.why IS NULL OR a.why = (
              SELECT stopped.reason FROM sync.result stopped
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
          AND (a.why IS NULL OR a.why = (
              SELECT stopped.reason FROM sync.repair stopped
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
            AND p.reason = coalesce(a.why, p.reason)
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
            AND s.suspect_reason = coalesce(a.why, s.suspect_reason)
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
