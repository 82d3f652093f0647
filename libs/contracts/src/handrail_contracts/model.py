"""How strict a message is depends on who wrote it: a stranger at the door, a peer on the wire, or we ourselves."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict

Json = Any
"""Any JSON value. Not pydantic's `JsonValue`: walking every payload in Python costs more than the whole message."""


class Door(BaseModel):
    """Written by a stranger: unknown fields are refused, so that a typing error is told and not swallowed."""

    model_config = ConfigDict(extra="forbid")


class Wire(BaseModel):
    """Written by a peer that may be newer than we are: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


@lru_cache(maxsize=1024)  # a batch writes the same few instants into all of its rows
def iso(at_ms: int) -> str:
    """The instant `at_ms` (milliseconds since 1970, UTC) as RFC 3339 with milliseconds and `Z`."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    t = datetime.fromtimestamp(seconds, UTC)
    return f"{t.year:04d}-{t.month:02d}-{t.day:02d}T{t.hour:02d}:{t.minute:02d}:{t.second:02d}"


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""`fromisoformat` alone takes weeks, days of a year and much else of ISO 8601."""
EARLIEST_YEAR, LATEST_YEAR = 1970, 9000


def time_of(text: str) -> datetime | None:
    """The time that a stranger wrote, or None for what is no RFC 3339 time with a zone, or of a year that nobody can mean."""
    try:
        at = datetime.fromisoformat(text.upper()) if _RFC3339.fullmatch(text) else None
    except ValueError:
        return None
    return at if at is not None and EARLIEST_YEAR <= at.year <= LATEST_YEAR else None


def ms_of(text: str) -> int:
    """The inverse of `iso`, for any RFC 3339 time with a zone. Raises ValueError where there is none."""
    return _ms_of(text) if len(text) <= _USUAL else _ms_of.__wrapped__(text)


_USUAL = 40
"""Characters of a time; what is longer is not kept, for a fraction may have any number of digits."""


@lru_cache(maxsize=1024)  # the answers of a batch tell of the same few instants
def _ms_of(text: str) -> int:
    t = datetime.fromisoformat(text)
    if t.tzinfo is None:
        raise ValueError(f"Expected a time with a zone, as 2026-01-31T12:00:00Z, but {text[:40]!r} has none.")
    return round(t.timestamp() * 1000)
