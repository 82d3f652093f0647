"""CloudEvents 1.0.2 in binary mode of the Kafka protocol binding: attributes as `ce_` headers, the value is the data.

Source of names and rules: CloudEvents 1.0.2 section 3.1 and its Kafka Protocol Binding section 3.2. Structured mode
(`content-type: application/cloudevents+json`) is read too, never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Headers = list[tuple[str, bytes]]

_SPEC = ("ce_specversion", b"1.0")
_JSON = ("content-type", b"application/json")
TYPE_PREFIX = "dev.handrail."
STRUCTURED = b"application/cloudevents"


class BadEnvelope(ValueError):
    """The record's headers (or its structured value) are not a CloudEvent that we can read."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of one message. `id` is deterministic, `subject` the trace_id, `time` RFC 3339."""

    id: str
    type: str
    source: str
    subject: str = ""
    time: str = ""
    traceparent: str = ""
    extensions: dict[str, str] = field(default_factory=dict[str, str])


def ce_type(name: str) -> str:
    """`WORKFLOW_PLANNED` becomes `dev.handrail.workflow_planned.v1`."""
    return f"{TYPE_PREFIX}{name.lower()}.v1"


def to_headers(e: Envelope) -> Headers:
    """The headers of a binary-mode record; empty attributes are left out."""
    headers: Headers = [_SPEC, ("ce_id", e.id.encode()), ("ce_type", e.type.encode()), ("ce_source", e.source.encode())]
    if e.subject:
        headers.append(("ce_subject", e.subject.encode()))
    if e.time:
        headers.append(("ce_time", e.time.encode()))
    for name, value in e.extensions.items():
        headers.append((f"ce_{name}", value.encode()))
    if e.traceparent:
        headers.append(("traceparent", e.traceparent.encode()))
    headers.append(_JSON)
    return headers


def from_headers(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Reads binary-mode headers. Raises BadEnvelope when a required attribute is missing or is not UTF-8."""
    seen: dict[str, str] = {}
    try:
        for name, value in headers:
            if name.startswith("ce_"):
                seen[name[3:]] = value.decode()
            elif name == "traceparent":
                seen[name] = value.decode()
    except (UnicodeDecodeError, AttributeError) as e:
        raise BadEnvelope("Expected header values in UTF-8, but one is not.") from e
    try:
        version, id_, type_, source = (seen.pop("specversion"), seen.pop("id"), seen.pop("type"), seen.pop("source"))
    except KeyError as e:
        raise BadEnvelope(f"Expected the CloudEvents header ce_{e.args[0]}, but it is missing.") from e
    if version != "1.0":
        raise BadEnvelope(f"Expected ce_specversion 1.0, but found {version[:20]!r}.")
    return Envelope(
        id_,
        type_,
        source,
        subject=seen.pop("subject", ""),
        time=seen.pop("time", ""),
        traceparent=seen.pop("traceparent", ""),
        extensions=seen,
    )


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """The first header of that name, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def read(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> tuple[Envelope, bytes]:
    """Envelope and data of a record in binary or structured mode. Raises BadEnvelope."""
    if value is None:
        raise BadEnvelope("Expected a value, but the record is a tombstone.")
    content_type = header(headers, "content-type")
    if content_type is not None and content_type.startswith(STRUCTURED):
        return _structured(value)
    return from_headers(headers), value


def _structured(value: bytes) -> tuple[Envelope, bytes]:
    try:
        body = json.loads(value)
        attributes = {k: str(v) for k, v in body.items() if k not in ("data", "data_base64")}
        data = body["data"]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as e:
        raise BadEnvelope("Expected a structured CloudEvent with `data`, but it is not one.") from e
    return from_headers([(f"ce_{k}", v.encode("utf-8", "replace")) for k, v in attributes.items()]), json.dumps(
        data, separators=(",", ":")
    ).encode()
