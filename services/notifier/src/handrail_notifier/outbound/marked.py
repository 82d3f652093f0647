"""What a policy marks (`redact`) does not leave by a channel: not as an argument, nor as a word in what is told beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handrail_contracts.marked import marks, redacted, scrubbed, secrets

_TOLD = ("failure_reason", "raw_evidence", "context_snapshot", "comment", "input")
"""Where an argument may be repeated. Names and numbers of ours are left as they are, for they lead back to the pause."""


def without_marked(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of a notice, `{event}` or `{event, pause}`, in which marked arguments leave only a mark."""
    asked: Mapping[str, Any] = body.get("pause") or body.get("event") or {}
    paths = marks(asked)
    if not paths:
        return body
    hidden = secrets(asked, (body.get("event") or {}).get("input"))
    return {name: _told(part, paths, hidden) if isinstance(part, dict) else part for name, part in body.items()}


def _told(event: dict[str, Any], paths: Sequence[str], hidden: Sequence[str]) -> dict[str, Any]:
    told = {name: _without(event[name], paths, hidden) for name in _TOLD if name in event}
    proposed = event.get("proposed_action")
    if isinstance(proposed, dict):
        shown = {name: scrubbed(proposed.get(name), hidden) for name in ("summary", "diff")}
        args = _without(proposed.get("args"), paths, hidden)
        told["proposed_action"] = {**proposed, **shown, "args": args, "redact": list(paths)}
    return {**event, **told}


def _without(value: Any, paths: Sequence[str], hidden: Sequence[str]) -> Any:
    return scrubbed(redacted(value, paths) if isinstance(value, dict) else value, hidden)
