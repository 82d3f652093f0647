"""Places: how many attempts of a limited agent (`max_in_flight`) are out, over all orchestrators."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PLACE = """
CREATE TABLE handrail.place (
  tenant text NOT NULL DEFAULT 'default', key text NOT NULL, taken integer NOT NULL DEFAULT 0, PRIMARY KEY (tenant, key)
) WITH (fillfactor = 50)
"""


def upgrade() -> None:
    """Makes it."""
    op.execute(_PLACE)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
