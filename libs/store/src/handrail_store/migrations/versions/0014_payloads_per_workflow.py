"""Stored payloads belong to one workflow each: two that store the same value have a row each, and go with their own week.

What was stored before may serve several workflows of its time; `shared_until` says so, and until when they were made. Builds
a key over what is there, about two seconds per million payloads, while reads and writes of this table wait.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # The lock is held when the default is worked out, once for all rows: no row is rewritten, and none that older code has
    # added beside another workflow's row is younger.
    "ALTER TABLE handrail.blob ADD COLUMN shared_until timestamptz DEFAULT handrail.clock()",
    "ALTER TABLE handrail.blob ALTER COLUMN shared_until DROP DEFAULT",
    "CREATE INDEX blob_shared ON handrail.blob (tenant, digest) WHERE shared_until IS NOT NULL",
    # Older code asks by digest alone, and inserts without naming a key.
    "CREATE UNIQUE INDEX blob_of_workflow ON handrail.blob (tenant, digest, trace_id)",
    "ALTER TABLE handrail.blob DROP CONSTRAINT blob_pkey,"
    " ADD CONSTRAINT blob_pkey PRIMARY KEY USING INDEX blob_of_workflow",
)


def upgrade() -> None:
    """Adds the column, exchanges the key."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
