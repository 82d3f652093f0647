"""Alembic's entrance. There is no ini file: `handrail_store.migrate` hands over an open connection in a transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from handrail_store.migrate import VERSION_TABLE
from handrail_store.tables import SCHEMA, metadata

_connection = context.config.attributes["connection"]
_connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
context.configure(
    connection=_connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
