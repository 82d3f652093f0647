"""An escalation that does not fit into a record, cut to what does: its reason, its summary, and the newest of what was said."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from handrail_contracts.tasks import Escalation
from handrail_sdk.failures import as_text

REASON_CHARS, TEXT_CHARS = 4_000, 20_000
TRANSCRIPT_BYTES, METADATA_BYTES = 256 * 1024, 64 * 1024


def shortened(e: Escalation) -> Escalation:
    """The same, small enough and of characters that can be written; a line of the system says how many were left out."""
    lines: list[dict[str, Any]] = []
    room = TRANSCRIPT_BYTES
    for line in reversed(e.transcript):
        shown = _line(line)
        room -= len(to_json(shown))
        if room < 0:
            break
        lines.insert(0, shown)
    if left := len(e.transcript) - len(lines):
        lines.insert(0, {"role": "system", "text": f"{left} earlier lines were too much to be sent."})
    return Escalation(
        reason=as_text(e.reason)[:REASON_CHARS],
        summary=as_text(e.summary)[:REASON_CHARS],
        transcript=lines,
        metadata=_metadata(e.metadata),
        handover_message=None if e.handover_message is None else as_text(e.handover_message)[:REASON_CHARS],
    )


def _line(line: dict[str, Any]) -> dict[str, Any]:
    kept = {name: as_text(line[name])[:64] for name in ("role", "at") if line.get(name) is not None}
    return {**kept, "text": as_text(line.get("text", line.get("content")))[:TEXT_CHARS]}


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        took = len(to_json(metadata))
    except ValueError:
        return {"metadata": as_text(metadata)[:TEXT_CHARS]}
    return metadata if took <= METADATA_BYTES else {"omitted": f"{took} bytes of metadata"}
