-- A reading that broke off can be taken up; a wrong link can be undone.

DO $$
DECLARE name text;
BEGIN
    SELECT c.conname INTO STRICT name FROM pg_constraint c
    WHERE c.conrelid = 'sync.snapshot'::regclass AND c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE '%progress%';
    EXECUTE format('ALTER TABLE sync.snapshot DROP CONSTRAINT %I', name);
END $$;
-- Of a failed one: it broke off, and the next one takes it up there.
ALTER TABLE sync.snapshot ADD CONSTRAINT snapshot_taken_up CHECK (
    state IN ('reading', 'failed') OR (resume IS NULL AND progress IS NULL));

-- "It is not whom it is linked to": of a record that is linked. The links before it count no more, and what had become of
-- the record is asked again.
ALTER TABLE sync.identity_decision DROP CONSTRAINT identity_decision_act_check;
ALTER TABLE sync.identity_decision ADD CONSTRAINT identity_decision_act_check
    CHECK (act IN ('same', 'new', 'link', 'unlink', 'own'));
DO $$
DECLARE name text;
BEGIN
    SELECT c.conname INTO STRICT name FROM pg_constraint c
    WHERE c.conrelid = 'sync.identity_decision'::regclass AND c.contype = 'c'
      AND pg_get_constraintdef(c.oid) LIKE '%record_id%';
    EXECUTE format('ALTER TABLE sync.identity_decision DROP CONSTRAINT %I', name);
END $$;
ALTER TABLE sync.identity_decision ADD CONSTRAINT identity_decision_record
    CHECK ((act IN ('link', 'own')) = (record_id IS NOT NULL));
CREATE INDEX identity_decision_of_owner ON sync.identity_decision (tenant_id, entity, record_id, decided_at)
    WHERE act = 'own';

-- A change ends once, and once more whenever a person undoes what came of it.
ALTER TABLE sync.master_result
    ADD COLUMN undone integer NOT NULL DEFAULT 0; -- how often a person had undone by then what came of this version
DROP INDEX sync.master_result_ends_once;
CREATE UNIQUE INDEX master_result_ends_once
    ON sync.master_result (tenant_id, partner, entity, partner_id, landed_no, undone) WHERE outcome <> 'held';

-- Returns the number of the version that the word is about.
CREATE FUNCTION sync.unlink_identity(tenant text, partner text, entity text, partner_id text, reason text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    made bigint;
    kinds text[];
BEGIN
    PERFORM sync.require_connection(tenant, partner);
    IF nullif(trim(reason), '') IS NULL THEN
        RAISE EXCEPTION 'why the link is wrong must be said: give a reason' USING ERRCODE = 'ZT005';
    END IF;
    SELECT array_agg(i.entity) INTO kinds FROM sync.identity i
    WHERE i.tenant_id = tenant AND i.partner = unlink_identity.partner AND i.partner_id = unlink_identity.partner_id
      AND i.entity = coalesce(unlink_identity.entity, i.entity) AND i.valid_to IS NULL;
    IF kinds IS NULL THEN
        RAISE EXCEPTION 'that id is linked to none of our records: check the id' USING ERRCODE = 'ZT006';
    END IF;
    IF cardinality(kinds) > 1 THEN
        RAISE EXCEPTION 'a client and a member of staff have that id: say which of them' USING ERRCODE = 'ZT005';
    END IF;
    -- An application sees all of the word, or nothing: its results are told from the word by their times.
    PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'apply', tenant, kinds[1]), 0));
    INSERT INTO sync.identity_decision AS d (tenant_id, partner, entity, partner_id, landed_no, act, reason, decided_by)
    SELECT c.tenant_id, c.partner, c.entity, c.partner_id, c.landed_no, 'unlink', trim(unlink_identity.reason),
           session_user
    FROM sync.master_change c
    WHERE c.tenant_id = tenant AND c.partner = unlink_identity.partner AND c.entity = kinds[1]
      AND c.partner_id = unlink_identity.partner_id AND c.after IS NOT NULL
    ORDER BY c.landed_no DESC LIMIT 1
    RETURNING d.landed_no INTO STRICT made;
    RETURN made;
END $$;

REVOKE EXECUTE ON FUNCTION sync.unlink_identity(text, text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.unlink_identity(text, text, text, text, text) TO zest_operator;

-- "From now on this partner says what they are": of all masters of a kind that are linked at it and that another partner
-- owns. Returns how many. An application sees all of it, or nothing.
CREATE FUNCTION sync.own_identities(tenant text, partner text, entity text, reason text)
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
          AND m.partner_id = i.partner_id AND m.after IS NOT NULL
        ORDER BY m.landed_no DESC LIMIT 1) AS c
    WHERE i.tenant_id = tenant AND i.partner = own_identities.partner AND i.entity = own_identities.entity
      AND i.valid_to IS NULL AND NOT i.is_owner;
    GET DIAGNOSTICS made = ROW_COUNT;
    RETURN made;
END $$;

REVOKE EXECUTE ON FUNCTION sync.own_identities(text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.own_identities(text, text, text, text) TO zest_operator;
