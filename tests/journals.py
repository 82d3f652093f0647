"""Journals for tests: a `Story` writes events as the engine does, `random_journal` a plausible life of a workflow."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

Event = dict[str, Any]
_BEGIN = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)


def wire(event: Event) -> bytes:
    """An event as it stands in the journal and on the wire."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def canonical(value: Any) -> str:
    """RFC 8785 for what our JSON holds: sorted keys, no spaces, a whole number without a fraction."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


class Story:
    """Events of one workflow, in order, with a clock that ticks 250 ms per event."""

    def __init__(self, trace_id: str = "req_8847_abc") -> None:
        self.trace_id = trace_id
        self.events: list[Event] = []

    @property
    def at(self) -> str:
        now = _BEGIN + timedelta(milliseconds=250 * len(self.events))
        return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"

    def add(self, kind: str, /, **fields: Any) -> Event:
        event = {"event_type": kind, "trace_id": self.trace_id, "seq": len(self.events) + 1, "at": self.at, **fields}
        self.events.append(event)
        return event

    def accepted(self, **more: Any) -> Event:
        fields = {"intent": "Onboard", "blueprint": None, "input": {}, "labels": {}, "status": "PLANNING", **more}
        return self.add("WORKFLOW_ACCEPTED", **fields)

    def planned(self, nodes: dict[str, list[str]], *, agent: str = "simulator") -> Event:
        listed = [
            {
                "id": node_id,
                "agent": agent,
                "action": "script",
                "depends_on": needs,
                "state": "PENDING",
                "attempt": 0,
                "max_attempts": 3,
            }
            for node_id, needs in nodes.items()
        ]
        edges = sum(map(len, nodes.values()))
        return self.add(
            "WORKFLOW_PLANNED",
            nodes=listed[:200],
            node_count=len(listed),
            edge_count=edges,
            plan_digest="sha256:" + "0" * 64,
        )

    def node(self, node_id: str, was: str, to: str, attempt: int = 1, **more: Any) -> Event:
        return self.add("NODE_STATE_CHANGED", node_id=node_id, **{"from": was}, to=to, attempt=attempt, **more)

    def paused(self, pause_id: str, node_id: str | None, kind: str = "failure", **more: Any) -> Event:
        fields: dict[str, Any] = {
            "failed_agent": "hardware_procurement_bot",
            "failure_reason": "All approved vendors returned 404 for requested Macbook Pro SKU.",
            "context_snapshot": {"requested_budget": 2500, "user_department": "Engineering"},
            "available_resolutions": [
                {"action_id": "RES_SKIP", "display_text": "Skip Hardware Step", "requires_input": False}
            ],
            "pause_id": pause_id,
            "kind": kind,
            "node_id": node_id,
            "raw_evidence": {"content_type": "application/json", "body": {"error": "SKU_UNAVAILABLE"}},
            "evidence_digest": "sha256:" + "1" * 64,
            "attempts": [],
            "proposed_action": None,
            "confidence": None,
            "risk": None,
            "transcript": None,
            "assignees": [],
            "claimed_by": None,
            "claimed_until": None,
            "expires_at": None,
            "on_expiry": None,
        }
        return self.add("WORKFLOW_PAUSED_HITL", **{**fields, **more})

    def resolved(self, pause_id: str, action_id: str | None = "RES_SKIP", outcome: str = "decided") -> Event:
        return self.add(
            "HITL_RESOLVED",
            pause_id=pause_id,
            outcome=outcome,
            action_id=action_id,
            actor="local",
            channel="api",
            comment=None,
            input=None,
        )

    def ended(self, kind: str = "WORKFLOW_COMPLETED", status: str = "COMPLETED", **more: Any) -> Event:
        fields = {"status": status, "output": {"ok": True}, "reason": None, "totals": {"COMPLETE": 1}, **more}
        return self.add(kind, **fields)


def random_journal(seed: int, *, max_events: int = 60, trace_id: str = "t") -> list[Event]:
    """A plausible journal: plans, retries, pauses, messages, undos, types from the future, sometimes an end."""
    rng = random.Random(seed)
    story = Story(trace_id)
    story.accepted(
        intent=rng.choice([None, "grüße 🚀", 'say "hi"\n']),
        input={"n": rng.choice([1, 1.5, 2**60, None]), "deep": {"list": [1, [2, {"x": "é"}]]}},
        labels={"team": "it"} if rng.random() < 0.5 else {},
        status=rng.choice(["PLANNING", "RUNNING"]),
    )
    if rng.random() < 0.1:
        return story.events
    nodes = {f"n{i}": [f"n{j}" for j in range(i) if rng.random() < 0.3] for i in range(rng.randint(1, 8))}
    story.planned(nodes)
    states = dict.fromkeys(nodes, "PENDING")
    pauses: list[str] = []
    while len(story.events) < max_events - 1 and rng.random() > 0.01:
        _random_step(rng, story, states, pauses)
    if rng.random() < 0.6:
        story.ended(
            *rng.choice(
                [
                    ("WORKFLOW_COMPLETED", "COMPLETED"),
                    ("WORKFLOW_COMPLETED", "COMPLETED_WITH_SKIPS"),
                    ("WORKFLOW_FAILED", "FAILED"),
                    ("WORKFLOW_COMPENSATED", "COMPENSATED"),
                ]
            ),
            reason=rng.choice([None, "because"]),
        )
    return story.events


_MOVES = [
    "SCHEDULED",
    "IN_PROGRESS",
    "RETRYING",
    "AWAITING_HUMAN",
    "COMPLETE",
    "DEAD_LETTERED",
    "SKIPPED",
    "CANCELLED",
    "COMPENSATING",
    "COMPENSATED",
    "COMPENSATION_FAILED",
    "NOT_REVERSIBLE",
    "NOTHING_TO_UNDO",
    "PENDING",
]


def _random_step(rng: random.Random, story: Story, states: dict[str, str], pauses: list[str]) -> None:
    node_id = rng.choice(list(states))
    match rng.randint(0, 11):
        case 0:
            pauses.append(f"p{len(story.events)}")
            story.paused(pauses[-1], node_id, transcript=rng.choice([None, [{"role": "user", "text": "x", "at": "y"}]]))
        case 1 if pauses:
            until = rng.choice([None, "2026-11-20T10:00:00.000Z"])
            story.add(
                "PAUSE_UPDATED", pause_id=rng.choice(pauses), claimed_by=rng.choice([None, "ada"]), claimed_until=until
            )
        case 2 if pauses:
            story.add("MESSAGE_ADDED", pause_id=rng.choice([*pauses, "unknown"]), role="operator", text="hello\nthere")
        case 3 if pauses:
            story.resolved(pauses.pop(rng.randrange(len(pauses))))
            if not pauses:
                story.add("WORKFLOW_RESUMED", status=rng.choice(["RUNNING", "COMPENSATING"]))
        case 4:
            story.add("TYPE_FROM_THE_FUTURE", anything={"nested": [1, 2]})
        case 5:
            story.add("WORKFLOW_COMPENSATING", scope="workflow", nodes=[{"node_id": node_id, "depends_on": []}])
        case 6 if len(states) < 20:
            new = f"n{len(states)}"
            states[new] = "PENDING"
            summary = {"id": new, "agent": "a", "action": "b", "depends_on": [node_id], "state": "PENDING"}
            story.add("NODES_ADDED", nodes=[{**summary, "attempt": 0, "max_attempts": 1}], by=node_id)
        case _:
            to = rng.choice(_MOVES)
            more: dict[str, Any] = {}
            for field, value in (
                ("output", {"po": rng.randint(1, 9), "f": 0.1}),
                ("error", {"code": "TIMEOUT", "message": "m", "evidence": None}),
                ("retry_at", story.at),
                ("started_at", story.at),
                ("finished_at", story.at),
                ("worker", "w1"),
            ):
                if rng.random() < 0.3:
                    more[field] = value
            story.node(
                rng.choice([node_id, node_id, "no-such-node"]) if rng.random() < 0.05 else node_id,
                states[node_id],
                to,
                rng.randint(1, 3),
                **more,
            )
            states[node_id] = to
