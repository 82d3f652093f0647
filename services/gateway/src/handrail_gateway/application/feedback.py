"""`GET /feedback.jsonl`: one line per decision, whoever made it, with what was proposed and what was done."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from handrail_contracts.marked import marks, redacted, scrubbed, secrets
from handrail_contracts.pauses import ResolutionOutcome
from handrail_contracts.plan import ResolutionKind
from handrail_contracts.pointers import escaped
from handrail_gateway.application import training
from handrail_gateway.application.ports import Row, Views
from handrail_gateway.application.times import rfc3339

_LINES = 100
FORMS = ("sft", "preference", "eval")
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
OUTCOMES = (*_OUTCOMES.values(), "expired", "superseded", "cancelled")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an export is narrowed to, and in which form (None: as CONTRACT has it)."""

    since: datetime | None = None
    blueprint: str | None = None
    kinds: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    form: str | None = None


async def lines(views: Views, tenant: str, wanted: Wanted) -> AsyncGenerator[bytes]:
    """Encoded lines, many at a time, oldest decision first. Raises StoreFault."""
    part: list[bytes] = []
    async for row in views.decisions(tenant, wanted.since, wanted.blueprint, wanted.kinds):
        pause: dict[str, Any] = orjson.loads(row["data"])
        told: dict[str, Any] | None = line(row, pause)
        if wanted.outcomes and told["outcome"] not in wanted.outcomes:
            continue
        if wanted.form is not None:
            told = training.example(wanted.form, told, pause, _given(row))
        if told is None:
            continue
        part.append(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
        if len(part) == _LINES:
            yield b"".join(part)
            part.clear()
    if part:
        yield b"".join(part)


def line(row: Row, pause: dict[str, Any]) -> dict[str, Any]:
    """One decision as CONTRACT section 9 shows it, with a little more."""
    kind = _kind(row, pause)
    proposal: dict[str, Any] | None = pause.get("proposed_action")
    proposed = proposal.get("args") if proposal else None
    given = _given(row)
    final = {ResolutionKind.APPROVE: proposed, ResolutionKind.EDIT: given}.get(kind) if kind else None
    marked = marks(pause)
    comment = row["comment"]
    if marked:
        comment = scrubbed(comment, secrets(pause, given))
        proposed = redacted(proposed, marked) if isinstance(proposed, dict) else proposed
        final = redacted(final, marked) if isinstance(final, dict) else final
        given = redacted(given, marked) if isinstance(given, dict) else given
    return {
        "decision_id": row["pause_id"],
        "trace_id": row["trace_id"],
        "pause_id": row["pause_id"],
        "kind": row["kind"],
        "outcome": _OUTCOMES[kind] if kind else row["outcome"],
        "proposed": proposed,
        "final": final,
        "patch": patch(proposed, final) if proposed is not None and final is not None else [],
        "input": given,
        "comment": comment,
        "actor": row["actor"],
        "channel": row["channel"],
        "policy": _policy(pause),
        "waited_s": round((row["decided_at"] - row["opened_at"]).total_seconds(), 3),
        "later": {"status": row["status"]},
        "decided_at": rfc3339(row["decided_at"]),
        "blueprint": row["blueprint"],
        "node_id": row["node_id"],
        "agent": pause.get("failed_agent"),
        "action": proposal.get("action") if proposal else None,
    }


def _policy(pause: dict[str, Any]) -> dict[str, Any] | None:
    risk: dict[str, Any] | None = pause.get("risk")
    return {"version": risk["policy_version"], "rule_id": risk["rule_id"], "score": risk["score"]} if risk else None


def _kind(row: Row, pause: dict[str, Any]) -> ResolutionKind | None:
    """What the button that was pressed does; None where nobody pressed one."""
    if row["outcome"] != ResolutionOutcome.DECIDED:
        return None
    kinds = {b["action_id"]: b.get("kind") for b in pause["available_resolutions"]}
    kind = kinds.get(row["action_id"])
    return ResolutionKind(kind) if kind else None


def _given(row: Row) -> Any:
    return orjson.loads(row["input"]) if row["input"] is not None else None


def patch(before: Any, after: Any, at: str = "") -> list[dict[str, Any]]:
    """A JSON Patch (RFC 6902) that turns `before` into `after`: objects key by key, everything else as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        steps: list[dict[str, Any]] = []
        for key in before.keys() - after.keys():
            steps.append({"op": "remove", "path": f"{at}/{escaped(key)}"})
        for key, value in after.items():
            where = f"{at}/{escaped(key)}"
            if key in before:
                steps.extend(patch(before[key], value, where))
            else:
                steps.append({"op": "add", "path": where, "value": value})
        return sorted(steps, key=lambda s: s["path"])
    # As JSON: to Python false and 0 are equal, also deep inside.
    return [] if _json(before) == _json(after) else [{"op": "replace", "path": at, "value": after}]


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
