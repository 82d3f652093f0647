"""The tables, in schema `handrail` (and the agents' ledger in schema `agents`). DESIGN section 5 says what each is for.

Every table begins with `tenant`. `json` (not `jsonb`) keeps event data byte for byte as it was on the wire and costs
less to write; what must be searched has a column of its own.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB

SCHEMA = "handrail"
metadata = MetaData(schema=SCHEMA)
_TS = DateTime(timezone=True)


def _tenant(*, primary_key: bool = False) -> Column[str]:
    return Column("tenant", Text, nullable=False, server_default=text("'default'"), primary_key=primary_key)


clock = Table(
    "clock",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("offset_ms", BigInteger, nullable=False, server_default=text("0")),
)

member = Table(
    "member",
    metadata,
    Column("id", Text, primary_key=True),
    Column("seen_at", _TS, nullable=False),
)

partition = Table(
    "partition",
    metadata,
    Column("p", Integer, primary_key=True),
    Column("owner", Text),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_until", _TS),
    Column("batch", BigInteger, nullable=False, server_default=text("0")),
    Column("bus_id", Text),
    Column("offsets", JSONB, nullable=False, server_default=text("'{}'::jsonb")),  # topic -> [next offset, last ce_id]
    Column("next_pseq", BigInteger, nullable=False, server_default=text("1")),
    Column("published_upto", BigInteger, nullable=False, server_default=text("0")),
)

journal = Table(
    "journal",
    metadata,
    Column("born", Integer, primary_key=True),  # ISO week of acceptance as yyyyww: the range-partition key
    _tenant(primary_key=True),
    Column("trace_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("p", Integer, nullable=False),
    Column("pseq", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("meta", JSON),
    Column("causation", Text),
    Column("at", _TS, nullable=False),
    Index("journal_pseq", "p", "pseq"),
    postgresql_partition_by="RANGE (born)",
)

snapshot = Table(
    "snapshot",
    metadata,
    _tenant(primary_key=True),
    Column("trace_id", Text, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("fold_version", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

workflow = Table(
    "workflow",
    metadata,
    _tenant(primary_key=True),
    Column("trace_id", Text, primary_key=True),
    Column("p", Integer, nullable=False),
    Column("born", Integer, nullable=False),
    Column("blueprint", Text),
    Column("intent", Text),
    Column("status", Text, nullable=False),
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("counts", JSON, nullable=False, server_default=text("'{}'::json")),  # node state -> how many, at `seq`
    Column("seq", Integer, nullable=False, server_default=text("0")),
    Column("created_at", _TS, nullable=False),
    Column("updated_at", _TS, nullable=False),
    Column("ended_at", _TS),
    Column("wake_at", _TS),
    Column("parked_reason", Text),
    Index("workflow_wake", "p", "wake_at", postgresql_where=text("wake_at IS NOT NULL")),
    Index("workflow_newest", "tenant", text("created_at DESC"), text("trace_id DESC")),
    Index("workflow_status", "tenant", "status", text("created_at DESC"), text("trace_id DESC")),
    Index("workflow_open", "p", postgresql_where=text("ended_at IS NULL")),
    Index("workflow_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
    Index("workflow_blueprint", "tenant", "blueprint", "status", text("created_at DESC"), text("trace_id DESC")),
    Index(
        "workflow_words",
        text("array_to_tsvector(handrail.words(intent))"),
        postgresql_using="gin",
        postgresql_where=text("intent IS NOT NULL"),
    ),
    # `workflow_trace_prefix` stands beside them where text is not ordered by its bytes (see revision 0007).
)

pause = Table(
    "pause",
    metadata,
    _tenant(),
    Column("pause_id", Text, primary_key=True),
    Column("trace_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("node_id", Text),
    Column("kind", Text, nullable=False),
    Column("data", JSON, nullable=False),  # the event's data
    Column("state", Text, nullable=False, server_default=text("'open'")),  # open, then a ResolutionOutcome
    Column("failed_agent", Text),
    Column("error_code", Text),
    Column("opened_at", _TS, nullable=False),
    Column("closed_at", _TS),
    Column("expires_at", _TS),
    Column("claimed_by", Text),
    Column("claimed_until", _TS),
    Column("blueprint", Text),  # of its workflow; this and `told` are filled by a trigger
    Column("told", Text),  # what a search looks through: node, failure reason, intent
    Index(
        "pause_open", "tenant", text("opened_at DESC"), text("pause_id DESC"), postgresql_where=text("state = 'open'")
    ),
    Index("pause_closed", "tenant", text("closed_at DESC"), postgresql_where=text("state <> 'open'")),
    Index("pause_workflow", "tenant", "trace_id"),
    Index("pause_words", text("array_to_tsvector(handrail.words(told))"), postgresql_using="gin"),
    *(
        Index(
            f"pause_closed_{column}",
            "tenant",
            column,
            text("closed_at DESC"),
            text("pause_id DESC"),
            postgresql_where=text("state <> 'open'"),
        )
        for column in ("kind", "failed_agent", "error_code", "blueprint")
    ),
)

decision = Table(
    "decision",
    metadata,
    _tenant(),
    Column("pause_id", Text, primary_key=True),
    Column("trace_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # ResolutionOutcome
    Column("action_id", Text),
    Column("input", JSON),
    Column("comment", Text),
    Column("actor", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("evidence_digest", Text),
    Column("decided_at", _TS, nullable=False),
    Column("applied", Boolean, nullable=False, server_default=text("false")),
    Index("decision_workflow", "tenant", "trace_id"),
    Index("decision_time", "tenant", "decided_at", "pause_id"),
)

command = Table(
    "command",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=True),
    _tenant(),
    Column("command_id", Text, nullable=False, unique=True),
    Column("trace_id", Text, nullable=False),
    Column("p", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("actor", Text, nullable=False, server_default=text("'local'")),
    Column("channel", Text, nullable=False, server_default=text("'api'")),
    Column("traceparent", Text),
    Column("at", _TS, nullable=False),
    Column("applied_pseq", BigInteger),
    Index("command_unapplied", "p", "n", postgresql_where=text("applied_pseq IS NULL")),
    Index("command_message", "tenant", "trace_id", postgresql_where=text("kind = 'message'")),
    Index("command_start", "tenant", "trace_id", unique=True, postgresql_where=text("kind = 'start'")),
)

idempotency = Table(
    "idempotency",
    metadata,
    _tenant(primary_key=True),
    Column("method", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_digest", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", _TS, nullable=False),
    Index("idempotency_age", "at"),
)

agent = Table(
    "agent",
    metadata,
    _tenant(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("action", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column(
        "manifest", JSONB, nullable=False
    ),  # schemas, effect class, retry, timeouts, resolutions, context, compensatable
    Column("registered_at", _TS, nullable=False),
    Column("last_seen", _TS, nullable=False),
    Column("manifest_as_written", JSON),  # the same with its keys in their author's order; else empty or behind
)

place = Table(
    "place",
    metadata,
    _tenant(primary_key=True),
    Column("key", Text, primary_key=True),  # an agent, or agent/action, that has a max_in_flight
    Column("taken", Integer, nullable=False, server_default=text("0")),  # its attempts that are out, over all owners
)

track_record = Table(
    "track_record",
    metadata,
    _tenant(primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("action", Text, primary_key=True),  # of a node, or a proposed one that was let pass
    Column("ok", Integer, nullable=False),
    Column("total", Integer, nullable=False),  # ends of attempts; both are halved at 400
)

blueprint = Table(
    "blueprint",
    metadata,
    _tenant(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("body", JSON, nullable=False),  # the compiled Blueprint
    Column("loaded_at", _TS, nullable=False),
)

policy = Table(
    "policy",
    metadata,
    Column("n", BigInteger, autoincrement=True, unique=True, nullable=False),
    _tenant(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("blueprint", Text),
    Column("digest", Text, nullable=False),
    Column("body", JSON, nullable=False),  # the Policy as it was applied
    Column("comment", Text),
    Column("actor", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("at", _TS, nullable=False),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    _tenant(),
    Column("dead_letter_id", Text, primary_key=True),
    Column("trace_id", Text, nullable=False),
    Column("node_id", Text),
    Column("kind", Text, nullable=False, server_default=text("'task'")),  # task | compensation | foreign | late_effect
    Column("agent", Text),
    Column("error_code", Text),
    Column("data", JSON, nullable=False),
    Column("pause_id", Text),
    Column("state", Text, nullable=False, server_default=text("'open'")),  # open | replayed | discarded | closed
    Column("reason", Text),
    Column("at", _TS, nullable=False),
    Column("closed_by", Text),
    Column("closed_channel", Text),
    Column("closed_at", _TS),
    Index("dead_letter_newest", "tenant", text("at DESC"), text("dead_letter_id DESC")),
    Index("dead_letter_workflow", "tenant", "trace_id"),
    Index("dead_letter_state", "tenant", "state", text("at DESC"), text("dead_letter_id DESC")),
    Index("dead_letter_agent", "tenant", "agent", text("at DESC"), text("dead_letter_id DESC")),
)

quarantine = Table(
    "quarantine",
    metadata,
    _tenant(),
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("bus_id", Text, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default=text("'undecodable'")),  # undecodable | parked
    Column("trace_id", Text),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("state_reason", Text),
    Column("at", _TS, nullable=False),
    Column("closed_by", Text),
    Column("closed_channel", Text),
    Column("closed_at", _TS),
    Column("digest", LargeBinary, Computed(r"sha256(coalesce(value, '\x'::bytea))", persisted=True), nullable=False),
    UniqueConstraint("bus_id", "topic", "partition", "offset", "digest", name="quarantine_once"),
    Index("quarantine_newest", "tenant", text("id DESC")),
)

outbound = Table(
    "outbound",
    metadata,
    _tenant(),
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("trace_id", Text),
    Column("pause_id", Text),
    Column("body", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", _TS),
    Column("state", Text, nullable=False, server_default=text("'due'")),  # due | sent | parked
    Column("kind", Text, nullable=False, server_default=text("'callback'")),  # opened | resolved | ended | callback
    Column("answer", JSON),  # what the channel said: where the message stands
    Column("error", Text),
    Column("sent_at", _TS),
    Column("followed", Boolean, nullable=False, server_default=text("false")),  # what comes after it is written
    Index("outbound_due", "due_at", postgresql_where=text("state = 'due'")),
    Index(
        "outbound_unfollowed",
        "tenant",
        "kind",
        postgresql_where=text("NOT followed AND kind IN ('opened', 'resolved')"),
    ),
    Index("outbound_workflow", "tenant", "trace_id"),
)

blob = Table(
    "blob",
    metadata,
    _tenant(primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("trace_id", Text, primary_key=True),
    Column("content_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", _TS, nullable=False),
    Column("shared_until", _TS),  # it may be that of every workflow made until then (see revision 0014); else empty
    Index("blob_shared", "tenant", "digest", postgresql_where=text("shared_until IS NOT NULL")),
)

archived = Table(
    "archived",
    metadata,
    _tenant(primary_key=True),
    Column("trace_id", Text, primary_key=True),  # taken for ever
    Column("born", Integer),  # its week; empty: archived before revision 0015
)

effect = Table(
    "effect",
    metadata,
    Column("effect_key", Text, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),  # INTENT | DONE | FAILED | TOMBSTONE
    Column("result", LargeBinary),
    Column("worker", Text),
    Column("claimed_at", _TS, nullable=False),
    Column("closed_at", _TS),
    schema="agents",
)
