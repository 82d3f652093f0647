"""An escalation cut to what every door takes: its reason, its summary, and the newest of what was said. Whoever asks for a person
gets one, however long the conversation was and whatever characters stand in it."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import to_json

from handrail_contracts.model import Json, time_of
from handrail_contracts.tasks import Escalation
from handrail_sdk.failures import as_text

REASON_CHARS, TEXT_CHARS = 4_000, 20_000
MOST_LINES, MOST_MEMBERS = 1_000, 100
TRANSCRIPT_BYTES, METADATA_BYTES = 256 * 1024, 64 * 1024
_LARGEST = 2**53


def shortened(e: Escalation) -> Escalation:
    """The same, small enough and of characters that can be written; a line of the system says how many were left out."""
    lines: list[dict[str, Any]] = []
    room = TRANSCRIPT_BYTES
    for line in reversed(e.transcript):
        shown = _line(line)
        room -= len(to_json(shown))
        if room < 0 or len(lines) == MOST_LINES - 1:
            break
        lines.append(shown)
    if left := len(e.transcript) - len(lines):
        lines.append({"role": "system", "text": f"{left} earlier lines were too much to be sent."})
    return Escalation(
        reason=_clean(e.reason).strip()[:REASON_CHARS] or "The agent asks for a person.",
        summary=_clean(e.summary)[:REASON_CHARS],
        transcript=lines[::-1],
        metadata=_metadata(e.metadata),
        handover_message=None if e.handover_message is None else _clean(e.handover_message)[:TEXT_CHARS],
    )


def _clean(value: object) -> str:
    return as_text(value).replace("\0", "\ufffd")


def _line(line: dict[str, Any]) -> dict[str, Any]:
    said = {"role": _clean(line.get("role"))[:64] or "user", "text": _clean(line.get("text", line.get("content")))}
    at = str(line.get("at") or "")
    return {**said, "text": said["text"][:TEXT_CHARS], **({"at": at} if time_of(at) is not None else {})}


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = _carried(metadata)
    if len(kept) > MOST_MEMBERS:
        more = len(kept) - MOST_MEMBERS + 1
        kept = {**dict(list(kept.items())[: MOST_MEMBERS - 1]), "omitted": f"{more} more"}
    took = len(to_json(kept))
    return kept if took <= METADATA_BYTES else {"omitted": f"{took} bytes of metadata"}


def _carried(value: Json) -> Json:
    """As every reader holds it: a large integer as text, what is no number as null."""
    if isinstance(value, dict):
        return {_clean(k): _carried(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_carried(v) for v in value]
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -_LARGEST <= value <= _LARGEST else str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
