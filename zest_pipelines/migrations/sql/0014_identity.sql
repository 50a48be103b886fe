-- Who is who. The partner that a master came from owns its fields; another partner's id may be linked to it and writes
-- nothing. What cannot be told waits for a person's word.

ALTER TABLE sync.identity
    ADD COLUMN is_owner boolean NOT NULL DEFAULT true; -- whether what this partner says is written into the master
CREATE UNIQUE INDEX identity_of_owner
    ON sync.identity (tenant_id, entity, record_id) WHERE valid_to IS NULL AND is_owner;

ALTER TABLE sync.connection
    ADD COLUMN creates  text[] NOT NULL DEFAULT '{client,staff}' -- kinds of master of which a new record makes one
        CHECK (creates <@ ARRAY['client', 'staff']),
    ADD COLUMN match_on jsonb NOT NULL DEFAULT '{}' -- of the other kinds: the fields in which a new record must agree
        CHECK (jsonb_typeof(match_on) = 'object');

-- A person's word on one record that waits, as it was then. It holds for later versions of the same person.
CREATE TABLE sync.identity_decision (
    decision_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id   text NOT NULL,
    partner     text NOT NULL,
    entity      text NOT NULL CHECK (entity IN ('client', 'staff')),
    partner_id  text NOT NULL,
    landed_no   bigint NOT NULL, -- of the master change that waited
    act         text NOT NULL CHECK (act IN ('same', 'new', 'link')),
    record_id   uuid, -- of a link: ours
    reason      text, -- NULL: none was given
    decided_by  text NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection,
    CHECK ((act = 'link') = (record_id IS NOT NULL))
);
CREATE INDEX identity_decision_of_record
    ON sync.identity_decision (tenant_id, partner, entity, partner_id, decided_at);
ALTER TABLE sync.identity_decision ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync.identity_decision FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sync.identity_decision USING (tenant_id = current_setting('app.tenant', true));
CREATE POLICY scheduler_sees_all ON sync.identity_decision FOR SELECT TO zest_schedule USING (true);
CREATE TRIGGER refuse_rewrite BEFORE UPDATE OR DELETE ON sync.identity_decision
    FOR EACH ROW EXECUTE FUNCTION sync.refuse_rewrite();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sync.identity_decision
    FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite();
ALTER TABLE sync.identity_decision ENABLE ALWAYS TRIGGER refuse_rewrite;
ALTER TABLE sync.identity_decision ENABLE ALWAYS TRIGGER refuse_truncate;

-- "It is the same person" (same), "it is another one" (new), or "it is this one of ours" (link): of a record that waits.
CREATE FUNCTION sync.settle_identity(tenant text, partner text, landed_no bigint, act text, record_id uuid, reason text)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    made uuid;
    c sync.master_change;
    why text;
BEGIN
    PERFORM sync.require_connection(tenant, partner);
    IF act IS NULL OR act NOT IN ('same', 'new', 'link') OR (act = 'link') <> (record_id IS NOT NULL) THEN
        RAISE EXCEPTION 'there is no such decision: it is same, new, or link with one of our records'
            USING ERRCODE = 'ZT005';
    END IF;
    SELECT * INTO c FROM sync.master_change m WHERE m.tenant_id = tenant AND m.partner = settle_identity.partner
        AND m.landed_no = settle_identity.landed_no AND NOT EXISTS (
            SELECT FROM sync.master_change later WHERE later.tenant_id = m.tenant_id AND later.partner = m.partner
              AND later.entity = m.entity AND later.partner_id = m.partner_id AND later.landed_no > m.landed_no);
    SELECT r.reason INTO why FROM sync.master_result r WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner
        AND r.entity = c.entity AND r.partner_id = c.partner_id AND r.landed_no = c.landed_no
    ORDER BY r.result_no DESC LIMIT 1;
    IF why IS NULL OR why NOT IN ('partner_id_reused', 'identity_unmatched', 'identity_ambiguous') THEN
        RAISE EXCEPTION 'that record does not wait for a decision on who it is: zest identities lists those that do'
            USING ERRCODE = 'ZT006';
    END IF;
    IF act = 'same' AND why <> 'partner_id_reused' THEN
        RAISE EXCEPTION 'that record was nobody before: say that it is a new one, or which of ours it is'
            USING ERRCODE = 'ZT005';
    END IF;
    IF act = 'link' AND NOT EXISTS (
        SELECT FROM schedule.client k WHERE c.entity = 'client' AND k.tenant_id = tenant
          AND k.client_id = settle_identity.record_id
        UNION ALL
        SELECT FROM schedule.staff s WHERE c.entity = 'staff' AND s.tenant_id = tenant
          AND s.staff_id = settle_identity.record_id) THEN
        RAISE EXCEPTION 'this tenant has no such record of ours: check the id' USING ERRCODE = 'ZT006';
    END IF;
    IF act = 'link' AND EXISTS (
        SELECT FROM sync.identity i WHERE i.tenant_id = tenant AND i.partner = c.partner AND i.entity = c.entity
          AND i.record_id = settle_identity.record_id AND i.partner_id <> c.partner_id AND i.valid_to IS NULL) THEN
        RAISE EXCEPTION 'that record of ours has another id at this partner already: have the one that is too many removed there'
            USING ERRCODE = 'ZT008';
    END IF;
    INSERT INTO sync.identity_decision AS d (tenant_id, partner, entity, partner_id, landed_no, act, record_id, reason,
                                             decided_by)
    VALUES (c.tenant_id, c.partner, c.entity, c.partner_id, c.landed_no, settle_identity.act, settle_identity.record_id,
            nullif(trim(settle_identity.reason), ''), session_user)
    RETURNING d.decision_id INTO made;
    RETURN made;
END $$;

REVOKE EXECUTE ON FUNCTION sync.settle_identity(text, text, bigint, text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sync.settle_identity(text, text, bigint, text, uuid, text) TO zest_operator;
GRANT SELECT ON sync.identity_decision TO zest_apply, zest_operator;
GRANT SELECT (tenant_id, partner, creates, match_on) ON sync.connection TO zest_apply;
-- Who has a word that is not carried out yet.
GRANT SELECT (tenant_id, partner, entity, partner_id, landed_no, decided_at) ON sync.identity_decision TO zest_schedule;
GRANT SELECT (made_at) ON sync.master_result TO zest_schedule;

-- Whoever waits, and has waited: few of all results.
CREATE INDEX master_result_of_waiting ON sync.master_result (tenant_id, partner, entity, partner_id, landed_no)
    WHERE outcome = 'held' AND reason IN ('partner_id_reused', 'identity_unmatched', 'identity_ambiguous');
