"""What went wrong, as it is journaled and shown: the outside world's words, cut to what an event may carry."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from handrail_contracts.tasks import Failure

MESSAGE_CHARS = 4_000
CODE_CHARS = 64
ATTEMPTS_KEPT = 100
ATTEMPTS_SHOWN = 50
EVIDENCE_SHOWN_BYTES = 96 * 1024


def clip(text: str, chars: int) -> str:
    """The text, cut to so many characters; a cut is marked."""
    return text if len(text) <= chars else text[: chars - 1] + "…"


def told(error: Failure) -> dict[str, Any]:
    """A failure as journal and view keep it."""
    return {
        "code": clip(error.code, CODE_CHARS),
        "message": clip(error.message, MESSAGE_CHARS),
        "evidence": error.evidence,
    }


def evidence_of(value: Any) -> tuple[dict[str, Any] | None, str | None]:
    """What the outside world said as the payload shows it, and its digest (SHA-256 over sorted, compact JSON)."""
    if value is None:
        return None, None
    kind = "text/plain" if isinstance(value, str) else "application/json"
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    shown = {"content_type": kind, "body": value, "truncated": False}
    return shown, "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def shown(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest attempts, oldest first. All evidence together takes no more than an event can spare: the newest is kept,
    older evidence that does not fit is left out (it stands in the journal row of its attempt)."""
    room = EVIDENCE_SHOWN_BYTES
    found: list[dict[str, Any]] = []
    for attempt in reversed(attempts[-ATTEMPTS_SHOWN:]):
        error = attempt["error"]
        if error is not None and error.get("evidence") is not None:
            size = len(json.dumps(error["evidence"], ensure_ascii=False).encode("utf-8", "surrogatepass"))
            if size > room:
                attempt = {**attempt, "error": {**error, "evidence": None}}
            else:
                room -= size
        found.append(attempt)
    found.reverse()
    return found
