"""Rows of a batch as the orchestrator's statement takes them: an array of rows in the place of an array per column."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# In the order of the orchestrator's `StoredRow` and `Summary`.
_STORED_ROW = """
CREATE TYPE handrail.stored_row AS (born integer, trace_id text, seq integer, p integer, pseq bigint, type text, data json,
                                    meta json, causation text, at_ms bigint)
"""
_SUMMARY = """
CREATE TYPE handrail.summary AS (trace_id text, p integer, born integer, blueprint text, intent text, status text,
                                 labels jsonb, counts json, seq integer, created_ms bigint, updated_ms bigint,
                                 ended_ms bigint, wake_ms bigint)
"""


def upgrade() -> None:
    """Makes the types."""
    op.execute(_STORED_ROW)
    op.execute(_SUMMARY)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
