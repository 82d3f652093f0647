"""Ids that the gateway gives: a UUIDv7 (RFC 9562, section 5.7) begins with the time, so that new rows stand side by side."""

from __future__ import annotations

import secrets
import time
import uuid


def uuid7() -> str:
    """A new UUIDv7 as text: 48 bits of Unix milliseconds, 74 random bits."""
    at_ms = time.time_ns() // 1_000_000
    value = (at_ms & (2**48 - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
