-- What partners give a connection to be called with for a while: one for all its processes, sealed as its credential is.

CREATE TABLE sync.access_token (
    tenant_id  text NOT NULL,
    partner    text NOT NULL,
    ciphertext bytea NOT NULL,       -- sealed together with what it was given for; the key is not in the database
    good_until timestamptz NOT NULL, -- somewhat before the partner takes it no more
    PRIMARY KEY (tenant_id, partner),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection
);
ALTER TABLE sync.access_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync.access_token FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sync.access_token USING (tenant_id = current_setting('app.tenant', true));

-- Whoever calls a partner has the ledger's login besides its own, whichever way it works for.
GRANT SELECT, INSERT, UPDATE ON sync.access_token TO zest_budget;
GRANT SELECT (tenant_id, partner, good_until) ON sync.access_token TO zest_operator;
