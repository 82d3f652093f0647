"""Notices on channels: of what kind, where they stand, why not yet, and whether what follows them was written."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE handrail.outbound ADD COLUMN kind text NOT NULL DEFAULT 'callback'",
    "ALTER TABLE handrail.outbound ADD COLUMN answer json",
    "ALTER TABLE handrail.outbound ADD COLUMN error text",
    "ALTER TABLE handrail.outbound ADD COLUMN sent_at timestamptz",
    "ALTER TABLE handrail.outbound ADD COLUMN followed boolean NOT NULL DEFAULT false",
    "CREATE INDEX outbound_unfollowed ON handrail.outbound (tenant, kind) WHERE NOT followed AND kind IN ('opened', 'resolved')",
    "CREATE INDEX outbound_workflow ON handrail.outbound (tenant, trace_id)",
)


def upgrade() -> None:
    """Adds columns with defaults: older code goes on writing callbacks."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
