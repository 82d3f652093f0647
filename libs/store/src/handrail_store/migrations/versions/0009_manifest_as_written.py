"""Manifests as their authors wrote them: jsonb sorts the keys of an object, and forms are made in the order of a schema's.

`manifest` stays what everybody compares and asks into. A process that knows nothing of the new column leaves it empty or
behind; readers then fall back to `manifest` (`views.MANIFEST`).
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; no row is rewritten."""
    op.execute("ALTER TABLE handrail.agent ADD COLUMN manifest_as_written json")


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
