"""Metrics of one registry, and W3C trace context."""

from __future__ import annotations

import pytest

from handrail_runtime import health
from handrail_runtime.telemetry import counter, gauge, histogram, new_trace, next_traceparent, parse_traceparent

_VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_metric_asked_for_twice_is_the_same_one() -> None:
    first = counter("test_telemetry_things", "things", ["kind"])
    first.labels(kind="a").inc(2)
    assert counter("test_telemetry_things", "things", ["kind"]) is first
    with pytest.raises(TypeError, match="handrail_test_telemetry_things"):
        gauge("test_telemetry_things", "things")
    histogram("test_telemetry_seconds", "how long").observe(0.2)
    content_type, body = health.metrics()
    assert content_type.startswith("text/plain")
    assert b'handrail_test_telemetry_things_total{kind="a"} 2.0' in body
    assert b"handrail_test_telemetry_seconds_count 1.0" in body
    assert b"process_cpu_seconds_total" in body


def test_a_valid_traceparent_is_read_and_its_child_keeps_the_trace() -> None:
    context = parse_traceparent(_VALID)
    assert context is not None
    assert (context.trace_id, context.span_id, context.sampled) == (_VALID[3:35], _VALID[36:52], True)
    assert str(context) == _VALID
    child = parse_traceparent(next_traceparent(_VALID))
    assert child is not None
    assert child.trace_id == context.trace_id
    assert child.span_id != context.span_id
    assert child.sampled


def test_an_unsampled_trace_stays_unsampled() -> None:
    assert next_traceparent(_VALID[:-2] + "00").endswith("-00")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "garbage",
        _VALID.upper(),
        "ff" + _VALID[2:],
        _VALID + "-more",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        _VALID[:-1],
        "01" + _VALID[2:] + "-" + "x" * 300,
    ],
)
def test_what_the_recommendation_calls_invalid_starts_a_new_trace(text: str | None) -> None:
    assert parse_traceparent(text) is None
    started = parse_traceparent(next_traceparent(text))
    assert started is not None
    assert text is None or started.trace_id not in text


def test_a_higher_version_is_read_by_its_first_four_fields() -> None:
    context = parse_traceparent("01" + _VALID[2:] + "-future")
    assert context is not None
    assert context.trace_id == _VALID[3:35]


def test_new_traces_differ() -> None:
    assert len({new_trace().trace_id for _ in range(100)}) == 100
