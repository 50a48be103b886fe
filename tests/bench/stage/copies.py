"""A thousand tenants as one: what a model tenant has in the tables, copied for others by the database itself.

Taking a million clients in through the stations would take an hour, and is not what a night is. The copies are what the
stations would have made, but for the times: whatever table has a tenant's rows is copied, whatever columns it has.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from stage.readers import Ground

_TABLES = """
SELECT c.oid::regclass::text,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('schedule', 'sync') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
ORDER BY 1
"""
_MADE_NEW = {
    "tenant_id": "new.tenant",
    "base_url": "replace(model.base_url, %(model)s, new.tenant)",
    "snapshot_id": "md5(new.tenant || model.snapshot_id)::uuid",
    "audit_id": "md5(new.tenant || model.audit_id)::uuid",
}
"""What a copy has instead, by column; ids that are unique within a tenant alone stay."""


def copy_tenant(ground: Ground, model: str, names: Sequence[str]) -> None:
    """Give each of `names` what the model has. Triggers and foreign keys do not look: they have looked at the model."""
    with psycopg.connect(ground.admin_database_url) as admin:
        admin.execute("SET LOCAL session_replication_role = replica")
        for table, columns in admin.execute(_TABLES).fetchall():
            if _has_rows(admin, table, model):
                values = ", ".join(_MADE_NEW.get(column, f'model."{column}"') for column in columns)
                listed = ", ".join(f'"{column}"' for column in columns)
                admin.execute(
                    f"INSERT INTO {table} ({listed}) SELECT {values} FROM {table} AS model "
                    "CROSS JOIN unnest(%(names)s::text[]) AS new (tenant) WHERE model.tenant_id = %(model)s",
                    {"names": list(names), "model": model},
                )
    ground.as_admin("VACUUM ANALYZE", "CHECKPOINT")


def _has_rows(admin: psycopg.Connection, table: str, model: str) -> bool:
    found = admin.execute(f"SELECT EXISTS (SELECT FROM {table} WHERE tenant_id = %s)", [model]).fetchone()
    return bool(found and found[0])
