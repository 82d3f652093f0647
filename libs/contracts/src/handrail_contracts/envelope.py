"""CloudEvents 1.0.2 in binary mode of the Kafka protocol binding: attributes as `ce_` headers, the value is the data.

Source of names and rules: CloudEvents 1.0.2 section 3.1 and its Kafka Protocol Binding section 3.2. Structured mode
(`content-type: application/cloudevents+json`) is read too, never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

Headers = list[tuple[str, bytes]]

_SPEC = ("ce_specversion", b"1.0")
_JSON = ("content-type", b"application/json")
_PLAIN = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type")
_NONE: Mapping[str, str] = MappingProxyType({})
TYPE_PREFIX = "dev.handrail."
STRUCTURED = b"application/cloudevents"


class BadEnvelope(ValueError):
    """The record's headers (or its structured value) are not a CloudEvent that we can read."""


class Envelope(NamedTuple):
    """The attributes of one message. `id` is deterministic, `subject` the trace_id, `time` RFC 3339."""

    id: str
    type: str
    source: str
    subject: str = ""
    time: str = ""
    traceparent: str = ""
    extensions: Mapping[str, str] = _NONE


@lru_cache(maxsize=256)
def ce_type(name: str) -> str:
    """`WORKFLOW_PLANNED` becomes `dev.handrail.workflow_planned.v1`."""
    return f"{TYPE_PREFIX}{name.lower()}.v1"


def to_headers(e: Envelope) -> Headers:
    """The headers of a binary-mode record; empty attributes are left out."""
    id_, type_, source, subject, time, traceparent, extensions = e
    headers: Headers = [_SPEC, ("ce_id", id_.encode()), ("ce_type", type_.encode()), ("ce_source", source.encode())]
    if subject:
        headers.append(("ce_subject", subject.encode()))
    if time:
        headers.append(("ce_time", time.encode()))
    for name, value in extensions.items():
        headers.append((f"ce_{name}", value.encode()))
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    headers.append(_JSON)
    return headers


def plain_headers(id_: bytes, type_: bytes, source: bytes, subject: bytes, time: bytes) -> Headers:
    """What `to_headers` answers for an envelope without trace and extensions, from bytes that the caller has at hand."""
    return [
        _SPEC,
        ("ce_id", id_),
        ("ce_type", type_),
        ("ce_source", source),
        ("ce_subject", subject),
        ("ce_time", time),
        _JSON,
    ]


def from_headers(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Reads binary-mode headers. Raises BadEnvelope when a required attribute is missing or is not UTF-8."""
    try:
        seen = {name: value.decode() for name, value in headers if name[:3] == "ce_" or name == "traceparent"}
    except (UnicodeDecodeError, AttributeError) as e:
        raise BadEnvelope("Expected header values in UTF-8, but one is not.") from e
    take = seen.pop
    try:
        version, id_, type_, source = take("ce_specversion"), take("ce_id"), take("ce_type"), take("ce_source")
    except KeyError as e:
        raise BadEnvelope(f"Expected the CloudEvents header {e.args[0]}, but it is missing.") from e
    if version != "1.0":
        raise BadEnvelope(f"Expected ce_specversion 1.0, but found {version[:20]!r}.")
    subject, time, traceparent = take("ce_subject", ""), take("ce_time", ""), take("traceparent", "")
    return Envelope(id_, type_, source, subject, time, traceparent, {k[3:]: v for k, v in seen.items()} or _NONE)


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """The first header of that name, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def is_plain(headers: Sequence[tuple[str, bytes]]) -> bool:
    """The data is the value, as we write it: to be seen at a glance, where False says nothing."""
    return bool(headers) and headers[-1] == _JSON


def read(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> tuple[Envelope, bytes]:
    """Envelope and data of a record in binary or structured mode. Raises BadEnvelope."""
    if value is None:
        raise BadEnvelope("Expected a value, but the record is a tombstone.")
    if is_plain(headers):
        return _plain(headers) or from_headers(headers), value
    content_type = header(headers, "content-type")
    if content_type is not None and content_type.startswith(STRUCTURED):
        return _structured(value)
    return from_headers(headers), value


def _plain(headers: Sequence[tuple[str, bytes]]) -> Envelope | None:
    """`from_headers` of what `plain_headers` has made, at half the price; None for all else."""
    if len(headers) != len(_PLAIN):
        return None
    (a, version), (b, id_), (c, type_), (d, source), (e, subject), (f, time), (g, _) = headers
    if (a, b, c, d, e, f, g) != _PLAIN or version != b"1.0":
        return None
    try:
        return Envelope(id_.decode(), type_.decode(), source.decode(), subject.decode(), time.decode())
    except (UnicodeDecodeError, AttributeError):
        return None


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
