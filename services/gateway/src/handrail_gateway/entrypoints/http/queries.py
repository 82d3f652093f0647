"""Query parameters, strictly: a name that is not known is told and not ignored, a value that is wrong is not guessed."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from datetime import datetime

from starlette.requests import Request

from handrail_contracts import model
from handrail_gateway.application.faults import Refusal, quote

MAX_TEXT = 257  # the longest label: a name, a colon, a value
MAX_LABELS = 64
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Query:
    """The parameters of one request. Raises Refusal invalid-query for one that is not in `known`."""

    def __init__(self, request: Request, known: Collection[str]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise _refused(name, f"Expected {_known(known)}, but found {quote(name)}.{hint}")
            if "\x00" in value or len(value) > MAX_TEXT:
                raise _refused(name, f"Expected at most {MAX_TEXT} characters without NUL, but found {quote(value)}.")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """The one value; None when it is missing or empty."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise _refused(name, f"Expected {name} once, but it stands {len(values)} times.")
        return values[0] or None

    def many(self, name: str, allowed: Collection[str] | None = None) -> tuple[str, ...]:
        """All values, given several times or separated by commas."""
        found = tuple(part for value in self._values.get(name, ()) for part in value.split(",") if part)
        for part in found:
            if allowed is not None and part not in allowed:
                raise _refused(name, f"Expected one of {', '.join(allowed)}, but found {quote(part)}.")
        return found

    def one_of(self, name: str, allowed: Collection[str], default: str) -> str:
        """The value, one of `allowed`."""
        value = self.text(name) or default
        if value not in allowed:
            raise _refused(name, f"Expected one of {', '.join(filter(None, allowed))}, but found {quote(value)}.")
        return value

    def flag(self, name: str) -> bool:
        """`true` or `false`; `1` and `0` and capitals mean the same, as many a client writes its booleans."""
        told = self.text(name) or "false"
        if told.lower() not in _FLAGS:
            raise _refused(name, f"Expected one of true, false, but found {quote(told)}.")
        return _FLAGS[told.lower()]

    def labels(self, name: str) -> tuple[str, ...]:
        """`key:value`, as often as it stands, each as it is written: key and value may hold colons and commas."""
        values = self._values.get(name, [])
        if len(values) > MAX_LABELS:
            raise _refused(name, f"Expected {name} at most {MAX_LABELS} times, but it stands {len(values)} times.")
        for value in values:
            if ":" not in value[1:]:
                raise _refused(name, f"Expected {name}=key:value, but found {quote(value)}.")
        return tuple(values)

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of 1 to `most`."""
        value = self.text(name)
        if value is None:
            return default
        if not value.isdecimal() or not value.isascii() or len(value) > 9 or not 1 <= int(value) <= most:
            raise _refused(name, f"Expected a whole number of 1 to {most}, but found {quote(value)}.")
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """How many: what lies outside of 1 to `most` is moved to the nearest end."""
        value = self.text("limit")
        if value is None:
            return default
        digits = value[1:] if value[:1] in ("-", "+") else value
        if not digits.isdecimal() or not digits.isascii():
            raise _refused("limit", f"Expected a whole number, but found {quote(value)}.")
        return most if len(digits) > 9 and value[0] != "-" else max(1, min(int(value[:12]), most))

    def position(self, name: str) -> int:
        """A position in the journal: 0, or digits that begin with none. 0 when it is missing."""
        value = self.text(name)
        if value is None:
            return 0
        if not value.isdecimal() or not value.isascii() or len(value) > 9 or (value[0] == "0" and value != "0"):
            raise Refusal("invalid-cursor", f"Expected a position such as 0 or 17, but found {quote(value)}.")
        return int(value)

    def time(self, name: str) -> datetime | None:
        """An RFC 3339 time with a zone. Raises Refusal invalid-time."""
        value = self.text(name)
        # A plus sign in a query is a space to everybody but its author.
        return None if value is None else time_of(name, value.replace(" ", "+"))


def time_of(name: str, value: str) -> datetime:
    """An RFC 3339 time with a zone. Raises Refusal invalid-time."""
    at = model.time_of(value)
    if at is None:
        raise Refusal(
            "invalid-time", f"Expected a time such as 2026-01-31T12:00:00Z as {name}, but found {quote(value)}."
        )
    return at


def _known(names: Collection[str]) -> str:
    return f"one of {', '.join(sorted(names))}" if names else "no parameters"


def _refused(name: str, detail: str) -> Refusal:
    return Refusal("invalid-query", detail, parameter=name[:80])
