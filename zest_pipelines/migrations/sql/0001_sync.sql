-- Schema `sync`: the integration's own tables, each with one writer (docs/architecture.md draws them).
-- History (update_event, change, intent, result) is partitioned by the month of the edit that caused it: an edit's
-- whole life lies in one month's partitions. What is known of a record at its partner is read from all months, so none
-- may be detached before that is kept elsewhere.

-- Settings -----------------------------------------------------------------------------------------------------------

CREATE TABLE sync.connection (
    tenant_id    text NOT NULL REFERENCES schedule.tenant,
    partner      text NOT NULL,
    base_url     text NOT NULL,
    timing       text NOT NULL CHECK (timing IN ('minute', 'week')),
    settings     jsonb NOT NULL DEFAULT '{}',
    limits       text[], -- NULL: the partner's defaults
    land_every   interval NOT NULL DEFAULT '1 hour' CHECK (land_every >= '1 minute'),
    paused_at    timestamptz,
    pause_reason text,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, partner),
    CHECK ((paused_at IS NULL) = (pause_reason IS NULL))
);

CREATE TABLE sync.credential (
    tenant_id  text NOT NULL,
    partner    text NOT NULL,
    ciphertext bytea NOT NULL, -- sealed; the key is not in the database
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, partner),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection
);

-- The way in ---------------------------------------------------------------------------------------------------------

CREATE TABLE sync.snapshot (
    snapshot_id  uuid PRIMARY KEY,
    tenant_id    text NOT NULL,
    partner      text NOT NULL,
    entity       text NOT NULL CHECK (entity IN ('client', 'staff')),
    state        text NOT NULL CHECK (state IN ('reading', 'certified', 'incomplete', 'failed')),
    is_full      boolean,
    reason       text,
    params       jsonb NOT NULL DEFAULT '{}',
    pages        integer NOT NULL DEFAULT 0,
    records      integer NOT NULL DEFAULT 0,
    new_versions integer NOT NULL DEFAULT 0,
    cursor       text, -- where the next incremental reading starts; NULL: it must be full
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    touched_at   timestamptz NOT NULL DEFAULT clock_timestamp(), -- by each page: a reading that stands still is dead
    finished_at  timestamptz,
    CHECK ((state = 'reading') = (finished_at IS NULL))
);
CREATE INDEX snapshot_newest ON sync.snapshot (tenant_id, partner, entity, started_at DESC);

-- Every state in which a partner showed a record, once; the newest one is what it is now.
CREATE TABLE sync.landed_version (
    tenant_id       text NOT NULL,
    partner         text NOT NULL,
    entity          text NOT NULL CHECK (entity IN ('client', 'staff')),
    partner_id      text NOT NULL,
    landed_no       bigint NOT NULL,
    snapshot_id     uuid NOT NULL REFERENCES sync.snapshot,
    fingerprint     bytea, -- NULL: gone
    partner_version text NOT NULL DEFAULT '',
    content         jsonb, -- as the partner says it; NULL: gone
    master          jsonb, -- as the product would keep it; NULL: gone or unmappable
    problem         text,  -- reason code if unmappable
    params          jsonb NOT NULL DEFAULT '{}',
    landed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, partner, entity, partner_id, landed_no),
    CHECK ((fingerprint IS NULL) = (content IS NULL)),
    CHECK (content IS NULL OR (master IS NULL) = (problem IS NOT NULL))
);
CREATE SEQUENCE sync.landed_no AS bigint OWNED BY sync.landed_version.landed_no;
ALTER TABLE sync.landed_version ALTER landed_no SET DEFAULT nextval('sync.landed_no');

-- 取込差分: one step of a master, from what is applied to what landed.
CREATE TABLE sync.master_change (
    tenant_id  text NOT NULL,
    partner    text NOT NULL,
    entity     text NOT NULL CHECK (entity IN ('client', 'staff')),
    partner_id text NOT NULL,
    landed_no  bigint NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('add', 'change', 'delete', 'unmappable')),
    fields     text[] NOT NULL,
    before     jsonb,
    after      jsonb,
    problem    text,
    params     jsonb NOT NULL DEFAULT '{}',
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, partner, entity, partner_id, landed_no),
    CHECK ((kind = 'unmappable') = (problem IS NOT NULL))
);

