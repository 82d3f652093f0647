"""Which arguments of a proposed action do not leave the system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handrail_contracts.plan import ResolutionKind
from handrail_engine.policies import REDACTED
from handrail_engine.references import MISSING, dig

_SHORTEST_SECRET = 3


def marks(pause: dict[str, Any]) -> list[str]:
    """The arguments (`args.<path>`) of a proposed action that do not leave: those that policy or gate list, and those that the
    schema of the arguments marks `writeOnly`, `x-redact` or as a password."""
    proposal: dict[str, Any] = pause.get("proposed_action") or {}
    found: list[str] = list(proposal.get("redact", ()))
    for button in pause["available_resolutions"]:
        schema = button.get("input_schema")
        if button.get("kind") == ResolutionKind.EDIT and isinstance(schema, dict):
            fields: dict[str, Any] = schema.get("properties") or {}
            found.extend(f"args.{name}" for name, field in fields.items() if _secret(field))
    return list(dict.fromkeys(found))


def _secret(field: Any) -> bool:
    if not isinstance(field, dict):
        return False
    return field.get("writeOnly") is True or field.get("x-redact") is True or field.get("format") == "password"


def secrets(pause: dict[str, Any], given: Any) -> list[str]:
    """The texts of the marked arguments, as they were proposed and as a person has `given` them, which may stand in reasons,
    transcripts and comments too; the longest first."""
    proposed: dict[str, Any] = (pause.get("proposed_action") or {}).get("args") or {}
    sides = [proposed, given] if isinstance(given, dict) else [proposed]
    values = (dig(args, tuple(path.split(".")[1:])) for path in marks(pause) for args in sides)
    texts = {
        str(v) for v in values if v is not MISSING and isinstance(v, str | int | float) and not isinstance(v, bool)
    }
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
