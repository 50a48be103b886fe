-- A partner that has no staff cannot be told who comes, so nothing waits until it knows them.

ALTER TABLE sync.connection
    ADD COLUMN has_staff boolean NOT NULL DEFAULT true; -- whether the partner keeps staff of its own

CREATE OR REPLACE FUNCTION sync.waits_for(p sync.pending) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    RETURN (
        SELECT CASE
            WHEN s.doubt_intent IS NOT NULL OR s.version >= p.version THEN NULL
            WHEN p.op = 'upsert' AND NOT EXISTS (
                SELECT FROM sync.identity i WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner
                  AND i.entity = 'client' AND i.record_id = p.client_id AND i.valid_to IS NULL)
            THEN 'client'
            WHEN p.op = 'upsert' AND p.staff_id IS NOT NULL AND n.has_staff AND NOT EXISTS (
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
