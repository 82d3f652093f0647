"""A notice: one thing to tell on one channel. When it is tried again, what it says in words, and in a webhook's body. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

DELAYS_S = (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Pauses between the tries: over three days altogether, then the notice is parked."""
MAX_BODY_BYTES = 20_000


class Kind(StrEnum):
    """What happened."""

    OPENED = "opened"
    RESOLVED = "resolved"
    ENDED = "ended"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class Notice:
    """A claimed row of the queue. `attempts` counts this one; `answer` is what the channel said of the notice that opened
    the pause (where a message stands), `closed` whether that pause is over by now, `reached` who has it of earlier tries."""

    id: str
    channel: str
    kind: Kind
    trace_id: str
    pause_id: str | None
    body: Mapping[str, Any]
    attempts: int
    answer: Mapping[str, Any] | None = None
    closed: Mapping[str, Any] | None = None
    reached: Sequence[str] = ()


class Undelivered(Exception):
    """Root of how a delivery fails: TryLater, GiveUp."""


class TryLater(Undelivered):
    """The channel did not take it, or not for everybody: `reached` are those who have it by now and get it no more. `after_s`:
    not before; `counts`: false when it was not its fault."""

    def __init__(
        self, why: str, after_s: float | None = None, *, counts: bool = True, reached: Sequence[str] = ()
    ) -> None:
        super().__init__(why)
        self.after_s, self.counts, self.reached = after_s, counts, reached


class GiveUp(Undelivered):
    """The channel will never take it."""


def delay_s(notice_id: str, attempts: int, after_s: float | None = None) -> float | None:
    """Seconds until the next try after `attempts` of them, None to park. Up to a tenth longer, by a hash: a herd spreads,
    and the same notice always waits the same. `after_s` (Retry-After) is obeyed up to a day."""
    if attempts > len(DELAYS_S):
        return None
    spread = int.from_bytes(hashlib.sha256(f"{notice_id}/{attempts}".encode()).digest()[:4]) / 2**32
    wait = DELAYS_S[attempts - 1] * (1 + spread / 10)
    return max(wait, min(after_s or 0.0, 86_400.0))


def title(notice: Notice) -> str:
    """One line of ours: what happened, without a word from outside."""
    match notice.kind:
        case Kind.OPENED:
            return f"Handrail needs you: {notice.trace_id}"
        case Kind.RESOLVED:
            return f"Decided: {notice.trace_id}"
        case Kind.ENDED:
            return f"{notice.body['event'].get('status', 'Ended')}: {notice.trace_id}"
        case Kind.CALLBACK:
            return f"{notice.body['type']}: {notice.trace_id}"


def words(notice: Notice, link: str) -> str:
    """The notice as plain text. The link leads to a page with buttons: opening it changes nothing."""
    event = notice.body["event"]
    if notice.kind is Kind.OPENED:
        options = "\n".join(f"  - {r['display_text']}" for r in event["available_resolutions"])
        where = event.get("node_id") or event.get("failed_agent") or "the whole workflow"
        return f"{event['failure_reason']}\n\nAt: {where}\nYou can:\n{options}\n\nDecide here: {link}\n"
    if notice.kind is Kind.RESOLVED:
        return f"{outcome(event)}\n\nSee: {link}\n"
    reason = f"\n{event['reason']}" if event.get("reason") else ""
    return f"The workflow has ended: {event.get('status')}.{reason}\n\nSee: {link}\n"


def console_link(public_url: str, trace_id: str) -> str:
    """The page of a workflow: it shows buttons, and opening it changes nothing."""
    return f"{public_url.rstrip('/')}/console/workflows/{quote(trace_id, safe='')}"


def outcome(event: Mapping[str, Any]) -> str:
    """Who, when, what, of a HITL_RESOLVED."""
    what = event.get("action_id") or event["outcome"]
    said = f", saying: {event['comment']}" if event.get("comment") else ""
    if event["outcome"] != "decided":
        return f"Closed ({event['outcome']}) at {event['at']}"
    return f"{event['actor']} chose {what} by {event['channel']} at {event['at']}{said}"


def webhook_body(notice: Notice) -> bytes:
    """`{type, timestamp, data}` as Standard Webhooks has it, the same bytes at every try, below 20 kB: what is too large is
    left out, largest first, and `omitted` names it."""
    if notice.kind is Kind.CALLBACK:
        kind, at, data = notice.body["type"], notice.body["timestamp"], dict(notice.body["data"])
    else:
        data = dict(notice.body["event"])
        kind, at = f"handrail.{str(data['event_type']).lower()}", data["at"]
    omitted: list[str] = []
    while len(body := to_json({"type": kind, "timestamp": at, "data": data})) > MAX_BODY_BYTES:
        kept = {k: v for k, v in data.items() if k not in _KEPT}
        largest = max(kept, key=lambda k: len(to_json(kept[k])))
        del data[largest]
        omitted.append(largest)
        data["omitted"] = omitted
    return body


_KEPT = frozenset({"event_type", "trace_id", "seq", "at", "pause_id", "omitted", "status"})
