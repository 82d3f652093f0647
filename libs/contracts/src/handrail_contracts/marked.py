"""Which arguments of a proposed action do not leave the system, and what leaves in their place: in exports, in what a simulation
names, on every channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from handrail_contracts.plan import ResolutionKind
from handrail_contracts.policy import ARGS

REDACTED = "[redacted]"
_SHORTEST_SECRET = 3


def marks(pause: Mapping[str, Any]) -> list[str]:
    """The arguments (`args.<path>`) of a pause's proposed action that do not leave: those that policy or gate list, and those
    that the schema of the arguments marks `writeOnly`, `x-redact` or as a password."""
    proposed: Mapping[str, Any] = pause.get("proposed_action") or {}
    found: list[str] = list(proposed.get("redact") or ())
    for button in pause.get("available_resolutions") or ():
        schema = button.get("input_schema")
        if button.get("kind") == ResolutionKind.EDIT and isinstance(schema, dict):
            fields: Any = schema.get("properties")
            named = fields.items() if isinstance(fields, dict) else ()
            found.extend(f"{ARGS}{name}" for name, field in named if _secret(field))
    return list(dict.fromkeys(found))


def redacted(args: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy of the arguments in which what stands at these paths (`args.<path>`) is only a mark."""
    copy: dict[str, Any] = dict(args)
    for path in paths:
        at: Any = copy
        *inner, last = path[len(ARGS) :].split(".")
        for part in inner:
            if not isinstance(at, dict) or not isinstance(at.get(part), dict):
                at = None
                break
            at[part] = dict(at[part])
            at = at[part]
        if isinstance(at, dict) and last in at:
            at[last] = REDACTED
    return copy


def secrets(pause: Mapping[str, Any], given: Any) -> list[str]:
    """The texts of the marked arguments, as they were proposed and as a person has `given` them, which may stand in reasons,
    transcripts and comments too; the longest first."""
    proposed = (pause.get("proposed_action") or {}).get("args")
    values = [_at(args, path[len(ARGS) :].split(".")) for path in marks(pause) for args in (proposed, given)]
    texts = {str(v) for v in values if isinstance(v, str | int | float) and not isinstance(v, bool)}
    return sorted((t for t in texts if len(t) >= _SHORTEST_SECRET), key=len, reverse=True)


def scrubbed(value: Any, secrets: Sequence[str]) -> Any:
    """A copy in which these texts leave only a mark."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
        return value
    if isinstance(value, dict):
        return {k: scrubbed(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrubbed(v, secrets) for v in value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return REDACTED if number and str(value) in secrets else value


def _secret(field: Any) -> bool:
    if not isinstance(field, dict):
        return False
    return field.get("writeOnly") is True or field.get("x-redact") is True or field.get("format") == "password"


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