-- 取込結果: how it ended. `held` is open, all others are terminal.
CREATE TABLE sync.master_result (
    tenant_id  text NOT NULL,
    partner    text NOT NULL,
    entity     text NOT NULL CHECK (entity IN ('client', 'staff')),
    partner_id text NOT NULL,
    landed_no  bigint NOT NULL,
    result_no  bigint NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('applied', 'rejected', 'superseded', 'held')),
    reason     text,
    params     jsonb NOT NULL DEFAULT '{}',
    record_id  uuid,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, partner, entity, partner_id, landed_no, result_no),
    CHECK (outcome IN ('applied', 'superseded') OR reason IS NOT NULL)
);
CREATE SEQUENCE sync.master_result_no AS bigint OWNED BY sync.master_result.result_no;
ALTER TABLE sync.master_result ALTER result_no SET DEFAULT nextval('sync.master_result_no');
CREATE UNIQUE INDEX master_result_ends_once
    ON sync.master_result (tenant_id, partner, entity, partner_id, landed_no) WHERE outcome <> 'held';

-- A master's id at a partner and ours, over time.
CREATE TABLE sync.identity (
    tenant_id  text NOT NULL,
    partner    text NOT NULL,
    entity     text NOT NULL CHECK (entity IN ('client', 'staff')),
    partner_id text NOT NULL,
    record_id  uuid NOT NULL,
    number     text NOT NULL DEFAULT '', -- what people at the partner call the record by
    valid_from timestamptz NOT NULL DEFAULT clock_timestamp(),
    valid_to   timestamptz, -- NULL: still valid
    PRIMARY KEY (tenant_id, partner, entity, partner_id, valid_from),
    CHECK (valid_to > valid_from)
);
CREATE UNIQUE INDEX identity_of_partner_id
    ON sync.identity (tenant_id, partner, entity, partner_id) WHERE valid_to IS NULL;
CREATE UNIQUE INDEX identity_of_record
    ON sync.identity (tenant_id, partner, entity, record_id) WHERE valid_to IS NULL;

-- The way out --------------------------------------------------------------------------------------------------------

CREATE TABLE sync.update_event (
    month     date NOT NULL,
    event_id  bigint NOT NULL,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(), -- with event_id: a cursor of visibility, not an order
    tenant_id text NOT NULL,
    entity    text NOT NULL CHECK (entity IN ('visit', 'visit_record')),
    record_id uuid NOT NULL,
    version   bigint NOT NULL,
    op        text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
    image     jsonb NOT NULL, -- the whole row; of a visit_record with its visit's start
    at        timestamptz NOT NULL,
    PRIMARY KEY (month, event_id)
) PARTITION BY RANGE (month);
CREATE SEQUENCE sync.event_id AS bigint;
ALTER TABLE sync.update_event ALTER event_id SET DEFAULT nextval('sync.event_id');
CREATE INDEX update_event_cursor ON sync.update_event (tenant_id, xid, event_id);
CREATE UNIQUE INDEX update_event_version ON sync.update_event (tenant_id, entity, record_id, version, month);

-- The last version of a deleted record, so that one inserted again under its id goes on from there.
CREATE TABLE sync.tombstone (
    tenant_id text NOT NULL,
    entity    text NOT NULL,
    record_id uuid NOT NULL,
    version   bigint NOT NULL,
    PRIMARY KEY (tenant_id, entity, record_id)
);

-- How far a connection's accumulation has read the update events.
CREATE TABLE sync.event_cursor (
    tenant_id text NOT NULL,
    partner   text NOT NULL,
    xid       xid8 NOT NULL,
    event_id  bigint NOT NULL,
    PRIMARY KEY (tenant_id, partner)
);

-- 反映履歴: one version of one record that a connection must receive.
CREATE TABLE sync.change (
    month     date NOT NULL,
    tenant_id text NOT NULL,
    partner   text NOT NULL,
    entity    text NOT NULL CHECK (entity IN ('visit', 'visit_record')),
    record_id uuid NOT NULL,
    version   bigint NOT NULL,
    op        text NOT NULL CHECK (op IN ('upsert', 'cancel')),
    image     jsonb NOT NULL,
    client_id uuid NOT NULL,
    staff_id  uuid,
    on_date   date NOT NULL, -- the visit's day in the tenant's time zone
    edited_at timestamptz NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, partner, entity, record_id, version, month)
) PARTITION BY RANGE (month);

-- 送信意図: "we are about to send this", committed before the first byte.
CREATE TABLE sync.intent (
    month           date NOT NULL,
    intent_id       uuid NOT NULL,
    tenant_id       text NOT NULL,
    partner         text NOT NULL,
    entity          text NOT NULL,
    record_id       uuid NOT NULL,
    version         bigint NOT NULL,
    epoch           bigint NOT NULL, -- of the lease under which it was written
    verb            text NOT NULL CHECK (verb IN ('create', 'update', 'cancel')),
    key             text NOT NULL,
    partner_id      text,
    partner_version text,
    links           jsonb NOT NULL, -- the partner's ids of what the record refers to
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (month, intent_id)
) PARTITION BY RANGE (month);
CREATE INDEX intent_of_record ON sync.intent (tenant_id, partner, entity, record_id, version);

