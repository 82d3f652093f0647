"""`GET /feedback.jsonl`: one line per decision, whoever made it, with what was proposed and what was done."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import orjson

from handrail_contracts.pauses import ResolutionOutcome
from handrail_contracts.plan import ResolutionKind
from handrail_gateway.application.ports import Row, Views

_LINES = 100
_OUTCOMES = {
    ResolutionKind.RETRY: "retried",
    ResolutionKind.SKIP: "skipped",
    ResolutionKind.COMPENSATE: "compensated",
    ResolutionKind.APPROVE: "approved",
    ResolutionKind.EDIT: "edited",
    ResolutionKind.REJECT: "rejected",
    ResolutionKind.RESPOND: "responded",
    ResolutionKind.CLOSE: "closed",
    ResolutionKind.HAND_BACK: "handed_back",
    ResolutionKind.MARK: "marked",
    ResolutionKind.ACCEPT: "accepted",
    ResolutionKind.STOP: "stopped",
    ResolutionKind.RESUME: "resumed",
}


async def lines(views: Views, tenant: str, since: datetime | None) -> AsyncGenerator[bytes]:
    """Encoded lines, many at a time, oldest decision first. Raises StoreFault."""
    part: list[bytes] = []
    async for row in views.decisions(tenant, since):
        part.append(orjson.dumps(line(row), option=orjson.OPT_APPEND_NEWLINE))
        if len(part) == _LINES:
            yield b"".join(part)
            part.clear()
    if part:
        yield b"".join(part)


def line(row: Row) -> dict[str, Any]:
    """One decision as CONTRACT section 9 shows it."""
    pause: dict[str, Any] = orjson.loads(row["data"])
    kinds = {b["action_id"]: b.get("kind") for b in pause["available_resolutions"]}
    kind = kinds.get(row["action_id"])
    decided = row["outcome"] == ResolutionOutcome.DECIDED
    proposal: dict[str, Any] | None = pause.get("proposed_action")
    proposed = proposal.get("args") if proposal else None
    given = orjson.loads(row["input"]) if row["input"] is not None else None
    final = {ResolutionKind.APPROVE: proposed, ResolutionKind.EDIT: given}.get(kind) if decided and kind else None
    risk: dict[str, Any] | None = pause.get("risk")
    return {
        "decision_id": row["pause_id"],
        "trace_id": row["trace_id"],
        "pause_id": row["pause_id"],
        "kind": row["kind"],
        "outcome": _OUTCOMES.get(ResolutionKind(kind), row["outcome"]) if decided and kind else row["outcome"],
        "proposed": proposed,
        "final": final,
        "patch": patch(proposed, final) if proposed is not None and final is not None else [],
        "comment": row["comment"],
        "actor": row["actor"],
        "channel": row["channel"],
        "policy": {"version": risk["policy_version"], "rule_id": risk["rule_id"], "score": risk["score"]}
        if risk
        else None,
        "waited_s": round((row["decided_at"] - row["opened_at"]).total_seconds(), 3),
        "later": {"status": row["status"]},
    }


def patch(before: Any, after: Any, at: str = "") -> list[dict[str, Any]]:
    """A JSON Patch (RFC 6902) that turns `before` into `after`: objects key by key, everything else as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        steps: list[dict[str, Any]] = []
        for key in before.keys() - after.keys():
            steps.append({"op": "remove", "path": f"{at}/{_escaped(key)}"})
        for key, value in after.items():
            where = f"{at}/{_escaped(key)}"
            if key in before:
                steps.extend(patch(before[key], value, where))
            else:
                steps.append({"op": "add", "path": where, "value": value})
        return sorted(steps, key=lambda s: s["path"])
    # As JSON: to Python false and 0 are equal, also deep inside.
    return [] if _json(before) == _json(after) else [{"op": "replace", "path": at, "value": after}]


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
