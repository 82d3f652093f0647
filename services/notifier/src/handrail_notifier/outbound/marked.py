"""What a policy marks (`redact`) does not leave by a channel: not as an argument, nor as a word in what is told beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "[redacted]"
_SHORTEST = 3
_TOLD = ("failure_reason", "raw_evidence", "context_snapshot", "comment", "input")
"""Where an argument may be repeated. Names and numbers of ours are left as they are, for they lead back to the pause."""


def without_marked(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of a notice, `{event}` or `{event, pause}`, in which marked arguments leave only a mark."""
    asked: Mapping[str, Any] = body.get("pause") or body.get("event") or {}
    proposed: Mapping[str, Any] = asked.get("proposed_action") or {}
    marks = [*(proposed.get("redact") or ()), *_by_schema(asked.get("available_resolutions") or ())]
    paths = [path.split(".")[1:] for path in marks]
    if not paths:
        return body
    edited: Any = (body.get("event") or {}).get("input")
    found = [_at(args, path) for args in (proposed.get("args"), edited) for path in paths]
    texts = sorted(
        {str(v) for v in found if isinstance(v, str | int | float) and not isinstance(v, bool)}, key=len, reverse=True
    )
    secrets = [text for text in texts if len(text) >= _SHORTEST]
    return {
        name: _event(part, marks, paths, secrets) if isinstance(part, dict) else part for name, part in body.items()
    }


def _by_schema(buttons: Sequence[Mapping[str, Any]]) -> list[str]:
    """The arguments that the form in which they are edited marks."""
    found: list[str] = []
    for button in buttons:
        schema = button.get("input_schema")
        fields: Any = schema.get("properties") if button.get("kind") == "edit" and isinstance(schema, dict) else None
        for name, f in fields.items() if isinstance(fields, dict) else ():
            secret = isinstance(f, dict) and (f.get("writeOnly") or f.get("x-redact") or f.get("format") == "password")
            found += [f"args.{name}"] if secret else []
    return found


def _event(
    event: dict[str, Any], marks: Sequence[str], paths: Sequence[Sequence[str]], secrets: Sequence[str]
) -> dict[str, Any]:
    told = {name: _scrubbed(_masked(event[name], paths), secrets) for name in _TOLD if name in event}
    proposed = event.get("proposed_action")
    if isinstance(proposed, dict):
        shown = {name: _scrubbed(proposed.get(name), secrets) for name in ("summary", "diff")}
        args = _scrubbed(_masked(proposed.get("args"), paths), secrets)
        told["proposed_action"] = {**proposed, **shown, "args": args, "redact": list(marks)}
    return {**event, **told}


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _masked(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        k: REDACTED if [k] in paths else _masked(v, [list(p[1:]) for p in paths if len(p) > 1 and p[0] == k])
        for k, v in value.items()
    }


def _scrubbed(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
        return value
    if isinstance(value, dict):
        return {k: _scrubbed(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [_scrubbed(v, secrets) for v in value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return REDACTED if number and str(value) in secrets else value
