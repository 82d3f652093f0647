"""The fence: a statement of the batch fails as a whole when it met fewer partitions than its writer believes to own."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FENCE = """
CREATE FUNCTION handrail.fence(met bigint, expected bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF met <> expected THEN
    RAISE EXCEPTION 'Expected % owned partitions, but % are.', expected, met USING ERRCODE = 'HR001';
  END IF;
  RETURN true;
END $$
"""


def upgrade() -> None:
    """Makes it."""
    op.execute(_FENCE)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
