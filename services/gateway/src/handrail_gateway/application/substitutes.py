"""An output that a person gives, as a skip's substitute or as what happened: it must be what the node promised, and hold what
the nodes after it read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handrail_engine import references
from handrail_gateway.application import schemas
from handrail_gateway.application.faults import quote


def faults(nodes: Sequence[dict[str, Any]], node_id: str, output: Any) -> list[dict[str, str]]:
    """What is wrong with `output` instead of that of `node_id`, as {pointer, code, message}. `nodes` are compiled."""
    ids = {n["id"] for n in nodes}
    promised = next((n.get("output_schema") for n in nodes if n["id"] == node_id), None)
    found = schemas.faults(promised, output, "/input") if promised else []
    for node in nodes:
        if node_id in node.get("depends_on", ()) or node.get("inputs"):
            found.extend(_unread(node, ids, node_id, output))
    return found[: schemas.MAX_ERRORS]


def _unread(node: dict[str, Any], ids: set[str], node_id: str, output: Any) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for _, reference in references.walk(node.get("inputs", {})):
        read = references.parse(reference[references.FROM], ids)
        lives_without = "default" in reference
        if read.node_id == node_id and not lives_without and references.dig(output, read.path) is references.MISSING:
            at = "".join(f"/{part}" for part in read.path)
            message = f"Node {quote(node['id'])} reads this and cannot live without it."
            found.append({"pointer": f"/input{at}", "code": "read-by-dependant", "message": message})
    return found
