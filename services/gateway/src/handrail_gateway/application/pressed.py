"""What is given with a button must be what the button asks for, whoever presses it (CONTRACT sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handrail_contracts.plan import ResolutionKind
from handrail_gateway.application import schemas

MISSING: Any = object()


def faults(button: Mapping[str, Any], given: Any, at: str) -> list[dict[str, str]]:
    """What is wrong with `given` (MISSING when nothing is), as {pointer, code, message}; pointers begin with `at`. Raises
    BadSchema where the button's own schema cannot be used."""
    schema = button.get("input_schema")
    if given is MISSING or (given is None and schema != "json"):
        if button.get("requires_input"):
            return [{"pointer": at, "code": "missing", "message": "This button asks for an input."}]
        return []
    if schema is not None:
        return schemas.faults(schemas.expanded(schema), given, at)
    if button.get("kind") != ResolutionKind.SKIP:
        return [{"pointer": at, "code": "unexpected", "message": "This button takes no input."}]
    return []


def is_output(button: Mapping[str, Any], given: Any) -> bool:
    """Whether the input stands as the node's output from now on: a skip's substitute, or what a person says happened."""
    if button.get("kind") == ResolutionKind.MARK:
        return button.get("outcome") == "happened"
    return button.get("kind") == ResolutionKind.SKIP and given is not MISSING and given is not None
