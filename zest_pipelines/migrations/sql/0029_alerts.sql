-- What reaches us before a customer calls: one alert a cause over all tenants, opened and recovered, and the notices of it.

-- Where notices go. The address holds a secret, so it is sealed.
CREATE TABLE sync.alert_target (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$'),
    sealed     bytea NOT NULL,
    quiet_from time, -- in Japan; what falls in between is held until the end, and then told together
    quiet_to   time,
    digest_at  time, -- in Japan; what comes is held until then
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((quiet_from IS NULL) = (quiet_to IS NULL))
);

-- One cause from its beginning to its end. It names no person and no record.
CREATE TABLE sync.alert (
    alert_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint  text NOT NULL,
    partner      text NOT NULL,
    reason       text NOT NULL,
    detail       text NOT NULL, -- what tells causes of one reason apart; may be empty
    records      integer NOT NULL,
    tenants      integer NOT NULL,
    first_at     timestamptz NOT NULL, -- since when, as the records tell
    opened_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    gone_at      timestamptz, -- since when it is not seen any more; NULL: it is
    recovered_at timestamptz -- it stayed away
);
CREATE UNIQUE INDEX alert_is_open_once ON sync.alert (fingerprint) WHERE recovered_at IS NULL;

-- What is to be told, made in the transaction that changes the alert.
CREATE TABLE sync.notice (
    notice_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id   bigint NOT NULL REFERENCES sync.alert,
    target     text NOT NULL REFERENCES sync.alert_target ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('opened', 'recovered')),
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz NOT NULL DEFAULT clock_timestamp(),
    is_held    boolean NOT NULL DEFAULT false, -- for quiet hours or a digest: told together with others
    attempts   integer NOT NULL DEFAULT 0,
    failed_for text, -- the class of what went wrong last
    sent_at    timestamptz,
    UNIQUE (alert_id, target, kind)
);
CREATE INDEX notice_unsent ON sync.notice (target, not_before) WHERE sent_at IS NULL;

GRANT SELECT, INSERT, DELETE ON sync.alert_target TO zest_operator;
GRANT SELECT ON sync.alert, sync.notice TO zest_operator;

GRANT USAGE ON SCHEMA sync TO zest_alert;
GRANT SELECT ON sync.alert_target, sync.reason TO zest_alert;
GRANT SELECT, INSERT, UPDATE ON sync.alert, sync.notice TO zest_alert;

-- It looks across tenants, at what is opaque.
GRANT SELECT (tenant_id, partner, state, reason, params, since, waits_for) ON sync.pending TO zest_alert;
GRANT SELECT (tenant_id, partner, reason, params, failures, since, until) ON sync.hold TO zest_alert;
GRANT SELECT (tenant_id, partner, entity, state, reason, params, started_at, finished_at) ON sync.snapshot TO zest_alert;
GRANT SELECT (tenant_id, partner, paused_at) ON sync.connection TO zest_alert;
CREATE POLICY alerts_see_all ON sync.pending FOR SELECT TO zest_alert USING (true);
CREATE POLICY alerts_see_all ON sync.hold FOR SELECT TO zest_alert USING (true);
CREATE POLICY alerts_see_all ON sync.snapshot FOR SELECT TO zest_alert USING (true);
CREATE POLICY alerts_see_all ON sync.connection FOR SELECT TO zest_alert USING (true);
