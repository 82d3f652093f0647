"""Cursors of lists: opaque to clients, a place in an order to us."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import orjson

from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.ports import Page

LIMIT, MOST = 50, 200
_MICROSECONDS = 1_000_000


def page(limit: int, cursor: str | None) -> Page:
    """The asked page. Raises Refusal invalid-cursor."""
    if cursor is None:
        return Page(limit)
    at_us, id_ = _read(cursor)
    if not isinstance(id_, str) or "\x00" in id_ or not isinstance(at_us, int) or not 0 <= at_us < 2**53:
        raise _not_ours(cursor)
    return Page(
        limit, datetime.fromtimestamp(at_us // _MICROSECONDS, UTC).replace(microsecond=at_us % _MICROSECONDS), id_
    )


def number(cursor: str | None) -> int | None:
    """The number that `of_number` wrote. Raises Refusal invalid-cursor."""
    if cursor is None:
        return None
    value, mark = _read(cursor)
    if mark != "n" or not isinstance(value, int) or not 0 <= value < 2**62:
        raise _not_ours(cursor)
    return value


def of(at: datetime, id_: str) -> str:
    """The cursor after a row."""
    whole = int(at.replace(microsecond=0).timestamp())
    return _written([whole * _MICROSECONDS + at.microsecond, id_])


def of_number(value: int) -> str:
    """The cursor after a row that is known by a number."""
    return _written([value, "n"])


def _written(value: list[int | str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def _read(cursor: str) -> tuple[object, object]:
    try:
        value = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _not_ours(cursor) from None
    if not isinstance(value, list) or len(value) != 2:
        raise _not_ours(cursor)
    return value[0], value[1]


def _not_ours(cursor: str) -> Refusal:
    return Refusal(
        "invalid-cursor",
        f"Expected a next_cursor of an earlier answer of this list, but found {quote(cursor)}. Begin without one.",
    )
