"""What a journal row means for the tables beside the journal: pauses, decisions, dead letters, the workflow's summary."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson

from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.commands import Nudge
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus
from handrail_contracts.ids import dead_letter_id, event_ce_id, workflow_key
from handrail_contracts.model import ms_of
from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import ResolutionKind
from handrail_engine.outgoing import late_letter
from handrail_engine.state import Row
from handrail_orchestrator.application.cache import Entry
from handrail_orchestrator.application.ports import Batch, Summary
from handrail_runtime.ports import Record


def born_week(at_ms: int) -> int:
    """The journal's partition key for a workflow accepted at `at_ms`: ISO year * 100 + ISO week."""
    year, week, _ = datetime.fromtimestamp(at_ms / 1000, UTC).isocalendar()
    return year * 100 + week


def about(row: Row, entry: Entry, b: Batch) -> None:
    """Adds to the batch what this row writes beside the journal."""
    d, trace_id = row.data, entry.state.trace_id
    match row.type:
        case T.WORKFLOW_PAUSED_HITL:
            body = (d["raw_evidence"] or {}).get("body")
            code = _code(body)
            attempts = d["attempts"]
            if attempts and attempts[-1].get("error"):
                code = attempts[-1]["error"]["code"]
            expires = ms_of(d["expires_at"]) if d["expires_at"] else None
            b.pauses.append(
                (
                    d["pause_id"],
                    trace_id,
                    row.seq,
                    d["node_id"],
                    d["kind"],
                    orjson.dumps(d),
                    d["failed_agent"],
                    code,
                    row.at_ms,
                    expires,
                )
            )
            if (row.meta or {}).get("foreign"):
                b.dead_letters.append(_foreign(entry, row))
            elif d["kind"] in _AFTER_A_LETTER and d["node_id"] is not None:
                letter = entry.letters.get(d["node_id"])
                if letter is not None:
                    b.dead_letters.append(_letter(entry, letter, d["node_id"], {}, d["pause_id"], row.at_ms))
        case T.HITL_RESOLVED:
            kind = (row.meta or {}).get("kind")
            b.closed.append(
                (
                    d["pause_id"],
                    trace_id,
                    d["outcome"],
                    kind,
                    d["action_id"],
                    d["actor"],
                    d["channel"],
                    d["comment"],
                    row.at_ms,
                )
            )
            if kind == ResolutionKind.STOP:
                _none_returns(entry, f"stopped by {d['actor']}", row.at_ms, b)
            _call_back(row, entry, b)
        case T.MESSAGE_ADDED:
            _call_back(row, entry, b)
        case T.TASK_DEAD_LETTERED:
            meta = row.meta or {}
            undo, waits = bool(meta.get("undo")), bool(meta.get("pause"))
            letter = _letter(entry, d["dead_letter_id"], d["node_id"], d, None, row.at_ms, undo, waits=waits)
            if meta.get("late_effect"):
                node = entry.state.nodes[d["node_id"]]
                body = encode(late_letter(entry.state, node, meta["late_effect"], d["dead_letter_id"]))
                letter = (*letter[:3], "late_effect", node.spec.agent, "late-effect", body, None, "open", row.at_ms)
            else:
                entry.letters[d["node_id"]] = d["dead_letter_id"]
            b.dead_letters.append(letter)
        case _:
            pass


LETTERED = frozenset({NodeStatus.DEAD_LETTERED, NodeStatus.COMPENSATION_FAILED})
"""In these states a node's dead letter may be on its way back, and no pause is open yet."""


def moved_on(row: Row, entry: Entry, b: Batch) -> None:
    """Adds to the batch what it writes when a node leaves one of LETTERED: where nobody is asked, its letter is over."""
    d = row.data
    letter = entry.letters.get(d["node_id"])
    if letter is not None and d["to"] != NodeStatus.AWAITING_HUMAN:
        b.letters_over.append((letter, d.get("reason") or "the workflow went on without it", row.at_ms))


def _none_returns(entry: Entry, why: str, at_ms: int, b: Batch) -> None:
    """No letter of this workflow is waited for any more."""
    for node_id, letter in entry.letters.items():
        if entry.state.nodes[node_id].dead_letter is None:
            b.letters_over.append((letter, why, at_ms))


_AFTER_A_LETTER = (PauseKind.FAILURE, PauseKind.COMPENSATION_FAILURE)


