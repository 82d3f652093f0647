"""What an answer says of its attempt beside how it ended, as far as an event carries it."""

from __future__ import annotations

from typing import Any

from handrail_contracts.model import ms_of
from handrail_contracts.tasks import Result
from handrail_engine import payloads
from handrail_engine.evidence import clip
from handrail_engine.spending import COUNTED
from handrail_engine.state import NodeState
from handrail_engine.turn import Turn

CLOCKS_DIFFER_MS = 1_000
USAGE_BYTES = 4 * 1024


def times_of(t: Turn, node: NodeState, r: Result) -> dict[str, Any]:
    """What the answer says of worker, times and usage. A time that is none, or lies outside the attempt, is left out: it
    would set a lease or a start-to-close that nobody meant."""
    times: dict[str, Any] = {}
    if r.worker is not None:
        times["worker"] = clip(r.worker, 200)
    for name, text in (("started_at", r.started_at), ("finished_at", r.finished_at)):
        if text is not None and plausible(text, node.scheduled_ms, t.now.ms):
            times[name] = text
    if r.usage is not None:
        times["usage"] = _counted(r.usage)
    return times


def _counted(usage: dict[str, Any]) -> dict[str, Any]:
    """What an attempt took, as its event carries it; of one that is too long the numbers that are counted."""
    if len(payloads.encoded(usage)) <= USAGE_BYTES:
        return usage
    return {k: usage[k] for k in COUNTED if isinstance(usage.get(k), int | float)}


def plausible(text: str, from_ms: int, to_ms: int) -> bool:
    """True for an RFC 3339 time between the two instants, give or take what clocks and rounding differ by."""
    try:
        return from_ms - CLOCKS_DIFFER_MS <= ms_of(text) <= to_ms + CLOCKS_DIFFER_MS
    except (ValueError, OverflowError):
        return False
