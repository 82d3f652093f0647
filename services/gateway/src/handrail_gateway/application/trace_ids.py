"""Ids that the gateway gives: a UUIDv7 (RFC 9562, section 5.7) begins with the time, so that new rows stand side by side."""

from __future__ import annotations

import os
import time


def uuid7() -> str:
    """A new UUIDv7 as text: 48 bits of Unix milliseconds, 74 random bits."""
    at_ms = time.time_ns() // 1_000_000
    drawn = int.from_bytes(os.urandom(10))
    value = (at_ms & (2**48 - 1)) << 80 | 0x7 << 76 | drawn >> 68 << 64 | 0b10 << 62 | drawn & (2**62 - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