def _foreign(entry: Entry, row: Row) -> tuple[Any, ...]:
    """The row of a dead letter that somebody else put onto the topic: replay and discard act on the pause that it opened."""
    d = row.data
    code, data = "dead-letter", {"reason": d["failure_reason"], "evidence": (d["raw_evidence"] or {}).get("body")}
    where = (entry.state.trace_id, d["node_id"], "foreign", d["failed_agent"], code)
    letter_id = dead_letter_id(entry.state.tenant, entry.state.trace_id, row.seq)
    return (letter_id, *where, orjson.dumps(data), d["pause_id"], "open", row.at_ms)


def _code(body: Any) -> str | None:
    """The error code that evidence names: the world's `error`, or our own `code` (a deadline)."""
    said = (body.get("error") or body.get("code")) if isinstance(body, dict) else None
    return said if isinstance(said, str) else None


CALLBACK = "callback"


def _call_back(row: Row, entry: Entry, b: Batch) -> None:
    """Whoever asked to be told hears of it: a notification to deliver, once per event, in the transaction of the event."""
    url = (row.meta or {}).get("callback")
    if url is None:
        return
    d = row.data
    body = {"url": url, "type": f"handrail.{d['event_type'].lower()}", "timestamp": d["at"], "data": d}
    id_ = event_ce_id(b.tenant, entry.state.trace_id, row.seq)
    b.outbound.append((id_, CALLBACK, entry.state.trace_id, d["pause_id"], orjson.dumps(body)))


def _letter(
    entry: Entry,
    letter_id: str,
    node_id: str,
    data: dict[str, Any],
    pause_id: str | None,
    at_ms: int,
    undo: bool = False,
    *,
    waits: bool = True,
) -> tuple[Any, ...]:
    """The row of a node's dead letter. `waits`: it opens a pause once it has come back, if its node still waits for it."""
    node = entry.state.nodes[node_id]
    error = (node.undo.error if undo else node.error) or {}
    kind = "compensation" if undo else "task"
    state = "open" if waits else "closed"
    return (
        letter_id,
        entry.state.trace_id,
        node_id,
        kind,
        node.spec.agent,
        error.get("code"),
        orjson.dumps(data),
        pause_id,
        state,
        at_ms,
    )


def summary(entry: Entry) -> Summary | None:
    """The summary row to write, or None when nothing that it shows has changed.

    `wake_at` is only a floor for the next owner: it is written when it must become earlier, and with a change of status.
    """
    s = entry.state
    wake = s.next_wake()
    earlier = wake is not None and (entry.stored_wake_ms is None or wake < entry.stored_wake_ms)
    if s.status == entry.stored_status and not earlier:
        return None
    counts = {str(k): v for k, v in s.counts.items() if v}
    return Summary(
        trace_id=s.trace_id,
        p=entry.p,
        born=entry.born,
        blueprint=s.blueprint,
        intent=s.intent,
        status=s.status.value,
        labels=orjson.dumps(s.labels),
        counts=orjson.dumps(counts),
        seq=s.seq,
        created_ms=s.created_ms,
        updated_ms=s.updated_ms,
        ended_ms=s.updated_ms if s.ended else None,
        wake_ms=wake,
    )


def look_again(tenant: str, trace_id: str, p: int, now_ms: int) -> Record:
    """A record that says no more than that a workflow is to be looked at, for one that no record has parked. It never lay
    anywhere: its offset is below every log's, and another one for each workflow, for a place has one record."""
    e = Envelope(f"{tenant}/{trace_id}/parked-{now_ms}", ce_type("nudge"), "/handrail/orchestrator", subject=trace_id)
    value = encode(Nudge(tenant=tenant, trace_id=trace_id, command_id=f"parked-{now_ms}"))
    offset = -1 - int.from_bytes(hashlib.blake2b(e.id.encode(), digest_size=7).digest())
    return Record(topics.COMMANDS, p, offset, workflow_key(tenant, trace_id).encode(), value, to_headers(e), now_ms)


def quarantined(r: Record, reason: str, bus_id: str, trace_id: str | None) -> tuple[Any, ...]:
    """The quarantine row of a record: its bytes, where it lay, and why it was set aside."""
    headers = [[k, v.decode("utf-8", "replace")] for k, v in r.headers]
    kind = "parked" if trace_id is not None else "undecodable"
    return (r.topic, r.partition, r.offset, bus_id, r.key, r.value, orjson.dumps(headers), reason, kind, trace_id)
