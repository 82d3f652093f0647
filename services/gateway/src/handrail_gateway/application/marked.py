"""Which arguments of a proposed action do not leave the system."""

from __future__ import annotations

from typing import Any

from handrail_contracts.plan import ResolutionKind


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
