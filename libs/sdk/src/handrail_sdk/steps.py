"""A step as a plan writes it, wherever a user's code makes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from handrail_contracts.plan import Node
from handrail_sdk.failures import DefinitionError


def valid_node(fields: Mapping[str, Any], named: str) -> Node:
    """The node of these fields. Raises DefinitionError with the first fault where they make none; `named` says which it is."""
    try:
        return Node.model_validate(fields)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its fields"
        raise DefinitionError(f"Expected a valid node {named}, but {where}: {first['msg']}.") from e
