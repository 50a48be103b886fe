-- Who may look at the board: a token a reader, of which its digest alone is kept.

CREATE TABLE sync.board_token (
    tenant_id  text NOT NULL REFERENCES schedule.tenant,
    name       text NOT NULL,
    digest     bytea NOT NULL CHECK (length(digest) = 32),
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, name)
);
ALTER TABLE sync.board_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync.board_token FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sync.board_token USING (tenant_id = current_setting('app.tenant', true));

GRANT SELECT, INSERT, UPDATE ON sync.board_token TO zest_operator;

GRANT USAGE ON SCHEMA sync, schedule TO zest_board;
GRANT SELECT ON sync.board_token, sync.badge, sync.master_badge, sync.connection_badge, sync.badge_digest, sync.delivery,
                sync.reason TO zest_board;
GRANT SELECT (tenant_id, name) ON schedule.tenant TO zest_board;
GRANT SELECT (tenant_id, partner) ON sync.connection TO zest_board;
GRANT SELECT (tenant_id, partner, entity, record_id, version, result_no, made_at, outcome, reason, calls)
    ON sync.result TO zest_board;
GRANT EXECUTE ON FUNCTION sync.waits_for(sync.pending), sync.write_audit(text, text, text, jsonb) TO zest_board;
