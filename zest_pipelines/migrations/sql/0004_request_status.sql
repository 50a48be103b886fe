-- How far a request has come, for who made it: the product's own button, an operator's command. And a record's story in
-- full.

-- What was released for a person, of a connection: few rows of a large history.
CREATE INDEX result_released ON sync.result (tenant_id, partner, made_at) WHERE outcome = 'released';

-- A push request is about the records of its days; one that was edited since counts by its newest version, and holds
-- nothing up. A retry request is about what was stopped when it was made and is to be tried again, or was.
-- Each record counts once: `total` is the sum of the six that follow it. `is_done`: nothing of it goes by itself as things
-- stand, be it that the partner has all, or that the rest waits for a person, or for one whom the partner does not know.
CREATE FUNCTION sync.request_status(request uuid) RETURNS TABLE (
    request_id uuid, kind text, tenant_id text, partner text, from_date date, to_date date, requested_at timestamptz,
    total integer, delivered integer, waiting integer, retrying integer, action_needed integer, check_needed integer,
    not_needed integer, is_done boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT q.request_id, 'push' AS kind, q.tenant_id, q.partner, q.from_date, q.to_date, q.requested_at,
               NULL::text AS entity, NULL::uuid AS record_id
        FROM sync.push_request q WHERE q.request_id = request
        UNION ALL
        SELECT q.request_id, 'retry', q.tenant_id, q.partner, NULL, NULL, q.requested_at, q.entity, q.record_id
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
        SELECT DISTINCT r.entity, r.record_id
        FROM asked a
        JOIN sync.result r ON r.tenant_id = a.tenant_id AND r.partner = a.partner AND r.outcome = 'released'
            AND r.made_at > a.requested_at AND r.reason = 'asked_again'
            AND r.entity = coalesce(a.entity, r.entity) AND r.record_id = coalesce(a.record_id, r.record_id)
        WHERE a.kind = 'retry' AND (
            SELECT max(stopped.made_at) FROM sync.result stopped
            WHERE stopped.month = r.month AND stopped.tenant_id = r.tenant_id AND stopped.partner = r.partner
              AND stopped.entity = r.entity AND stopped.record_id = r.record_id AND stopped.version = r.version
              AND stopped.result_no < r.result_no) < a.requested_at
    ), stopped AS (
        SELECT p.entity, p.record_id
        FROM asked a
        JOIN sync.pending p ON p.tenant_id = a.tenant_id AND p.partner = a.partner
            AND p.state IN ('parked', 'conflict', 'retry')
            AND p.entity = coalesce(a.entity, p.entity) AND p.record_id = coalesce(a.record_id, p.record_id)
        WHERE a.kind = 'retry' AND (
            SELECT max(r.made_at) FROM sync.result r
            WHERE r.month = p.month AND r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
              AND r.record_id = p.record_id AND r.version = p.version) < a.requested_at
    ), covered AS (
        SELECT * FROM of_days
        UNION ALL
        SELECT t.entity, t.record_id, EXISTS (
            SELECT FROM sync.pending p WHERE p.tenant_id = a.tenant_id AND p.partner = a.partner
            AND p.entity = t.entity AND p.record_id = t.record_id AND p.state IN ('due', 'retry', 'unknown')
            AND p.edited_at <= a.requested_at AND sync.waits_for(p) IS NULL)
        FROM asked a CROSS JOIN tried t
        UNION ALL
        SELECT s.entity, s.record_id, true FROM stopped s
        WHERE NOT EXISTS (SELECT FROM tried t WHERE t.entity = s.entity AND t.record_id = s.record_id)
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
        RAISE EXCEPTION 'the tenant set in this transaction has no such request: give the id that request_push or request_retry returned, after SELECT set_config(''app.tenant'', ''<tenant id>'', true)'
            USING ERRCODE = 'ZT007';
    END IF;
END $$;

REVOKE EXECUTE ON FUNCTION sync.request_status(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.request_status(uuid) TO zest_product, zest_operator;

-- A record's whole life, one row a step: with persons' decisions, and what became of a copy that a late sender may have
-- touched.
CREATE OR REPLACE VIEW sync.delivery AS
SELECT e.tenant_id, e.entity, e.record_id, e.version, e.at, NULL::text AS partner, 'edited' AS what,
       NULL::text AS outcome, NULL::text AS reason, '{}'::jsonb AS params, e.event_id AS step
FROM sync.update_event e
UNION ALL
SELECT c.tenant_id, c.entity, c.record_id, c.version, c.made_at, c.partner, 'queued', NULL, NULL, '{}', 0
FROM sync.change c
UNION ALL
SELECT i.tenant_id, i.entity, i.record_id, i.version, i.made_at, i.partner, 'sent', i.verb, NULL, '{}', 0
FROM sync.intent i
UNION ALL
SELECT r.tenant_id, r.entity, r.record_id, r.version, r.made_at, r.partner,
       CASE WHEN r.outcome IN ('retry', 'unknown', 'conflict', 'parked', 'released') THEN 'answered' ELSE 'settled' END,
       r.outcome, r.reason, r.params, r.result_no
FROM sync.result r
UNION ALL
SELECT p.tenant_id, p.entity, p.record_id, p.version, p.made_at, p.partner, 'looked after', p.outcome, p.reason,
       p.params, p.repair_no
FROM sync.repair p
UNION ALL
SELECT d.tenant_id, d.entity, d.record_id, d.version, d.decided_at, d.partner, 'decided', d.act, NULL,
       jsonb_build_object('why', d.reason), 0
FROM sync.decision d;
