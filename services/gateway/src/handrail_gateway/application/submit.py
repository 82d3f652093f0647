"""`POST /workflows`: an intent, a blueprint or a plan becomes a start command, or is refused at the door."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from handrail_contracts.blueprint import spoken
from handrail_contracts.commands import CommandKind, StartRequest
from handrail_contracts.events import WorkflowStatus
from handrail_contracts.ids import TRACE_ID
from handrail_contracts.plan import Plan
from handrail_gateway.application import plans, schemas
from handrail_gateway.application.faults import Busy, Refusal, quote
from handrail_gateway.application.idempotency import Turns, in_progress, replayed
from handrail_gateway.application.matching import best
from handrail_gateway.application.ports import Answer, Caller, Command, Intake, Start
from handrail_gateway.application.registry import PLANNER, Judged, Known, Ready, Registry, ready
from handrail_gateway.application.shedding import Shedding
from handrail_gateway.application.trace_ids import uuid7

_KNOWN_SHOWN = 20
_BLUEPRINT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Submit:
    """Starts workflows."""

    def __init__(self, intake: Intake, registry: Registry, shedding: Shedding, turns: Turns) -> None:
        self._intake, self._registry, self._shedding, self._turns = intake, registry, shedding, turns

    def remembers(self, plan: bytes) -> bool:
        """Whether a plan that was written like this was taken before and is remembered: then its fields need no second look,
        and `start` does without the plan in its request."""
        return self._registry.remembers(plan)

    async def start(self, caller: Caller, request: StartRequest, plan: bytes | None) -> Answer:
        """The `202`, once the command is durable. Once per idempotency key. `plan` is that of the request as JSON, written as
        `remembers` was asked for it. Raises Refusal, StoreFault."""
        return await self.once(caller, lambda: self._accept(caller, request, plan), chosen=request.trace_id is not None)

    async def once(self, caller: Caller, make: Callable[[], Awaitable[Start]], *, chosen: bool = False) -> Answer:
        """Stores the start that `make` makes, once per idempotency key. `chosen`: its trace_id may be taken. Raises as
        `start` does, and what `make` raises."""
        async with self._turns.turn(caller):
            try:
                await self._shedding.refuse_when_full()
                start = await make()
            except Refusal as refusal:
                # What was accepted once stays accepted, whatever was registered or filled up since.
                kept = await self._kept(caller)
                if kept is None:
                    raise refusal from None
                return kept
            if chosen and caller.key is not None:
                return await self._start_alone(start)
            if await self._intake.start(start):
                return start.answer
            if caller.key is None:
                raise _taken(start.command.trace_id)
            return await self._kept(caller) or await self._start_alone(start)

    async def _start_alone(self, start: Start) -> Answer:
        async with self._intake.transaction() as transaction:
            if start.caller.key is not None:
                try:
                    kept = await transaction.recall(start.caller)
                except Busy:
                    raise in_progress() from None
                if kept is not None:
                    return replayed(start.caller, *kept)
            if not await transaction.add(start.command):
                raise _taken(start.command.trace_id)
            if start.caller.key is not None:
                await transaction.keep(start.caller, start.answer)
            return start.answer

    async def _kept(self, caller: Caller) -> Answer | None:
        if caller.key is None:
            return None
        try:
            async with self._intake.transaction() as transaction:
                kept = await transaction.recall(caller)
                if kept is None:
                    raise _NotKept  # rolls back the key that `recall` has reserved
        except _NotKept:
            return None
        except Busy:
            raise in_progress() from None
        return replayed(caller, *kept)

    async def _accept(self, caller: Caller, request: StartRequest, plan: bytes | None) -> Start:
        trace_id = request.trace_id
        if trace_id is None:
            trace_id = uuid7()
        elif TRACE_ID.fullmatch(trace_id) is None:
            raise Refusal(
                "invalid-trace-id",
                f"Expected a trace_id of 1 to 64 letters, digits, - or _, but found {quote(trace_id)}.",
                errors=[{"pointer": "/trace_id", "code": "invalid-trace-id", "message": "Not a trace id."}],
            )
        body = await self._body(request, plan)
        command = Command(
            uuid7(),
            caller.tenant,
            trace_id,
            CommandKind.START,
            orjson.dumps(body),
            caller.actor,
            caller.channel,
            caller.traceparent,
        )
        return Start(command, caller, accepted(trace_id))

    async def _body(self, request: StartRequest, plan: bytes | None) -> dict[str, Any]:
        if plan is not None:
            if request.blueprint is not None:
                raise _refused("/plan", "Expected a plan or a blueprint, but both are given. Leave one out.")
            return await self._with_plan(request, plan)
        if request.blueprint is not None:
            return await self._with_blueprint(request, request.blueprint)
        if request.intent is None or not request.intent.strip():
            raise _refused("", "Expected an intent, a blueprint or a plan, but the body has none of them.")
        return await self._with_intent(request, request.intent)

    async def _with_plan(self, request: StartRequest, written: bytes) -> dict[str, Any]:
        known = await self._registry.known()
        judged = known.plan(written)
        if judged is None:
            # Without it in the request it was remembered a moment ago, before the registry changed.
            plan = request.plan or Plan.model_validate_json(written, strict=True)
            if any((n.agent, n.action) not in known.manifests for n in plan.nodes):
                known = await self._registry.known(newest=True)
            judged = _judged(plan, known)
            known.remember(written, judged)
        if request.deadline_s is not None and judged.granted_s > request.deadline_s:
            plan = request.plan or Plan.model_validate_json(written, strict=True)
            raise plans.beyond(plan, request.deadline_s, "/plan")
        plan_, output = orjson.Fragment(judged.plan), orjson.Fragment(judged.output)
        return _command(request, known, input=request.input, plan=plan_, output=output)

    async def _with_blueprint(self, request: StartRequest, name: str) -> dict[str, Any]:
        known = await self._registry.known()
        if name not in known.blueprints and _BLUEPRINT_NAME.fullmatch(name) is not None:
            known = await self._registry.known(newest=True)
        if name not in known.blueprints:
            names = ", ".join(sorted(known.blueprints)[:_KNOWN_SHOWN]) or "none is loaded"
            raise Refusal(
                "unknown-blueprint",
                f"Expected one of the blueprints ({names}), but found {quote(name)}.",
                errors=[{"pointer": "/blueprint", "code": "unknown-blueprint", "message": "No such blueprint."}],
            )
        return await self._instantiate(request, known, name)

    async def _with_intent(self, request: StartRequest, intent: str) -> dict[str, Any]:
        known = await self._registry.known()
        name = best(intent, known.candidates)
        if name is None:
            known = await self._registry.known(newest=True)
            name = best(intent, known.candidates)
        if name is not None:
            return await self._instantiate(request, known, name)
        if _plans(known, intent):
            return _command(request, known, input=request.input, plan=None, output=None)
        names = ", ".join(sorted(known.blueprints)[:_KNOWN_SHOWN]) or "none is loaded"
        raise Refusal(
            "no-plan",
            f"Expected an intent that means one of the blueprints ({names}), but it matches none of them, or several"
            " alike, and no planner knows it. Name a blueprint or send a plan.",
            errors=[{"pointer": "/intent", "code": "no-plan", "message": "Matches no blueprint."}],
        )

    async def _instantiate(self, request: StartRequest, known: Known, name: str) -> dict[str, Any]:
        found = await self._ready(known, name)
        filled = {**found.input_defaults, **request.input}
        schema = found.blueprint.input_schema
        wrong = schemas.faults(schema, filled, "/input") if schema else []
        if wrong:
            raise Refusal(
                "validation",
                f"Expected input as the schema of {name} allows it, but at {quote(wrong[0]['pointer'])}:"
                f" {wrong[0]['message']}",
                errors=wrong,
            )
        return _command(
            request,
            known,
            blueprint=name,
            version=found.blueprint.version,
            input=filled,
            plan=orjson.Fragment(found.plan),
            output=orjson.Fragment(found.output),
        )

    async def _ready(self, known: Known, name: str) -> Ready:
        if name in known.compiled:
            return known.compiled[name]
        blueprint = known.blueprints[name]
        if any((n.agent, n.action) not in known.manifests for n in blueprint.nodes):
            known = await self._registry.known(newest=True)
            blueprint = known.blueprints[name]
            missing = sorted({n.agent for n in blueprint.nodes if (n.agent, n.action) not in known.manifests})
            if missing:
                raise Refusal(
                    "unknown-agent",
                    f"Expected the agents of {name} to be registered, but never saw {', '.join(missing)}. Start them once.",
                )
        return ready(known, blueprint, {**schemas.defaults(blueprint.input_schema), **blueprint.defaults})


def _judged(plan: Plan, known: Known) -> Judged:
    """The plan as it runs with the agents that are known. Raises Refusal."""
    compiled = plans.compiled(plan, known.manifests, "/plan")
    return Judged(orjson.dumps(compiled), orjson.dumps(plan.output), plans.granted_s(plan))


def _plans(known: Known, intent: str) -> bool:
    """Whether a planner takes this intent: one that thinks takes all, one that only knows by heart those that it knows."""
    manifest = known.manifests.get(PLANNER)
    if manifest is None:
        return False
    by_heart = manifest.get("knows")
    return by_heart is None or spoken(intent) in by_heart


class _NotKept(Exception):
    pass


def accepted(trace_id: str) -> Answer:
    """The `202` of a start."""
    at = f"/workflows/{trace_id}"
    body = {
        "trace_id": trace_id,
        "status": WorkflowStatus.ACCEPTED,
        "links": {"state": f"{at}/state", "events": f"{at}/events", "console": f"/console{at}"},
    }
    return Answer(202, orjson.dumps(body), {"Location": f"{at}/state"})


def _command(
    request: StartRequest,
    known: Known,
    *,
    input: dict[str, Any],
    plan: Any,
    output: Any,
    blueprint: str | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    return {
        "intent": request.intent,
        "blueprint": blueprint,
        "blueprint_version": version,
        "input": input,
        "labels": request.labels,
        "deadline_s": request.deadline_s,
        "plan": plan,
        "output": output,
        "policies": known.policies,
    }


def _refused(pointer: str, message: str) -> Refusal:
    return Refusal("validation", message, errors=[{"pointer": pointer, "code": "validation", "message": message}])


def _taken(trace_id: str) -> Refusal:
    return Refusal(
        "trace-id-taken",
        f"Expected a trace_id that is free, but {quote(trace_id)} is taken. Choose another, or leave it out.",
        trace_id=trace_id,
    )
