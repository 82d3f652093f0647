"""Preview, inputs and explain: the engine's own functions, asked on a state folded from the journal; nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from handrail_contracts.pauses import ResolutionOutcome
from handrail_engine.evolve import fold
from handrail_engine.explain import Around, explain
from handrail_engine.given import given
from handrail_engine.inputs import Cancel, PanicPause, Rejection
from handrail_engine.preview import preview, preview_order
from handrail_engine.state import Row as EngineRow
from handrail_engine.state import WorkflowState
from handrail_gateway.application.faults import (
    Refusal,
    already_ended,
    already_paused,
    node_not_found,
    pause_not_found,
    quote,
    still_opening,
    workflow_not_found,
)
from handrail_gateway.application.in_force import judged
from handrail_gateway.application.lists import ALIVE_S
from handrail_gateway.application.ports import Row, Views
from handrail_gateway.application.spending import spending
from handrail_gateway.application.times import rfc3339

_MANY = 1_000


class Foresight:
    """Answers what would happen, and why nothing does."""

    def __init__(self, views: Views, tenant: str) -> None:
        self._views, self._tenant = views, tenant

    async def preview(self, trace_id: str, pause_id: str, action_id: str, input_: Any = None) -> dict[str, Any]:
        """What the button would do at once. Raises Refusal for a pause that is over and a button that is not offered."""
        row = await self._views.pause(self._tenant, pause_id)
        opening = await self._views.opening(self._tenant, pause_id) if row is None else None
        if opening is not None and opening[0] == trace_id:
            raise still_opening(trace_id, pause_id)
        if row is None or row["trace_id"] != trace_id:
            raise pause_not_found(pause_id)
        if row["state"] != "open" or row["d_outcome"] is not None:
            decided = row["d_outcome"] in (None, ResolutionOutcome.DECIDED)
            raise Refusal(
                "already-resolved" if decided else "stale-pause",
                "Expected an open pause, but it is over.",
                trace_id=trace_id,
                pause_id=pause_id,
                action_id=row["d_action_id"],
                resolved_by=row["d_actor"],
            )
        offered = [b["action_id"] for b in orjson.loads(row["data"])["available_resolutions"]]
        if action_id not in offered:
            raise Refusal(
                "action-not-allowed",
                f"Expected one of {', '.join(offered)}, but found {quote(action_id)}.",
                allowed=offered,
                trace_id=trace_id,
                pause_id=pause_id,
            )
        try:
            policies = judged(await self._views.policies(self._tenant))
            now_ms, room = await self._views.now_ms(), await self._room()
            return preview(await self._state(trace_id), pause_id, action_id, input_, now_ms, policies, room=room)
        except LookupError:
            # Decided between the two reads.
            raise Refusal("stale-pause", "Expected an open pause, but it is over.", pause_id=pause_id) from None

    async def pausing(self, trace_id: str) -> dict[str, Any]:
        """What the panic button would do at once. Raises Refusal where the order itself would be refused."""
        return await self._ordered(trace_id, PanicPause(), "PAUSED_HITL")

    async def cancelling(self, trace_id: str, *, compensate: bool) -> dict[str, Any]:
        """What a cancel would do at once. Raises Refusal where the order itself would be refused."""
        return await self._ordered(trace_id, Cancel(compensate), "COMPENSATED" if compensate else "CANCELLED")

    async def _ordered(self, trace_id: str, order: PanicPause | Cancel, with_nothing_done: str) -> dict[str, Any]:
        summary = await self._views.summary(self._tenant, trace_id)
        if summary is None:
            raise workflow_not_found(trace_id)
        if summary.ended:
            raise already_ended(trace_id, summary.status)
        name = "pause" if isinstance(order, PanicPause) else "cancel"
        nothing = {"nodes": [], "undo": [], "skipped": [], "under_way": [], "standing": []}
        same = {"action_id": name, "status_after": summary.status, **nothing}
        if summary.parked is not None:
            if isinstance(order, Cancel):
                return {**same, "status_after": with_nothing_done}  # as far as the rules can still follow
            return same  # a pause waits behind the record that parked it
        state = await self._state(trace_id)
        if not state.exists:
            return {**same, "status_after": with_nothing_done}  # accepted, and its first event is still to come
        seen = preview_order(state, order, await self._views.now_ms())
        if not isinstance(seen, Rejection):
            return seen
        if seen.reason == "already-paused":
            raise already_paused(trace_id)
        return same  # it is ending already

    async def node(self, trace_id: str, node_id: str) -> dict[str, Any]:
        """What a node works with. Raises Refusal for one that is not there."""
        summary = await self._views.summary(self._tenant, trace_id)
        if summary is None:
            raise workflow_not_found(trace_id)
        state = None if summary.parked is not None else await self._state(trace_id)
        if state is None or node_id not in state.nodes:
            raise node_not_found(trace_id, node_id)
        return {"trace_id": trace_id, **given(state, state.nodes[node_id])}

    async def explain(self, trace_id: str) -> dict[str, Any]:
        """One sentence why it is not moving, and its facts; of one that goes on also what it has spent on models."""
        summary = await self._views.summary(self._tenant, trace_id)
        if summary is None:
            raise workflow_not_found(trace_id)
        if summary.parked is not None:
            # Its journal is what the rules cannot handle, so it is not folded here either.
            reason = summary.parked
            records = await self._views.parked_by(self._tenant, trace_id)
            fact = {"waiting_for": "operator", "parked_reason": reason, "records": [r["id"] for r in records]}
            sentence = f"It is parked: {reason.rstrip('. ')}. {_ways_on(records)}"
            return {"trace_id": trace_id, "status": summary.status, "sentence": sentence, "facts": [fact]}
        if summary.ended:  # it may have been ended by force, because nothing can fold it
            sentence = f"It has ended: {summary.status}."
            return {"trace_id": trace_id, "status": summary.status, "sentence": sentence, "facts": []}
        around = await self._around(trace_id)
        policies = judged(await self._views.policies(self._tenant))
        state = await self._state(trace_id)
        return {**explain(state, await self._views.now_ms(), around), "spending": spending(state, policies)}

    async def _around(self, trace_id: str) -> Around:
        """What the journal does not say: its owner, orders under way, workers, limits."""
        found = await self._views.surroundings(self._tenant, trace_id)
        if found is None:
            return Around()
        limits, silent = await self._agents()
        return Around(
            owned=found["owned"],
            p=found["p"],
            behind=found["behind"],
            orders=tuple(orjson.loads(found["orders"])),
            silent=silent,
            limits=limits,
            taken=await self._views.places(self._tenant) if limits else {},
        )

    async def _agents(self) -> tuple[dict[str, int], dict[str, str]]:
        """Every `max_in_flight`, by agent and by agent/action; and of agents without a living worker, when one was seen last."""
        limits: dict[str, int] = {}
        seen: dict[str, tuple[float, str]] = {}
        for r in await self._views.agents(self._tenant):
            manifest = orjson.loads(r["manifest"])
            for key, most in (
                (r["name"], manifest.get("agent_max_in_flight")),
                (f"{r['name']}/{r['action']}", manifest.get("max_in_flight")),
            ):
                if most is not None:
                    limits[key] = most
            last = (r["seen_ago_s"], rfc3339(r["last_seen"]))
            seen[r["name"]] = min(seen.get(r["name"], last), last)
        return limits, {name: at for name, (ago_s, at) in seen.items() if ago_s > ALIVE_S}

    async def _room(self) -> dict[str, int]:
        limits, _ = await self._agents()
        taken = await self._views.places(self._tenant) if limits else {}
        return {key: most - taken.get(key, 0) for key, most in limits.items()}

    async def _state(self, trace_id: str) -> WorkflowState:
        rows = await self._views.journal(self._tenant, trace_id)
        if len(rows) > _MANY:
            return await asyncio.to_thread(self._folded, trace_id, rows)
        return self._folded(trace_id, rows)

    def _folded(self, trace_id: str, rows: list[Row]) -> WorkflowState:
        return fold(self._tenant, trace_id, map(_engine_row, rows))


def _ways_on(records: list[Row]) -> str:
    """What a person can do with a workflow that these records have parked."""
    if not records:
        return "Nothing is left to put back; cancel it, which undoes what the rules can still undo."
    first = records[0]["id"]
    more = f" (and {len(records) - 1} that came later)" if len(records) > 1 else ""
    without = f" go on without it (quarantine discard {first})," if records[0]["lay"] else ""
    return (
        f"Put quarantine record {first}{more} back once the cause is repaired (quarantine replay {first}),{without}"
        f" or give the workflow up (quarantine discard {first} --give-up, or cancel)."
    )


def _engine_row(r: Row) -> EngineRow:
    meta = None if r["meta"] is None else orjson.loads(r["meta"])
    return EngineRow(r["seq"], r["type"], orjson.loads(r["data"]), meta, round(r["at"].timestamp() * 1000))
