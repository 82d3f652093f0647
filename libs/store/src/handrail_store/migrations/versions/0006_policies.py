"""Policies: every version ever applied, never changed. In force is the newest version of each name."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_POLICY = """
CREATE TABLE handrail.policy (
  n bigserial NOT NULL UNIQUE,
  tenant text NOT NULL DEFAULT 'default',
  name text NOT NULL,
  version integer NOT NULL,
  blueprint text,
  digest text NOT NULL,
  body json NOT NULL,
  comment text,
  actor text NOT NULL,
  channel text NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, name, version)
)
"""


def upgrade() -> None:
    """Makes the table."""
    op.execute(_POLICY)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
