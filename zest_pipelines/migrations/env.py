"""Alembic's entry: runs on the connection that `store.installation` hands in, as the owner whom nobody logs in as."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="schema_version", version_table_schema="public")
with context.begin_transaction():
    context.run_migrations()