-- 反映結果: how an intent or a change ended, for now or for good.
CREATE TABLE sync.result (
    month           date NOT NULL,
    result_no       bigint NOT NULL,
    tenant_id       text NOT NULL,
    partner         text NOT NULL,
    entity          text NOT NULL,
    record_id       uuid NOT NULL,
    version         bigint NOT NULL,
    intent_id       uuid, -- NULL: it ended without a call
    outcome         text NOT NULL CHECK (outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed',
                        'abandoned', 'retry', 'unknown', 'conflict', 'parked', 'released')),
    reason          text,
    params          jsonb NOT NULL DEFAULT '{}',
    partner_id      text,
    partner_version text,
    is_cancelled    boolean NOT NULL DEFAULT false, -- of a delivered one: the partner holds it as cancelled
    not_before      timestamptz,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (month, result_no),
    CHECK (outcome NOT IN ('delivered', 'delivered_with_warning') OR partner_id IS NOT NULL),
    CHECK (outcome NOT IN ('retry', 'unknown', 'conflict', 'parked', 'released', 'delivered_with_warning', 'abandoned')
           OR reason IS NOT NULL)
) PARTITION BY RANGE (month);
CREATE SEQUENCE sync.result_no AS bigint;
ALTER TABLE sync.result ALTER result_no SET DEFAULT nextval('sync.result_no');
CREATE INDEX result_of_record ON sync.result (tenant_id, partner, entity, record_id, version, result_no);
CREATE INDEX result_of_connection ON sync.result (tenant_id, partner, result_no);
CREATE UNIQUE INDEX result_ends_a_change_once
    ON sync.result (tenant_id, partner, entity, record_id, version, month)
    WHERE outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned');
CREATE UNIQUE INDEX result_ends_an_intent_once
    ON sync.result (intent_id, month) WHERE outcome <> 'unknown';

-- The one derived table: the newest open change of each record. Written by two trigger functions alone.
CREATE TABLE sync.pending (
    tenant_id  text NOT NULL,
    partner    text NOT NULL,
    entity     text NOT NULL,
    record_id  uuid NOT NULL,
    version    bigint NOT NULL,
    month      date NOT NULL,
    op         text NOT NULL,
    client_id  uuid NOT NULL,
    staff_id   uuid,
    on_date    date NOT NULL,
    state      text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'retry', 'unknown', 'conflict', 'parked')),
    reason     text,
    params     jsonb NOT NULL DEFAULT '{}',
    attempts   integer NOT NULL DEFAULT 0, -- open results since the version came or was released
    not_before timestamptz,
    edited_at  timestamptz NOT NULL, -- of this version
    since      timestamptz NOT NULL, -- of the oldest edit that the partner has not got
    PRIMARY KEY (tenant_id, partner, entity, record_id)
);
CREATE INDEX pending_queue ON sync.pending (tenant_id, partner, attempts, since)
    WHERE state IN ('due', 'retry', 'unknown');

CREATE TABLE sync.lease (
    tenant_id text NOT NULL,
    partner   text NOT NULL,
    epoch     bigint NOT NULL,
    holder    text NOT NULL, -- '' once it was given back: one that merely ran out was left by a push that died
    until     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, partner)
);

CREATE TABLE sync.push_request (
    request_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    text NOT NULL,
    partner      text NOT NULL,
    from_date    date NOT NULL,
    to_date      date NOT NULL, -- inclusive
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, partner) REFERENCES sync.connection,
    CHECK (to_date >= from_date)
);
CREATE INDEX push_request_of_connection ON sync.push_request (tenant_id, partner, requested_at);

-- The catalogue of reasons, as this version of the platform has it: put here by the migrator, read by the product.
CREATE TABLE sync.reason (
    code       text PRIMARY KEY,
    owner      text NOT NULL CHECK (owner IN ('user', 'partner', 'us', 'unknown')),
    message_ja text NOT NULL, -- with {parameter} places
    action_ja  text NOT NULL,
    message_en text NOT NULL,
    action_en  text NOT NULL
);

-- The ledger of calls. A bucket's name says partner, scope and limit; a vendor's bucket is shared by all tenants.
CREATE TABLE sync.budget (
    bucket       text PRIMARY KEY,
    tat          timestamptz NOT NULL, -- theoretical arrival time: when the next call would be exactly on pace
    closed_until timestamptz
);

CREATE TABLE sync.audit (
    audit_id  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL,
    actor     text NOT NULL,
    act       text NOT NULL,
    subject   text NOT NULL,
    detail    jsonb NOT NULL DEFAULT '{}',
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_of_tenant ON sync.audit (tenant_id, at);
