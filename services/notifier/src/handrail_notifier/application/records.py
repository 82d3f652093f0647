"""Records of `handrail.events` and `handrail.progress`, read as cheaply as they can be."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from handrail_contracts import topics
from handrail_contracts.codec import MAX_VALUE_BYTES, Undecodable, decode
from handrail_contracts.envelope import STRUCTURED, header, is_plain
from handrail_contracts.tasks import Progress
from handrail_notifier.application.ports import Key, Row
from handrail_runtime.ports import Record

TYPE_HEADER = "ce_type"


class EventRecord(NamedTuple):
    """An event as it came from the bus: whose, the row as in the journal, and the decoded event."""

    key: Key
    row: Row
    event: dict[str, Any]


def read_event(record: Record) -> EventRecord:
    """The event in a record. Raises Undecodable when it is not one that a view could be asked to take.

    The envelope is not looked at in binary mode: all that the notifier needs is in the key and in the data.
    """
    tenant, _, trace_id = (record.key or b"").decode("utf-8", "replace").rpartition("/")
    value = record.value
    if not tenant or value is None or len(value) > MAX_VALUE_BYTES:
        raise Undecodable("Expected the key tenant/trace_id and a value of bounded size, but it is not so.")
    if not is_plain(record.headers) and (header(record.headers, "content-type") or b"").startswith(STRUCTURED):
        event: Any = decode(topics.EVENTS, record.headers, value)[1]
        value = None
    else:
        event = parse_event(value)
    if not isinstance(event, dict) or event.get("trace_id") != trace_id:
        raise Undecodable("Expected an event of the workflow that the key names, but it is not one.")
    seq, kind = event.get("seq"), event.get("event_type")
    if type(seq) is not int or seq < 1 or not isinstance(kind, str) or not isinstance(event.get("at"), str):
        raise Undecodable("Expected event_type, seq and at, but one is missing or of another kind.")
    return EventRecord((tenant, trace_id), Row(seq, kind, value if value is not None else to_json(event)), event)


def parse_event(data: bytes) -> Any:
    """JSON as in RFC 8259. Raises Undecodable."""
    try:
        return from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as e:
        raise Undecodable("Expected JSON in UTF-8, but the value is not.") from e


def read_progress(record: Record) -> Progress:
    """The news in a record of `handrail.progress`. Raises Undecodable."""
    message = decode(topics.PROGRESS, record.headers, record.value)[1]
    if not isinstance(message, Progress):
        raise Undecodable("Expected a Progress, but it is not one.")
    return message
