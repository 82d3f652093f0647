"""What can run: agents and blueprints as the database holds them, remembered for a second.

What is missing is looked up again before it is refused, so a blueprint or an agent counts from its registration on.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from handrail_contracts.blueprint import Blueprint
from handrail_contracts.plan import Plan
from handrail_engine.plan import compile_plan
from handrail_gateway.application.matching import Candidate
from handrail_gateway.application.ports import Views

FRESH_S = 1.0
PLANS, PLAN_BYTES = 100, 32 * 1024
PLANNER = ("planner", "plan")

Manifests = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ready:
    """A blueprint that can be started: its plan compiled against the agents, encoded once."""

    blueprint: Blueprint
    input_defaults: dict[str, Any]
    plan: bytes
    output: bytes


class Judged(NamedTuple):
    """A plan that may run, compiled against the agents, encoded once. `granted_s` is the longest time that the plan itself
    grants a node, which a start's deadline must leave room for; 0 where it grants none."""

    plan: bytes
    output: bytes
    granted_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """One reading of the registry. `policies` is the serial of those in force; `compiled` fills up as blueprints are started,
    `plans` as plans are sent: as they were written, and what became of them, the last ones."""

    manifests: Manifests
    blueprints: dict[str, Blueprint]
    digest: bytes
    policies: int = 0
    compiled: dict[str, Ready] = field(default_factory=dict[str, Ready])
    plans: OrderedDict[bytes, Judged] = field(default_factory=OrderedDict[bytes, Judged])

    def plan(self, written: bytes) -> Judged | None:
        """What became of a plan that was written like this, if it is among the last ones."""
        found = self.plans.get(written)
        if found is not None:
            self.plans.move_to_end(written)
        return found

    def remember(self, written: bytes, judged: Judged) -> None:
        """Keeps it for the next time, if it is small."""
        if len(written) <= PLAN_BYTES:
            self.plans[written] = judged
            if len(self.plans) > PLANS:
                self.plans.popitem(last=False)

    @property
    def candidates(self) -> list[Candidate]:
        """The blueprints as intents are matched against."""
        return [Candidate(b.name, b.match.examples, b.match.keywords) for b in self.blueprints.values()]


class Registry:
    """The registry of one tenant. `clock` answers seconds, monotonic."""

    def __init__(self, views: Views, tenant: str, clock: Callable[[], float]) -> None:
        self._views, self._tenant, self._clock = views, tenant, clock
        self._known: Known | None = None
        self._read_at = 0.0
        self._reading = False  # one asks, the others go on with what is known

    def remembers(self, written: bytes) -> bool:
        """Whether a plan that was written like this was found good before, and is one of the last ones. Asks nobody."""
        return self._known is not None and written in self._known.plans

    async def known(self, *, newest: bool = False) -> Known:
        """What is registered, at most a second old; with `newest` read now. Raises StoreFault."""
        now = self._clock()
        stale = now - self._read_at >= FRESH_S and not self._reading
        if self._known is None or newest or stale:
            self._reading = True
            try:
                # Same rows, same object: what was compiled stays.
                self._known = await self._read()
                self._read_at = now
            finally:
                self._reading = False
        return self._known

    async def _read(self) -> Known:
        agents = await self._views.agents(self._tenant)
        blueprints = await self._views.blueprints(self._tenant)
        serial = await self._views.policy_serial(self._tenant)
        hashed = hashlib.blake2b(str(serial).encode(), digest_size=16)
        for row in agents:
            hashed.update(f"{row['name']}\0{row['action']}\0".encode() + row["manifest"])
        for row in blueprints:
            hashed.update(f"{row['name']}\0{row['version']}\0{row['digest']}\0".encode())
        if self._known is not None and self._known.digest == hashed.digest():
            return self._known
        return Known(
            {(row["name"], row["action"]): orjson.loads(row["manifest"]) for row in agents},
            {row["name"]: Blueprint.model_validate_json(row["body"]) for row in blueprints},
            hashed.digest(),
            serial,
        )


def ready(known: Known, blueprint: Blueprint, input_defaults: dict[str, Any]) -> Ready:
    """The blueprint compiled against what is known; remembered in `known`. Its agents must be known."""
    found = known.compiled.get(blueprint.name)
    if found is None:
        compiled = compile_plan(
            Plan(nodes=blueprint.nodes, output=blueprint.output, budget=blueprint.budget), known.manifests
        )
        found = Ready(blueprint, input_defaults, orjson.dumps(compiled), orjson.dumps(compiled["output"]))
        known.compiled[blueprint.name] = found
    return found
