"""One tenant's rows in every table that holds tenants' rows, for the tests of what keeps tenants apart."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

_ROWS = (
    "INSERT INTO schedule.tenant (tenant_id, name) VALUES (%(tenant)s, 'A corporation')",
    """
    INSERT INTO schedule.client VALUES (%(tenant)s, gen_random_uuid(), 1, '佐藤', '花子', 'サトウ', 'ハナコ', '1940',
                                        'female', '', '', '', true)
    """,
    """
    INSERT INTO schedule.staff VALUES (%(tenant)s, gen_random_uuid(), 1, '鈴木', '一郎', 'スズキ', 'イチロウ', '', NULL,
                                       NULL, true)
    """,
    # Three visits: one with a record, one delivered, one deleted again (which leaves a tombstone).
    """
    INSERT INTO schedule.visit (tenant_id, visit_id, client_id, starts_at, ends_at, status)
    SELECT tenant_id, gen_random_uuid(), client_id, now(), now() + interval '1 hour', 'confirmed'
    FROM schedule.client, generate_series(1, 3) WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO schedule.visit_record (tenant_id, visit_id, status)
    SELECT tenant_id, visit_id, 'absent' FROM schedule.visit WHERE tenant_id = %(tenant)s ORDER BY visit_id LIMIT 1
    """,
    """
    DELETE FROM schedule.visit v USING (
        SELECT visit_id FROM schedule.visit WHERE tenant_id = %(tenant)s ORDER BY visit_id DESC LIMIT 1) AS last
    WHERE v.visit_id = last.visit_id
    """,
    """
    INSERT INTO sync.connection (tenant_id, partner, base_url, timing) VALUES (%(tenant)s, 'fhir', 'http://x', 'minute')
    """,
    "INSERT INTO sync.board_token (tenant_id, name, digest) VALUES (%(tenant)s, 'product', sha256('x'))",
    "INSERT INTO sync.credential (tenant_id, partner, ciphertext) VALUES (%(tenant)s, 'fhir', 'sealed')",
    """
    INSERT INTO sync.access_token (tenant_id, partner, ciphertext, good_until)
    VALUES (%(tenant)s, 'fhir', 'sealed', now())
    """,
    """
    INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state)
    VALUES (gen_random_uuid(), %(tenant)s, 'fhir', 'client', 'reading')
    """,
    """
    INSERT INTO sync.landed_version (tenant_id, partner, entity, partner_id, snapshot_id)
    SELECT tenant_id, partner, entity, 'p1', snapshot_id FROM sync.snapshot WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.landed_plan (tenant_id, partner, month, partner_id, snapshot_id, said_at, fingerprint)
    SELECT tenant_id, partner, '2026-11-01', 'p1', snapshot_id, '', '' FROM sync.snapshot WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.sighting (tenant_id, snapshot_id, page, landed_nos)
    SELECT tenant_id, snapshot_id, 1, array_agg(landed_no) FROM sync.landed_version WHERE tenant_id = %(tenant)s
    GROUP BY tenant_id, snapshot_id
    """,
    """
    INSERT INTO sync.suspicion (tenant_id, partner, entity, partner_id, snapshot_id)
    SELECT tenant_id, partner, entity, partner_id, snapshot_id FROM sync.landed_version WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.master_change (tenant_id, partner, entity, partner_id, landed_no, kind, fields)
    SELECT tenant_id, partner, entity, partner_id, landed_no, 'delete', '{}' FROM sync.landed_version
    WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome)
    SELECT tenant_id, partner, entity, partner_id, landed_no, 'applied' FROM sync.master_change
    WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome, reason)
    VALUES (%(tenant)s, 'fhir', 'client', 'another', 1, 'held', 'mass_change')
    """,
    """
    INSERT INTO sync.identity (tenant_id, partner, entity, partner_id, record_id)
    SELECT tenant_id, 'fhir', 'client', 'p1', client_id FROM schedule.client WHERE tenant_id = %(tenant)s
    """,
    "INSERT INTO sync.event_cursor VALUES (%(tenant)s, 'fhir', '0', 0)",
    """
    INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, on_date,
                             edited_at)
    SELECT month, tenant_id, 'fhir', entity, record_id, version, 'upsert', image, (image ->> 'client_id')::uuid,
           at::date, at
    FROM sync.update_event WHERE tenant_id = %(tenant)s AND entity = 'visit' AND op = 'insert'
    """,
    """
    INSERT INTO sync.intent (month, intent_id, tenant_id, partner, entity, record_id, version, epoch, verb, key, links)
    SELECT month, gen_random_uuid(), tenant_id, partner, entity, record_id, version, 1, 'create', 'k', '{}'
    FROM sync.change WHERE tenant_id = %(tenant)s ORDER BY record_id LIMIT 1
    """,
    """
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, intent_id, outcome, partner_id)
    SELECT month, tenant_id, partner, entity, record_id, version, intent_id, 'delivered', 'v1'
    FROM sync.intent WHERE tenant_id = %(tenant)s
    """,
    "INSERT INTO sync.lease VALUES (%(tenant)s, 'fhir', 1, 'somebody', now())",
    """
    INSERT INTO sync.push_request (tenant_id, partner, from_date, to_date, requested_by)
    VALUES (%(tenant)s, 'fhir', current_date, current_date, 'somebody')
    """,
    "INSERT INTO sync.retry_request (tenant_id, partner, requested_by) VALUES (%(tenant)s, 'fhir', 'somebody')",
    """
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome, reason, theirs)
    SELECT month, tenant_id, partner, entity, record_id, version, 'retry', 'overwriting_partner_change', '{"note": "x"}'
    FROM sync.pending WHERE tenant_id = %(tenant)s ORDER BY record_id LIMIT 1
    """,
    """
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome, reason, theirs)
    SELECT month, tenant_id, partner, entity, record_id, version, 'conflict', 'changed_at_partner', '{"note": "x"}'
    FROM sync.pending WHERE tenant_id = %(tenant)s ORDER BY record_id LIMIT 1
    """,
    """
    INSERT INTO sync.repair (tenant_id, partner, entity, record_id, version, outcome)
    SELECT tenant_id, partner, entity, record_id, version, 'suspected' FROM sync.standing
    WHERE tenant_id = %(tenant)s AND delivered_version > 0
    """,
    """
    INSERT INTO sync.hold (tenant_id, partner, reason, failures, since, until)
    VALUES (%(tenant)s, 'fhir', 'outside_window', 0, now(), now())
    """,
    """
    INSERT INTO sync.decision (tenant_id, partner, entity, record_id, version, act, reason, decided_by)
    SELECT tenant_id, partner, entity, record_id, version, 'abandon', 'a reason', 'somebody' FROM sync.pending
    WHERE tenant_id = %(tenant)s LIMIT 1
    """,
    "INSERT INTO sync.unknown_field (tenant_id, partner, entity, field) VALUES (%(tenant)s, 'fhir', 'client', 'a')",
    """
    INSERT INTO sync.approval (tenant_id, partner, entity, deletes, changed, approved_by)
    VALUES (%(tenant)s, 'fhir', 'client', 12, '{}', 'somebody')
    """,
    """
    INSERT INTO sync.approval_use (approval_id, tenant_id, partner, outcome, deletes, changed)
    SELECT approval_id, tenant_id, partner, 'let_through', 12, '{}' FROM sync.approval WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.identity_decision (tenant_id, partner, entity, partner_id, landed_no, act, decided_by)
    SELECT tenant_id, partner, entity, partner_id, landed_no, 'new', 'somebody' FROM sync.master_change
    WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO sync.unexplained (tenant_id, fingerprint, partner, params)
    VALUES (%(tenant)s, '0a1b2c3d', 'fhir', '{}')
    """,
    "INSERT INTO sync.audit (tenant_id, actor, act, subject) VALUES (%(tenant)s, 'somebody', 'test', 'a subject')",
)


LATER_THAN_0001 = (
    *("access_token", "board_token", "landed_plan", "sync.unexplained"),
    *("sync.retry_request", "sync.repair", "sync.hold", "sync.decision", "theirs"),
    *("sync.sighting", "sync.suspicion", "sync.unknown_field", "sync.approval", "sync.identity_"),
)
"""What the first schema lacks."""


def fill(admin: psycopg.Connection, tenant: str, but_not: Collection[str] = ()) -> None:
    """Give `tenant` a row in every table, but for the statements that name something in `but_not`.

    `admin` is a superuser, whom row-level security does not bind.
    """
    with admin.transaction():
        admin.execute("SELECT set_config('app.tenant', %s, true)", [tenant])
        for statement in _ROWS:
            if not any(word in statement for word in but_not):
                admin.execute(statement, {"tenant": tenant})
