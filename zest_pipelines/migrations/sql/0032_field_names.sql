-- Names of the product's fields for those who put sync.reason's sentences together, and the reading of plans on the badge.

CREATE TABLE sync.field (
    field   text PRIMARY KEY,
    name_ja text NOT NULL,
    name_en text NOT NULL
);

COMMENT ON TABLE sync.field IS
    'What care staff call the fields that stand in params (field, fields) of a badge; one that is not here is the partner''s own word. Filled with every installation.';

GRANT SELECT ON sync.field TO zest_product, zest_operator;

CREATE OR REPLACE VIEW sync.connection_badge AS
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
        FROM (VALUES ('client'), ('staff'), ('plan')) AS read (entity)
        CROSS JOIN LATERAL (
            SELECT s.state, s.reason, s.params, s.finished_at FROM sync.snapshot s
            WHERE s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = read.entity
              AND s.state <> 'reading'
            ORDER BY s.started_at DESC LIMIT 1) AS last
        WHERE last.state IN ('failed', 'incomplete')) AS cause
    LEFT JOIN sync.reason r ON r.code = cause.reason) AS judged
    ORDER BY array_position(ARRAY['check_needed', 'action_needed', 'retrying', 'waiting'], judged.badge), judged.since
    LIMIT 1) AS worst ON true;
