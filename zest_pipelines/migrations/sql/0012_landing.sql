-- A reading keeps what it has seen in the database: it has any length, it can be taken up where it broke off, and what did
-- not come in a full one stands as a suspicion until it is proved or seen again.

ALTER TABLE sync.snapshot
    ADD COLUMN attempt  integer NOT NULL DEFAULT 1 CHECK (attempt > 0), -- raised by who takes the reading up: the one before stops
    ADD COLUMN mapping  text, -- version of the mapping that it reads by
    ADD COLUMN since    text, -- the cursor that it was begun with; NULL: of all records
    ADD COLUMN resume   text, -- the partner's token for the pages after the last one stored; NULL: begin anew
    ADD COLUMN progress jsonb, -- what was counted so far, for who takes it up
    ADD CHECK (state = 'reading' OR (resume IS NULL AND progress IS NULL));

-- What one page of a reading under way showed, known or new. Gone with the reading's end.
CREATE TABLE sync.sighting (
    tenant_id   text NOT NULL,
    snapshot_id uuid NOT NULL REFERENCES sync.snapshot,
    page        integer NOT NULL CHECK (page > 0),
    landed_nos  bigint[] NOT NULL, -- of the versions shown
    replaced    bigint[] NOT NULL DEFAULT '{}', -- of those in whose place a version on this page came
    PRIMARY KEY (tenant_id, snapshot_id, page)
);
-- Short-lived: compressing it costs more than it saves.
ALTER TABLE sync.sighting ALTER landed_nos SET STORAGE EXTERNAL, ALTER replaced SET STORAGE EXTERNAL;

-- A live record that a certified full reading did not show. Seen again, it is lifted; proved, it has landed as gone.
CREATE TABLE sync.suspicion (
    tenant_id   text NOT NULL,
    partner     text NOT NULL,
    entity      text NOT NULL CHECK (entity IN ('client', 'staff')),
    partner_id  text NOT NULL,
    snapshot_id uuid NOT NULL REFERENCES sync.snapshot, -- the last reading that did not show it
    absences    integer NOT NULL DEFAULT 1 CHECK (absences > 0), -- certified full readings without it, one after the other
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    asked_at    timestamptz, -- when the partner was last asked for it and did not say; NULL: not yet
    PRIMARY KEY (tenant_id, partner, entity, partner_id)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['sync.sighting', 'sync.suspicion'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_tenant ON %s USING (tenant_id = current_setting(''app.tenant'', true))', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO zest_land', t);
        EXECUTE format('GRANT SELECT ON %s TO zest_operator', t);
    END LOOP;
END $$;
