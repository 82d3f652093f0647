"""What a request's headers say, read once: who is asking, from where, in which form, under which key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from handrail_gateway.application.faults import Refusal, quote

SCOPE_KEY = "handrail.head"
MAX_KEY, MAX_NAME = 255, 128
_ESCAPED = re.compile(r"\\([\"\\])")


@dataclass(slots=True)
class Head:
    """Header values as text; empty where a header is missing. `keys` are all Idempotency-Key headers, `hosts` counts Hosts."""

    host: str = ""
    hosts: int = 0
    origin: str | None = None
    accept: str = ""
    content_type: str = ""
    content_length: str = ""
    content_encoding: str = ""
    expect: str = ""
    actor: str = ""
    channel: str = ""
    traceparent: str = ""
    keys: list[str] = field(default_factory=list[str])


_FIELDS = {
    b"host": "host",
    b"origin": "origin",
    b"accept": "accept",
    b"content-type": "content_type",
    b"content-length": "content_length",
    b"content-encoding": "content_encoding",
    b"expect": "expect",
    b"handrail-actor": "actor",
    b"handrail-channel": "channel",
    b"traceparent": "traceparent",
}


def read(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """The head of a request."""
    head = Head()
    for name, value in headers:
        known = _FIELDS.get(name)
        if known is not None:
            text = _text(value)
            if (known == "accept" and head.accept) or (known == "origin" and head.origin is not None):
                text = f"{getattr(head, known)},{text}"  # of two origins none is ours: no name of ours has a comma
            elif known == "host":
                head.hosts += 1
            setattr(head, known, text)
        elif name == b"idempotency-key":
            head.keys.append(_text(value))
    return head


def _text(value: bytes) -> str:
    """UTF-8 where it is, else the Latin-1 that HTTP allows."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def of(scope: Any) -> Head:
    """The head that the door has read."""
    return scope[SCOPE_KEY]


def idempotency_key(head: Head) -> str | None:
    """The key without the quotes of a structured string, or None. Raises Refusal idempotency-key-invalid."""
    if not head.keys:
        return None
    key = head.keys[0]
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = _ESCAPED.sub(r"\1", key[1:-1])
    if len(head.keys) > 1 or not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise Refusal(
            "idempotency-key-invalid",
            f"Expected one Idempotency-Key of 1 to {MAX_KEY} printable characters, but found"
            f" {f'{len(head.keys)} of them' if len(head.keys) > 1 else f'{len(key)} characters: {quote(key)}'}.",
        )
    return key


def name(value: str, default: str, header: str) -> str:
    """Who acts, or through what: recorded, not proven. Raises Refusal invalid-text."""
    if not value:
        return default
    if len(value) > MAX_NAME or not value.isprintable():
        raise Refusal(
            "invalid-text", f"Expected {header} of at most {MAX_NAME} printable characters, but found {quote(value)}."
        )
    return value


def actor(head: Head) -> str:
    """Who acts: recorded, not proven, but never as what Handrail itself decides under. Raises Refusal invalid-text."""
    who = name(head.actor, "local", "Handrail-Actor")
    if who.partition(":")[0].strip().lower() == "system":
        raise Refusal(
            "invalid-text", f"Expected Handrail-Actor to name who acts, but {quote(who)} is what Handrail calls itself."
        )
    return who
