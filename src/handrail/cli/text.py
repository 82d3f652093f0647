"""Strangers' text on a terminal: nothing in it may move the cursor, change colours, or read other than it is.

Evidence, messages and ids come from outside. Control characters, escape sequences, bidirectional overrides and
invisible characters are shown as escapes (`\\x1b`, `\\u202e`), never sent to the terminal.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any

_SHOWN_AS_ESCAPE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EMOJI_JOINERS = frozenset("\u200d\ufe0f")


def safe(value: object, *, lines: bool = False) -> str:
    """`value` as text that a terminal shows and does not obey. `lines` keeps line breaks; tabs become spaces."""
    text = value if isinstance(value, str) else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(c, lines) for c in text)


def _shown(c: str, lines: bool) -> str:
    if c == "\n" and lines:
        return c
    if c == "\t":
        return "    "
    if unicodedata.category(c) in _SHOWN_AS_ESCAPE and c not in _EMOJI_JOINERS:
        point = ord(c)
        return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
    return c


def short(value: object, limit: int) -> str:
    """`safe` on one line of at most `limit` characters, the cut marked."""
    text = safe(" ".join(str(value).split()))
    return text if len(text) <= limit else text[: max(0, limit - 1)].rstrip() + "…"


def compact(value: Any) -> str:
    """A JSON value on one safe line."""
    return safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def pretty(value: Any) -> list[str]:
    """A JSON value as safe lines; a text as its own lines."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return safe(text, lines=True).split("\n")


def to_json(value: Any) -> str:
    """JSON for programs. On a terminal pure ASCII, so that nothing in it is obeyed."""
    return json.dumps(value, ensure_ascii=sys.stdout.isatty(), indent=2)


def to_json_line(value: Any) -> str:
    """As `to_json`, on one line."""
    return json.dumps(value, ensure_ascii=sys.stdout.isatty(), separators=(",", ":"))


def seconds_of(text: str | None) -> float | None:
    """An RFC 3339 time as seconds since 1970, None where it is missing or not one."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def clock_time(text: str | None) -> str:
    """The local wall clock time of an RFC 3339 time, `12:04:31.250`."""
    at = seconds_of(text)
    if at is None:
        return "--:--:--.---"
    local = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"


def duration(seconds: float) -> str:
    """A length of time in the units that matter: `250 ms`, `12.3 s`, `4 m 05 s`, `3 h 20 m`, `2 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} m"
    return f"{hours // 24} d {hours % 24} h"
