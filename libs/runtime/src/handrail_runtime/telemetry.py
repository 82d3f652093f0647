"""Metrics and trace context.

One prometheus registry per process: `counter`, `gauge` and `histogram` put `handrail_` in front and answer the metric
that is there already when asked twice, so services of one process share it. Trace context is W3C `traceparent`,
level 1 (`00-<32 hex>-<16 hex>-<2 hex>`); no exporter, only carrying it on.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

M = TypeVar("M", bound=MetricWrapperBase)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Default buckets of a histogram of durations, in seconds."""

_lock = threading.Lock()
_metrics: dict[str, MetricWrapperBase] = {}
_registry: CollectorRegistry | None = None


def registry() -> CollectorRegistry:
    """The registry of this process, with the process's own figures in it."""
    global _registry
    with _lock:
        if _registry is None:
            _registry = CollectorRegistry(auto_describe=True)
            ProcessCollector(registry=_registry)
            PlatformCollector(registry=_registry)
            GCCollector(registry=_registry)
        return _registry


def counter(name: str, what: str, labels: Sequence[str] = ()) -> Counter:
    """The counter `handrail_<name>_total`. Raises TypeError when the name is taken by another kind of metric."""
    return _once(name, Counter, lambda full, where: Counter(full, what, labels, registry=where))


def gauge(name: str, what: str, labels: Sequence[str] = ()) -> Gauge:
    """The gauge `handrail_<name>`. Raises TypeError as `counter` does."""
    return _once(name, Gauge, lambda full, where: Gauge(full, what, labels, registry=where))


def histogram(name: str, what: str, labels: Sequence[str] = (), buckets: Iterable[float] = SECONDS) -> Histogram:
    """The histogram `handrail_<name>`; the name ends in its unit. Raises TypeError as `counter` does."""
    return _once(
        name, Histogram, lambda full, where: Histogram(full, what, labels, registry=where, buckets=tuple(buckets))
    )


def _once(name: str, kind: type[M], make: Callable[[str, CollectorRegistry], M]) -> M:
    full = f"handrail_{name}"
    where = registry()
    with _lock:
        known = _metrics.get(full)
        if known is None:
            known = _metrics[full] = make(full, where)
        if not isinstance(known, kind):
            raise TypeError(f"Expected {full!r} to be a {kind.__name__}, but it is a {type(known).__name__} already.")
        return known


_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One hop of a distributed trace: 32 and 16 hex digits, and whether somebody records it."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> TraceContext:
        """The next hop: same trace, new span."""
        return TraceContext(self.trace_id, _hex(64), self.sampled)


def new_trace(*, sampled: bool = True) -> TraceContext:
    """The first hop of a new trace."""
    return TraceContext(_hex(128), _hex(64), sampled)


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Reads a `traceparent`; None for anything that the recommendation calls invalid (it is then as if absent).

    Source: W3C Trace Context level 1, section 3.2.2; a higher version is read by its first four fields.
    """
    found = _TRACEPARENT.fullmatch(text) if text and len(text) <= 256 else None
    if found is None:
        return None
    version, trace_id, span_id, flags = found.groups()
    if version == "ff" or (version == "00" and text is not None and len(text) != 55):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def next_traceparent(incoming: str | None) -> str:
    """What to send on: the next hop of what came in, or a new trace where nothing valid came."""
    context = parse_traceparent(incoming)
    return str(context.child() if context is not None else new_trace())


def _hex(bits: int) -> str:
    # Span ids must be unique, not secret; zero is the one value that means "invalid".
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"
