-- What others read. Nobody writes a view; their owner is bound by row-level security, so each shows one tenant.

-- One row a record and connection that the partner must receive or has received.
CREATE VIEW sync.badge AS
SELECT open.tenant_id, open.partner, open.entity, open.record_id, open.version,
       CASE WHEN open.state = 'due' THEN 'waiting'
            WHEN open.state = 'conflict' THEN 'check_needed'
            WHEN r.owner = 'user' THEN CASE open.state WHEN 'unknown' THEN 'check_needed' ELSE 'action_needed' END
            WHEN open.state IN ('retry', 'unknown') THEN 'retrying'
            ELSE 'check_needed' END AS badge,
       open.why AS reason, open.params, open.attempts, open.not_before, open.on_date, open.since
FROM (
    SELECT p.*, CASE
        WHEN p.state <> 'due' THEN p.reason
        WHEN c.paused_at IS NOT NULL THEN 'connection_paused'
        WHEN p.op = 'upsert' AND client.record_id IS NULL THEN 'client_not_yet_at_partner'
        WHEN p.op = 'upsert' AND p.staff_id IS NOT NULL AND staff.record_id IS NULL THEN 'staff_not_yet_at_partner'
        WHEN p.op = 'upsert' AND p.entity = 'visit_record' AND (visit.partner_id IS NULL OR visit.is_cancelled)
        THEN 'visit_not_yet_delivered'
        WHEN c.timing = 'week' AND NOT EXISTS (
            SELECT FROM sync.push_request r WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner
            AND p.on_date BETWEEN r.from_date AND r.to_date AND r.requested_at >= p.edited_at)
        THEN 'not_requested_yet' END AS why
    FROM sync.pending p
    JOIN sync.connection c ON c.tenant_id = p.tenant_id AND c.partner = p.partner
    LEFT JOIN sync.identity client ON client.tenant_id = p.tenant_id AND client.partner = p.partner
        AND client.entity = 'client' AND client.record_id = p.client_id AND client.valid_to IS NULL
    LEFT JOIN sync.identity staff ON staff.tenant_id = p.tenant_id AND staff.partner = p.partner
        AND staff.entity = 'staff' AND staff.record_id = p.staff_id AND staff.valid_to IS NULL
    LEFT JOIN LATERAL (
        SELECT r.partner_id, r.is_cancelled FROM sync.result r
        WHERE p.entity = 'visit_record' AND r.tenant_id = p.tenant_id AND r.partner = p.partner
          AND r.entity = 'visit' AND r.record_id = p.record_id AND r.outcome IN ('delivered', 'delivered_with_warning')
        ORDER BY r.version DESC LIMIT 1) visit ON true
) AS open
LEFT JOIN sync.reason r ON r.code = open.why
UNION ALL
(SELECT DISTINCT ON (r.tenant_id, r.partner, r.entity, r.record_id)
       r.tenant_id, r.partner, r.entity, r.record_id, r.version,
       CASE r.outcome WHEN 'delivered_with_warning' THEN 'delivered_with_warning' ELSE 'ok' END,
       r.reason, r.params, 0, NULL::timestamptz, c.on_date, NULL::timestamptz
FROM sync.result r
JOIN sync.change c ON c.tenant_id = r.tenant_id AND c.partner = r.partner AND c.entity = r.entity
    AND c.record_id = r.record_id AND c.version = r.version AND c.month = r.month
WHERE r.outcome IN ('delivered', 'delivered_with_warning', 'not_needed', 'abandoned')
  AND NOT EXISTS (SELECT FROM sync.pending p WHERE p.tenant_id = r.tenant_id AND p.partner = r.partner
                  AND p.entity = r.entity AND p.record_id = r.record_id)
ORDER BY r.tenant_id, r.partner, r.entity, r.record_id, r.version DESC);

-- A record's whole life, one row a step.
CREATE VIEW sync.delivery AS
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
FROM sync.result r;

-- A connection in numbers.
CREATE VIEW sync.connection_health AS
SELECT c.tenant_id, c.partner, c.timing, c.paused_at IS NOT NULL AS is_paused, c.pause_reason,
       coalesce(p.pending, 0) AS pending, coalesce(p.parked, 0) AS parked, coalesce(p.unknown, 0) AS unknown,
       p.oldest
FROM sync.connection c
LEFT JOIN LATERAL (
    SELECT count(*) AS pending, count(*) FILTER (WHERE state = 'parked') AS parked,
           count(*) FILTER (WHERE state IN ('unknown', 'conflict')) AS unknown,
           min(since) FILTER (WHERE state <> 'parked') AS oldest
    FROM sync.pending WHERE tenant_id = c.tenant_id AND partner = c.partner) p ON true;
