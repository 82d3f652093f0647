"""Who closed it: by whom, over which channel and when a dead letter or a quarantined record was replayed or let go."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = "ADD COLUMN closed_by text, ADD COLUMN closed_channel text, ADD COLUMN closed_at timestamptz"


def upgrade() -> None:
    """Adds the columns; what was closed before has none of them."""
    for table in ("dead_letter", "quarantine"):
        op.execute(f"ALTER TABLE handrail.{table} {_COLUMNS}")


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
