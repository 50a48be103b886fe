-- A new owner's newest word counts, also that a record is gone. The guard knows which suspects the partner was asked for.

GRANT SELECT (asked_at) ON sync.suspicion TO zest_apply;

CREATE OR REPLACE FUNCTION sync.own_identities(tenant text, partner text, entity text, reason text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    made bigint;
BEGIN
    PERFORM sync.require_connection(tenant, partner);
    IF nullif(trim(reason), '') IS NULL THEN
        RAISE EXCEPTION 'why the owner is another one must be said: give a reason' USING ERRCODE = 'ZT005';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'apply', tenant, entity), 0));
    INSERT INTO sync.identity_decision (tenant_id, partner, entity, partner_id, landed_no, act, record_id, reason,
                                        decided_by)
    SELECT i.tenant_id, i.partner, i.entity, i.partner_id, c.landed_no, 'own', i.record_id, trim(own_identities.reason),
           session_user
    FROM sync.identity i
    CROSS JOIN LATERAL (
        SELECT m.landed_no FROM sync.master_change m
        WHERE m.tenant_id = i.tenant_id AND m.partner = i.partner AND m.entity = i.entity
          AND m.partner_id = i.partner_id
        ORDER BY m.landed_no DESC LIMIT 1) AS c
    WHERE i.tenant_id = tenant AND i.partner = own_identities.partner AND i.entity = own_identities.entity
      AND i.valid_to IS NULL AND NOT i.is_owner;
    GET DIAGNOSTICS made = ROW_COUNT;
    RETURN made;
END $$;
