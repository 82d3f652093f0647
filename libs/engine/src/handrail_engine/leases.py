"""Attempts that are out: until when one may be claimed, when it is lost, when it must have ended."""

from __future__ import annotations

from handrail_engine.retry import resend_s, start_window_s
from handrail_engine.state import Live, NodeState

_LOOK_MS, _WINDOW_MS = int(resend_s(0) * 1000), int(start_window_s(0) * 1000)


def must_close_ms(node: NodeState, at_ms: int) -> int:
    """When an attempt that is out must have ended, whatever became of it; one that was never heard of counts from `at_ms`."""
    started = node.started_ms if node.started_ms is not None else at_ms
    return started + int(node.spec.timeouts.start_to_close_s * 1000)


def sent(at_ms: int, patience_s: float) -> Live:
    """A fresh attempt that was just sent for the first time and may be claimed within its window."""
    patience_ms = max(int(patience_s * 1000), 1_000)
    return Live(at_ms + min(_LOOK_MS, patience_ms), at_ms + min(_WINDOW_MS, patience_ms))


def claim(node: NodeState, at_ms: int) -> None:
    """The attempt that is out was claimed, or its worker showed life: its lease runs from now."""
    if node.live is not None:
        node.live.lease_until = at_ms + int(node.limits.lease_s * 1000)
