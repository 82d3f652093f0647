"""Everything that Handrail keeps: schemas, tables, the clock.

Revision ID: 0001
Frozen: a change of `tables.py` comes as a further file beside this one (expand first, contract later).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

# Rows that are rewritten again and again: room on the page for HOT updates, and a vacuum that comes early.
_HOT = (
    "handrail.partition",
    "handrail.member",
    "handrail.workflow",
    "handrail.pause",
    "handrail.command",
    "handrail.agent",
    "agents.effect",
)
_STORAGE = (
    "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, "
    "autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05"
)

# STABLE, so that it can bound an index scan; real time, so that a lease that is read late is judged late.
_CLOCK = """
CREATE FUNCTION handrail.clock() RETURNS timestamptz LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  RETURN clock_timestamp() + coalesce((SELECT offset_ms FROM handrail.clock), 0) * interval '1 millisecond';
END $$
"""


def upgrade() -> None:
    """Makes it all."""
    op.execute("CREATE SCHEMA IF NOT EXISTS handrail")
    op.execute("CREATE SCHEMA IF NOT EXISTS agents")
    _tables()
    op.execute("CREATE TABLE handrail.journal_default PARTITION OF handrail.journal DEFAULT")
    op.execute("INSERT INTO handrail.clock DEFAULT VALUES")
    op.execute(_CLOCK)
    for table in _HOT:
        op.execute(f"ALTER TABLE {table} SET ({_STORAGE})")


def downgrade() -> None:
    """Refused: a journal is not thrown away by a migration."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")


def _tables() -> None:
    op.create_table(
        "effect",
        sa.Column("effect_key", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("effect_key"),
        schema="agents",
    )
    op.create_table(
        "agent",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "action", "version"),
        schema="handrail",
    )
    op.create_table(
        "blob",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest"),
        schema="handrail",
    )
    op.create_table(
        "blueprint",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "version"),
        schema="handrail",
    )
    op.create_table(
        "clock",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("offset_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("one"),
        schema="handrail",
    )
    op.create_table(
        "command",
        sa.Column("n", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("p", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text("'local'"), nullable=False),
        sa.Column("channel", sa.Text(), server_default=sa.text("'api'"), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_pseq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("command_id"),
        schema="handrail",
    )
    op.create_index(
        "command_start",
        "command",
        ["tenant", "trace_id"],
        unique=True,
        schema="handrail",
        postgresql_where=sa.text("kind = 'start'"),
    )
    op.create_index(
        "command_unapplied",
        "command",
        ["p", "n"],
        unique=False,
        schema="handrail",
        postgresql_where=sa.text("applied_pseq IS NULL"),
    )
    op.create_table(
        "dead_letter",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("dead_letter_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), server_default=sa.text("'task'"), nullable=False),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("pause_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("dead_letter_id"),
        schema="handrail",
    )
    op.create_index(
        "dead_letter_newest",
        "dead_letter",
        ["tenant", sa.literal_column("at DESC"), sa.literal_column("dead_letter_id DESC")],
        unique=False,
        schema="handrail",
    )
    op.create_index("dead_letter_workflow", "dead_letter", ["tenant", "trace_id"], unique=False, schema="handrail")
    op.create_table(
        "decision",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("pause_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("action_id", sa.Text(), nullable=True),
        sa.Column("input", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("evidence_digest", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("pause_id"),
        schema="handrail",
    )
    op.create_index("decision_workflow", "decision", ["tenant", "trace_id"], unique=False, schema="handrail")
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("headers", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "method", "path", "key"),
        schema="handrail",
    )
    op.create_index("idempotency_age", "idempotency", ["at"], unique=False, schema="handrail")
    op.create_table(
        "journal",
        sa.Column("born", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("p", sa.Integer(), nullable=False),
        sa.Column("pseq", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("meta", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("causation", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("born", "tenant", "trace_id", "seq"),
        schema="handrail",
        postgresql_partition_by="RANGE (born)",
    )
    op.create_index("journal_pseq", "journal", ["p", "pseq"], unique=False, schema="handrail")
    op.create_table(
        "member",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="handrail",
    )
    op.create_table(
        "outbound",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("pause_id", sa.Text(), nullable=True),
        sa.Column("body", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'due'"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="handrail",
    )
    op.create_index(
        "outbound_due",
        "outbound",
        ["due_at"],
        unique=False,
        schema="handrail",
        postgresql_where=sa.text("state = 'due'"),
    )
    op.create_table(
        "partition",
        sa.Column("p", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bus_id", sa.Text(), nullable=True),
        sa.Column(
            "offsets", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("next_pseq", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("published_upto", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("p"),
        schema="handrail",
    )
    op.create_table(
        "pause",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("pause_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("failed_agent", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("pause_id"),
        schema="handrail",
    )
    op.create_index(
        "pause_closed",
        "pause",
        ["tenant", sa.literal_column("closed_at DESC")],
        unique=False,
        schema="handrail",
        postgresql_where=sa.text("state <> 'open'"),
    )
    op.create_index(
        "pause_open",
        "pause",
        ["tenant", sa.literal_column("opened_at DESC"), sa.literal_column("pause_id DESC")],
        unique=False,
        schema="handrail",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("pause_workflow", "pause", ["tenant", "trace_id"], unique=False, schema="handrail")
    op.create_table(
        "quarantine",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("bus_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default=sa.text("'undecodable'"), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("bus_id", "topic", "partition", "offset", name="quarantine_once"),
        schema="handrail",
    )
    op.create_index(
        "quarantine_newest", "quarantine", ["tenant", sa.literal_column("id DESC")], unique=False, schema="handrail"
    )
    op.create_table(
        "snapshot",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("fold_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "trace_id"),
        schema="handrail",
    )
    op.create_table(
        "workflow",
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("p", sa.Integer(), nullable=False),
        sa.Column("born", sa.Integer(), nullable=False),
        sa.Column("blueprint", sa.Text(), nullable=True),
        sa.Column("intent", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "counts", postgresql.JSON(astext_type=sa.Text()), server_default=sa.text("'{}'::json"), nullable=False
        ),
        sa.Column("seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wake_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parked_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "trace_id"),
        schema="handrail",
    )
    op.create_index("workflow_labels", "workflow", ["labels"], unique=False, schema="handrail", postgresql_using="gin")
    op.create_index(
        "workflow_newest",
        "workflow",
        ["tenant", sa.literal_column("created_at DESC"), sa.literal_column("trace_id DESC")],
        unique=False,
        schema="handrail",
    )
    op.create_index(
        "workflow_open",
        "workflow",
        ["p"],
        unique=False,
        schema="handrail",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "workflow_status",
        "workflow",
        ["tenant", "status", sa.literal_column("created_at DESC"), sa.literal_column("trace_id DESC")],
        unique=False,
        schema="handrail",
    )
    op.create_index(
        "workflow_wake",
        "workflow",
        ["p", "wake_at"],
        unique=False,
        schema="handrail",
        postgresql_where=sa.text("wake_at IS NOT NULL"),
    )
