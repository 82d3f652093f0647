"""Track record: how often the actions of agents have succeeded, for policies that ask (`success_rate`)."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TRACK_RECORD = """
CREATE TABLE handrail.track_record (
  tenant text NOT NULL DEFAULT 'default',
  agent text NOT NULL,
  action text NOT NULL,
  ok integer NOT NULL,
  total integer NOT NULL,
  PRIMARY KEY (tenant, agent, action)
) WITH (fillfactor = 50)
"""


def upgrade() -> None:
    """Makes the table."""
    op.execute(_TRACK_RECORD)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
