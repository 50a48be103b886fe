-- Badges of what comes in, of whole connections, and their numbers: derived, like the badge of a record.

CREATE INDEX master_result_open ON sync.master_result (tenant_id, partner, entity, partner_id)
    WHERE outcome IN ('rejected', 'held');

CREATE VIEW sync.master_badge AS
SELECT r.tenant_id, r.partner, r.entity, coalesce(r.record_id, i.record_id) AS record_id, r.landed_no,
       CASE WHEN why.owner = 'user' THEN 'action_needed' ELSE 'check_needed' END AS badge,
       r.reason, r.params, r.made_at AS since
FROM sync.master_result r
LEFT JOIN sync.identity i ON i.tenant_id = r.tenant_id AND i.partner = r.partner AND i.entity = r.entity
    AND i.partner_id = r.partner_id AND i.valid_to IS NULL
LEFT JOIN sync.reason why ON why.code = r.reason
WHERE r.outcome IN ('rejected', 'held')
  AND NOT EXISTS (
      SELECT FROM sync.master_result later
      WHERE later.tenant_id = r.tenant_id AND later.partner = r.partner AND later.entity = r.entity
        AND later.partner_id = r.partner_id AND (later.landed_no, later.result_no) > (r.landed_no, r.result_no));

COMMENT ON VIEW sync.master_badge IS
    'Clients and staff that the partner has otherwise than the product: one row each. None: it is as it last came.';
COMMENT ON COLUMN sync.master_badge.record_id IS 'client_id or staff_id; NULL: the product has no such record yet';
COMMENT ON COLUMN sync.master_badge.landed_no IS 'landed:N in checks and lists: what came';
COMMENT ON COLUMN sync.master_badge.badge IS 'action_needed or check_needed';
COMMENT ON COLUMN sync.master_badge.reason IS 'code in sync.reason, which has message and next action in both languages';
COMMENT ON COLUMN sync.master_badge.since IS 'when that was found';

CREATE VIEW sync.connection_badge AS
SELECT c.tenant_id, c.partner, coalesce(worst.badge, 'ok') AS badge, worst.reason, coalesce(worst.params, '{}') AS params,
       worst.since, worst.next_at
FROM sync.connection c
LEFT JOIN LATERAL (
    SELECT judged.* FROM (
    SELECT cause.*, CASE
               WHEN cause.reason = 'outside_window' THEN 'waiting'
               WHEN r.owner = 'user' THEN 'action_needed'
               WHEN r.owner IN ('partner', 'us') THEN 'retrying'
               ELSE 'check_needed' END AS badge
    FROM (
        SELECT 'connection_paused' AS reason, '{}'::jsonb AS params, c.paused_at AS since, NULL::timestamptz AS next_at
        WHERE c.paused_at IS NOT NULL
        UNION ALL
        SELECT h.reason, h.params, h.since, h.until FROM sync.hold h
        WHERE h.tenant_id = c.tenant_id AND h.partner = c.partner AND h.until > clock_timestamp()
        UNION ALL
        SELECT last.reason, last.params, last.finished_at, NULL
        FROM (VALUES ('client'), ('staff')) AS master (entity)
        CROSS JOIN LATERAL (
            SELECT s.state, s.reason, s.params, s.finished_at FROM sync.snapshot s
            WHERE s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = master.entity
              AND s.state <> 'reading'
            ORDER BY s.started_at DESC LIMIT 1) AS last
        WHERE last.state IN ('failed', 'incomplete')) AS cause
    LEFT JOIN sync.reason r ON r.code = cause.reason) AS judged
    ORDER BY array_position(ARRAY['check_needed', 'action_needed', 'retrying', 'waiting'], judged.badge), judged.since
    LIMIT 1) AS worst ON true;

COMMENT ON VIEW sync.connection_badge IS
    'How a whole connection stands, one row each: what keeps all of its records from going or coming, the worst first.';
COMMENT ON COLUMN sync.connection_badge.badge IS
    'ok; waiting (closed hours); retrying (we see to it); action_needed (the tenant''s people); check_needed (ask us)';
COMMENT ON COLUMN sync.connection_badge.reason IS 'code in sync.reason; NULL: ok';
COMMENT ON COLUMN sync.connection_badge.since IS 'when it began';
COMMENT ON COLUMN sync.connection_badge.next_at IS 'when it is tried again; NULL: with the next run, or it waits for a person';

CREATE VIEW sync.badge_digest AS
SELECT shown.tenant_id, shown.partner, shown.entity, shown.badge, shown.reason,
       CASE WHEN min(shown.params::text) = max(shown.params::text) THEN min(shown.params::text)::jsonb ELSE '{}' END
           AS params, count(*) AS records, min(shown.since) AS oldest, min(shown.next_at) AS next_at
FROM (
    SELECT tenant_id, partner, entity, badge, reason, params, since, not_before AS next_at FROM sync.badge WHERE badge <> 'ok'
    UNION ALL
    SELECT tenant_id, partner, entity, badge, reason, params, since, NULL FROM sync.master_badge) AS shown
GROUP BY shown.tenant_id, shown.partner, shown.entity, shown.badge, shown.reason;

COMMENT ON VIEW sync.badge_digest IS 'How many records of a connection have which badge for which reason; ok ones are not counted.';
COMMENT ON COLUMN sync.badge_digest.entity IS 'visit, visit_record (on their way out), client, staff (on their way in)';
COMMENT ON COLUMN sync.badge_digest.params IS 'what fills the reason''s sentences, if it is the same for all of them';
COMMENT ON COLUMN sync.badge_digest.oldest IS 'since when the oldest of them waits; NULL: delivered with a warning';
COMMENT ON COLUMN sync.badge_digest.next_at IS 'when the first of them is tried again; NULL: with the next run, or it waits for a person';

COMMENT ON VIEW sync.badge IS
    'How each visit and visit record stands at each partner that is to have it: one row a record and partner.';
COMMENT ON COLUMN sync.badge.badge IS
    'ok; delivered_with_warning; waiting (for its turn, or what it needs); retrying (we see to it); action_needed (the tenant''s people); check_needed (look at the partner''s screen, or ask us)';
COMMENT ON COLUMN sync.badge.version IS 'of the record: schedule.visit.version or visit_record.version';
COMMENT ON COLUMN sync.badge.reason IS 'code in sync.reason; NULL: nothing to say';
COMMENT ON COLUMN sync.badge.params IS 'what fills the places in the reason''s sentences: names of fields, codes, counts';
COMMENT ON COLUMN sync.badge.attempts IS 'how often it was tried in vain';
COMMENT ON COLUMN sync.badge.not_before IS 'not sent before; NULL: as soon as it is its turn';
COMMENT ON COLUMN sync.badge.on_date IS 'the day of the visit, in Japan';
COMMENT ON COLUMN sync.badge.since IS 'edit time of the oldest version that the partner has not got; NULL: it has all';

GRANT SELECT ON sync.master_badge, sync.connection_badge, sync.badge_digest TO zest_product, zest_operator;
