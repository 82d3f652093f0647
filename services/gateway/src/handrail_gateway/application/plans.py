"""A plan at the door: the engine's rules and every schema in it, answered with the problem that names the fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from handrail_contracts.plan import MAX_NODES, Plan
from handrail_engine.plan import validate
from handrail_gateway.application import schemas
from handrail_gateway.application.faults import Refusal
from handrail_gateway.application.registry import Manifests

MAX_ERRORS = 200


def refuse_oversize(body: Any) -> None:
    """Refuses a plan of too many nodes before each of them is looked at. `body` is the request as read."""
    plan = body.get("plan") if isinstance(body, dict) else None
    nodes = plan.get("nodes") if isinstance(plan, dict) else None
    if isinstance(nodes, list) and len(nodes) > MAX_NODES:
        raise Refusal(
            "dag-too-large",
            f"Expected at most {MAX_NODES} nodes, but the plan has {len(nodes)}. Split the work into several workflows.",
            limit=MAX_NODES,
            got=len(nodes),
        )


def refuse_faults(plan: Plan, manifests: Manifests, at: str, *, input_schema: Mapping[str, Any] | None = None) -> None:
    """Raises Refusal when the plan may not run; pointers begin with `at`. The code is that of the first fault."""
    found = [
        {"pointer": at + p.pointer, "code": p.code, "message": p.message}
        for p in validate(plan, manifests, input_schema=input_schema)
    ]
    found = found or list(_bad_schemas(plan, at))
    if not found:
        return
    codes = Counter(f["code"] for f in found)
    first = found[0]
    more = f" {len(found)} faults in all; `errors` lists them." if len(found) > 1 else ""
    raise Refusal(
        "validation" if len(codes) > 1 and "validation" in codes else first["code"],
        f"{first['message']}{more}",
        errors=found[:MAX_ERRORS],
    )


def _bad_schemas(plan: Plan, at: str) -> Iterator[dict[str, str]]:
    for i, node in enumerate(plan.nodes):
        named: list[tuple[str, Any]] = [(f"{at}/nodes/{i}/output_schema", node.output_schema)]
        for j, resolution in enumerate(node.resolutions or ()):
            named.append((f"{at}/nodes/{i}/resolutions/{j}/input_schema", resolution.input_schema))
        for pointer, schema in named:
            if isinstance(schema, dict):
                try:
                    schemas.check(schema)
                except schemas.BadSchema as e:
                    yield {
                        "pointer": pointer + e.pointer,
                        "code": "validation",
                        "message": f"Expected a JSON Schema, but: {e}.",
                    }
