"""What can go wrong between a client and Handrail.

    ClientError
    ├── Problem        Handrail refused: an RFC 9457 problem with `code`, `detail`, `errors`
    ├── Unreachable    nobody answered, also not on the repeats; nothing is known about what was asked for
    └── Unexpected     something answered, but not as Handrail does

`retriable` tells whether the same call may succeed a moment later. The idempotency key makes repeating harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from handrail_contracts.problems import FieldProblem

_PASSING = frozenset({"request-in-progress", "too-many-requests", "overloaded", "unavailable", "storage-full"})


class ClientError(Exception):
    """Anything that a `Client` raises about its calls."""

    retriable = False


class Unreachable(ClientError):
    """No connection, or no answer in time, on every try. `url` is what was tried."""

    retriable = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"Expected Handrail at {url}, but it does not answer: {reason}.")
        self.url = url
        self.reason = reason


class Unexpected(ClientError):
    """An answer that is not Handrail's, or of a Handrail that speaks otherwise than this client."""


class Problem(ClientError):
    """Handrail refused. `code` is the word to branch on, `detail` the sentence to show, `errors` the faulty fields.

    `body` is the whole problem as it came; members beyond the standard ones (`resolved_by`, `allowed` …) stand there.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.body: dict[str, Any] = dict(body)
        self.code = str(body.get("type") or "").rpartition("/")[2] or "internal"
        self.title = str(body.get("title") or "")
        self.detail = str(body.get("detail") or self.title or f"status {status}")
        self.trace_id: str | None = body.get("trace_id")
        self.retry_after: float | None = _seconds(body.get("retry_after"))
        self.errors: tuple[FieldProblem, ...] = _fields(body.get("errors"))
        super().__init__(f"{self.code}: {self.detail}")

    @property
    def retriable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  computed here, constant above
        """True for what passes by itself: shed load, a repeat while the first is under way."""
        return self.code in _PASSING or self.status in (429, 502, 503, 504)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _fields(value: object) -> tuple[FieldProblem, ...]:
    if not isinstance(value, list):
        return ()
    try:
        return tuple(FieldProblem.model_validate(item) for item in value)
    except ValidationError:
        return ()
