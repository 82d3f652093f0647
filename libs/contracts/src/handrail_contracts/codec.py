"""Bytes to messages and back, by topic. Consumers ignore unknown fields; whatever cannot be read raises Undecodable.

In what agents say, and in dead letters of anybody, U+FFFD stands for U+0000, which no database that we write to can hold, and
a text with all its digits for an integer beyond 64 bits, which few readers of JSON can: of an answer with something broken in
it everything else counts, and a person is asked where one is to be asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from handrail_contracts import topics
from handrail_contracts.commands import Nudge
from handrail_contracts.envelope import BadEnvelope, Envelope, ce_type, read, to_headers
from handrail_contracts.tasks import DeadLetter, Heartbeat, Progress, Result, Task

Message = Nudge | Result | Heartbeat | Progress | DeadLetter | Task | dict[str, Any]

_MODELS: dict[str, type[Nudge | Result | Heartbeat | Progress | DeadLetter]] = {
    topics.COMMANDS: Nudge,
    topics.RESULTS: Result,
    topics.HEARTBEATS: Heartbeat,
    topics.PROGRESS: Progress,
    topics.DEAD_LETTERS: DeadLetter,
}
_PLAIN = to_headers(Envelope("", ce_type("dead_letter"), "/elsewhere"))
_NUL = b"\\u0000"
_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
"""With the backslashes before it that mean themselves: after an odd number of them there is no escape."""
_NINES = bytes.maketrans(b"012345678", b"9" * 9)
_LONG = b"9" * 19
"""The shortest integer that may lie beyond 64 bits, once each digit is taken for a nine."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?', re.DOTALL)
"""A text or a number, whole."""
MAX_VALUE_BYTES = 4 * 1024 * 1024


class Undecodable(ValueError):
    """A record that belongs into quarantine. `reason` is one plain sentence without the payload."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(message: BaseModel) -> bytes:
    """The JSON value of a message; fields that hold their default are left out."""
    return message.__pydantic_serializer__.to_json(message, exclude_defaults=True)


def decode(topic: str, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> tuple[Envelope, Message]:
    """Reads a record of one of our topics. Raises Undecodable."""
    if value is not None and len(value) > MAX_VALUE_BYTES:
        raise Undecodable(f"Expected at most {MAX_VALUE_BYTES} bytes, but the record has {len(value)}.")
    try:
        if (
            topic == topics.DEAD_LETTERS
            and value is not None
            and not any(name.startswith("ce_") for name, _ in headers)
        ):
            headers = _PLAIN  # anybody may put one there, with nothing but its JSON
        envelope, data = read(headers, value)
    except BadEnvelope as e:
        raise Undecodable(str(e)) from e
    if "\0" in envelope.id:
        raise Undecodable("Expected a ce_id that is text, but there is a U+0000 in it.")
    model = _MODELS.get(topic)
    if model is not None:
        data = as_read(data)
    if model is None and topic.startswith(topics.TASKS_PREFIX):
        model = Task
    try:
        if model is None:
            event: Any = json.loads(data)
            if not isinstance(event, dict):
                raise Undecodable("Expected a JSON object, but the value is not one.")
            return envelope, event
        return envelope, model.__pydantic_validator__.validate_json(data)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise Undecodable(
            f"Expected a valid {model.__name__ if model else 'event'}, but at /{where}: {first['msg'][:160]}."
        ) from e
    except (ValueError, RecursionError) as e:
        raise Undecodable("Expected JSON in UTF-8, but the value is not.") from e


def as_read(data: bytes) -> bytes:
    """JSON of an agent with what stands for the characters and numbers that nobody here can hold."""
    if _NUL in data:
        data = _ESCAPED_NUL.sub(rb"\1\\ufffd", data)
    if _LONG in data.translate(_NINES):
        data = _TOKEN.sub(_within_64_bits, data)
    return data


def _within_64_bits(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if len(text) < 19 or not text.lstrip(b"-").isdigit() or (len(text) <= 20 and -(2**63) <= int(text) < 2**64):
        return text
    return b'"' + text + b'"'
