"""A record is set aside once by where it lay and what it said: a topic that is made anew in the same cluster counts again.

Neither the cluster's id nor the offset tells two logs under one topic apart (ADR 0026). The digest is worked out by the
database, so that older code keeps both records, too. Rewrites the table, which holds what nobody could read, while writes to
it wait.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE handrail.quarantine"
    " ADD COLUMN digest bytea NOT NULL GENERATED ALWAYS AS (sha256(coalesce(value, ''::bytea))) STORED",
    # under its name of before, by which older code asks for it
    "ALTER TABLE handrail.quarantine DROP CONSTRAINT quarantine_once,"
    ' ADD CONSTRAINT quarantine_once UNIQUE (bus_id, topic, partition, "offset", digest)',
)


def upgrade() -> None:
    """Adds the column, exchanges the constraint."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
