-- Schema `schedule`: the contract with ZEST SCHEDULE, and its stand-in for demos and tests.
-- The product edits visit and visit_record; client and staff are written by the inbound apply alone.

CREATE SCHEMA schedule;
CREATE SCHEMA sync;

CREATE TABLE schedule.tenant (
    tenant_id  text PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name       text NOT NULL CHECK (name <> ''),
    timezone   text NOT NULL DEFAULT 'Asia/Tokyo',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE schedule.client (
    tenant_id   text NOT NULL REFERENCES schedule.tenant,
    client_id   uuid NOT NULL,
    version     bigint NOT NULL DEFAULT 1,
    family_name text NOT NULL,
    given_name  text NOT NULL,
    family_kana text NOT NULL,
    given_kana  text NOT NULL,
    birth_date  text NOT NULL CHECK (birth_date ~ '^([0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?)?$'), -- partners know partial ones
    sex         text NOT NULL CHECK (sex IN ('male', 'female', 'other', 'unknown')),
    postal_code text NOT NULL,
    address     text NOT NULL,
    phone       text NOT NULL,
    active      boolean NOT NULL,
    PRIMARY KEY (tenant_id, client_id)
);

CREATE TABLE schedule.staff (
    tenant_id      text NOT NULL REFERENCES schedule.tenant,
    staff_id       uuid NOT NULL,
    version        bigint NOT NULL DEFAULT 1,
    family_name    text NOT NULL,
    given_name     text NOT NULL,
    family_kana    text NOT NULL,
    given_kana     text NOT NULL,
    qualification  text NOT NULL,
    employed_from  date,
    employed_until date,
    active         boolean NOT NULL,
    PRIMARY KEY (tenant_id, staff_id)
);

-- No foreign key to client or staff: the product may plan for a person whom the partner does not know yet. Such a
-- visit waits; it is not an error.
CREATE TABLE schedule.visit (
    tenant_id    text NOT NULL REFERENCES schedule.tenant,
    visit_id     uuid NOT NULL,
    version      bigint NOT NULL DEFAULT 1,
    client_id    uuid NOT NULL,
    staff_id     uuid, -- NULL: not yet assigned
    starts_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    service_code text NOT NULL DEFAULT '',
    note         text NOT NULL DEFAULT '',
    status       text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'confirmed', 'cancelled')),
    PRIMARY KEY (tenant_id, visit_id),
    CHECK (ends_at > starts_at),
    -- No partner keeps others, and few programs can read them (infinity, years before Christ or beyond 9999).
    CHECK (starts_at >= '1900-01-01 00:00+00' AND ends_at < '2200-01-01 00:00+00')
);

CREATE TABLE schedule.visit_record (
    tenant_id  text NOT NULL,
    visit_id   uuid NOT NULL,
    version    bigint NOT NULL DEFAULT 1,
    client_id  uuid, -- this and staff_id are the visit's, kept equal by triggers: who was visited by whom is part of
    staff_id   uuid, -- what the partner is told of the record, so a change of it is a new version
    started_at timestamptz,
    ended_at   timestamptz,
    status     text NOT NULL CHECK (status IN ('done', 'absent', 'cancelled')),
    note       text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, visit_id),
    FOREIGN KEY (tenant_id, visit_id) REFERENCES schedule.visit,
    CHECK (ended_at >= started_at),
    CHECK (started_at >= '1900-01-01 00:00+00' AND started_at < '2200-01-01 00:00+00'),
    CHECK (ended_at >= '1900-01-01 00:00+00' AND ended_at < '2200-01-01 00:00+00'),
    CHECK (status <> 'done' OR (started_at IS NOT NULL AND ended_at IS NOT NULL))
);
