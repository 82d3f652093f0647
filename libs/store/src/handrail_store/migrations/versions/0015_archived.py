"""Names of archived workflows: none of them is given to another one, whose pauses, dead letters and effect keys it would share.

What was archived before is found by what stays of it: pauses, dead letters, the agents' ledger (read once from end to end,
some ten seconds at ten million effects, while nobody waits).
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ARCHIVED = """
CREATE TABLE handrail.archived (
  tenant text NOT NULL DEFAULT 'default', trace_id text NOT NULL, born integer, PRIMARY KEY (tenant, trace_id)
)
"""
_BEFORE = """
INSERT INTO handrail.archived (tenant, trace_id)
SELECT tenant, trace_id FROM (
  SELECT tenant, trace_id FROM handrail.pause UNION SELECT tenant, trace_id FROM handrail.dead_letter
   UNION SELECT split_part(effect_key, '/', 1), split_part(effect_key, '/', 2) FROM agents.effect) AS left_over
 WHERE NOT EXISTS (SELECT FROM handrail.workflow w WHERE (w.tenant, w.trace_id) = (left_over.tenant, left_over.trace_id))
   AND NOT EXISTS (SELECT FROM handrail.command c
                    WHERE c.kind = 'start' AND (c.tenant, c.trace_id) = (left_over.tenant, left_over.trace_id))
"""


def upgrade() -> None:
    """Makes the table, with what is known of before."""
    op.execute(_ARCHIVED)
    op.execute(_BEFORE)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")
