"""The policies in force, as the engine judges by them."""

from __future__ import annotations

import orjson

from handrail_engine.policies import Policies
from handrail_gateway.application.ports import Row


def judged(rows: list[Row]) -> Policies:
    """Rows of the newest version of each policy, ready to judge by."""
    found = [(r["name"], r["version"], r["blueprint"], orjson.loads(r["body"])) for r in rows]
    return Policies.read(found, max((r["n"] for r in rows), default=0))
