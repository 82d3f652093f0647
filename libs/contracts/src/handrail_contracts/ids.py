"""Keys that are computed, never drawn: the same facts give the same id in every process, so a repeat is recognised.

Two keys per task (DESIGN D8): the *effect key* stays the same over retries and is what a provider gets as idempotency
key; the *attempt number* changes with each dispatch and fences out whoever answers late.
"""

from __future__ import annotations

import hashlib
import re
import zlib

TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
AGENT_NAME = r"^[A-Za-z0-9_-]{1,64}$"
"""Agent names are part of a topic name, so Kafka's alphabet rules."""


def partition(tenant: str, trace_id: str, count: int) -> int:
    """The partition of a workflow, 0 to `count - 1`: CRC-32 of `tenant/trace_id`. `count` is fixed when topics are made."""
    return keyed_partition(workflow_key(tenant, trace_id).encode(), count)


def keyed_partition(key: bytes, count: int) -> int:
    """The partition of a record's key among `count`, for whatever we place ourselves: its CRC-32 (ADR 0006)."""
    return zlib.crc32(key) % count


def workflow_key(tenant: str, trace_id: str) -> str:
    """The record key of everything that must stay in order for one workflow."""
    return f"{tenant}/{trace_id}"


def effect_key(tenant: str, trace_id: str, node_id: str, generation: int) -> str:
    """The key under which a node's effect may happen once. `generation` grows only when a person orders a new effect."""
    return f"{tenant}/{trace_id}/{node_id}/{generation}"


def undo_key(do_key: str, order: int) -> str:
    """The key of an undo of `do_key`; `order` counts undos ordered for it (a late success orders another)."""
    return f"{do_key}/undo/{order}"


def task_id(tenant: str, trace_id: str, node_id: str) -> str:
    """The record key of a task: parallel tasks of one workflow spread over workers, a node and its cancel do not."""
    return f"{tenant}/{trace_id}/{node_id}"


def event_ce_id(tenant: str, trace_id: str, seq: int) -> str:
    """The CloudEvents id of an event: the same each time that it is published."""
    return f"{tenant}/{trace_id}/{seq}"


def attempt_ce_id(key: str, attempt: int, kind: str) -> str:
    """The CloudEvents id of a task or a result: effect key, attempt, and what is said."""
    return f"{key}/{attempt}/{kind}"


def pause_id(tenant: str, trace_id: str, seq: int) -> str:
    """The id of the pause that the event `seq` opens: 26 characters, computed, so a replay opens the same pause."""
    return "p" + hashlib.blake2b(f"pause/{tenant}/{trace_id}/{seq}".encode(), digest_size=13).hexdigest()[:25]


def outside_pause_id(tenant: str, trace_id: str) -> str:
    """The id of the pause of an escalation from outside: known before anything of it is journaled."""
    return pause_id(tenant, trace_id, 0)


def dead_letter_id(tenant: str, trace_id: str, seq: int) -> str:
    """The id of the dead letter that the event `seq` reports."""
    return "d" + hashlib.blake2b(f"dead-letter/{tenant}/{trace_id}/{seq}".encode(), digest_size=13).hexdigest()[:25]


def digest(data: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
