"""An output that a person gives, or that silence gives as declared, as a skip's substitute or as what happened: it must be what
the node promised, and hold what the nodes after it read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handrail_contracts.pointers import told
from handrail_engine import references
from handrail_gateway.application import schemas
from handrail_gateway.application.faults import quote


class Substitutes:
    """What the nodes of a plan, compiled, promise and read of each other."""

    def __init__(self, nodes: Sequence[dict[str, Any]]) -> None:
        ids = {n["id"] for n in nodes}
        self._promised: dict[str, Any] = {n["id"]: n["output_schema"] for n in nodes if n.get("output_schema")}
        self._read: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for node in nodes:
            for reference in references.references(node.get("inputs", {})):
                read = references.parse(reference[references.FROM], ids)
                if read.node_id is not None and "default" not in reference:
                    self._read.setdefault(read.node_id, []).append((node["id"], read.path))

    def faults(self, node_id: str, output: Any, at: str) -> list[dict[str, str]]:
        """What is wrong with `output` instead of that of `node_id`, as {pointer, code, message}; pointers begin with `at`.
        Raises BadSchema."""
        promised = self._promised.get(node_id)
        found = schemas.faults(promised, output, at) if promised else []
        for reader, path in self._read.get(node_id, ()):
            if references.dig(output, path) is references.MISSING:
                pointer = at + "".join(f"/{told(part)}" for part in path)
                message = f"Node {quote(reader)} reads this and cannot live without it."
                found.append({"pointer": pointer, "code": "read-by-dependant", "message": message})
        return found[: schemas.MAX_ERRORS]
