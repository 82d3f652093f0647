"""Everybody outside: clients who start workflows, operators who decide pauses (several at once), who panic, who cancel."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.commands import Nudge
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.ids import partition, workflow_key
from handrail_contracts.plan import Plan
from handrail_engine.plan import compile_plan, validate
from handrail_runtime.ports import Outgoing
from tests.torture.checker.history import Accepted
from tests.torture.sim.bus import SimBus
from tests.torture.sim.database import Locked, PauseRow
from tests.torture.sim.store import Server

CHANNELS = ("console", "api", "cli", "slack", "mcp")
_OUTCOMES = (
    ["ok"], ["ok"], ["ok"], ["error:FLAKY", "ok"], ["error:BROKEN"], ["fatal:NO"], ["hang", "ok"], ["late:2500"],
    ["late:6000", "ok"], ["garbage", "ok"], ["escalate:please"], ["hang"],
)  # fmt: skip
_UNDOS = (["ok"], ["ok"], ["ok"], ["error:STUCK", "ok"], ["error:STUCK"], ["hang", "ok"])


class People:
    """`p` is the number of partitions; `accepted` what they were told was accepted."""

    def __init__(self, rng: Random, server: Server, bus: SimBus, partitions: int) -> None:
        self.rng, self.server, self.bus, self.p = rng, server, bus, partitions
        self.accepted: list[Accepted] = []
        self.started: list[str] = []
        self.races = 0
        self.lost = 0
        self.presses = 0

    # what they order

    def plan(self) -> dict[str, Any]:
        rng = self.rng
        nodes: list[dict[str, Any]] = []
        for i in range(rng.choice((1, 2, 3, 3, 4, 5))):
            before = [n["id"] for n in nodes]
            nodes.append(self._node(f"n{i}", sorted(rng.sample(before, min(len(before), rng.choice((0, 1, 1, 2)))))))
        plan = Plan.model_validate({"nodes": nodes})
        registry = self.server.database.registry
        assert not (wrong := validate(plan, registry)), wrong
        return compile_plan(plan, registry)

    def _node(self, id_: str, after: list[str]) -> dict[str, Any]:
        rng = self.rng
        node: dict[str, Any] = {
            "id": id_,
            "agent": "simulator",
            "action": "script",
            "depends_on": after,
            "effect_class": rng.choices(("idempotent", "queryable", "unsafe", "pure"), (6, 2, 1, 1))[0],
            "retry": {
                "max_attempts": rng.choice((2, 3, 4)),
                "initial_delay_s": rng.choice((0.0, 0.2)),
                "max_delay_s": 1,
            },
            "timeouts": {"lease_s": rng.choice((1.0, 2.0)), "start_to_close_s": 8.0, "schedule_to_start_s": 40.0},
            "inputs": {
                "outcomes": rng.choice(_OUTCOMES),
                "output": {"from": id_},
                "duration_ms": rng.choice((0, 0, 5, 80, 400)),
                "undo": rng.choice(_UNDOS),
                "undo_duration_ms": rng.choice((0, 0, 100)),
            },
            "on_exhausted": rng.choices(("pause", "skip", "compensate", "fail"), (10, 2, 3, 1))[0],
        }
        if rng.random() < 0.1:
            node["optional"] = True
        if rng.random() < 0.1:
            node["savepoint"] = True
        if rng.random() < 0.1:
            node["irreversible"] = True
        else:
            node["compensation"] = {
                "retry": {"max_attempts": 2, "initial_delay_s": 0.2},
                "timeouts": {"lease_s": 1.0, "start_to_close_s": 8.0, "schedule_to_start_s": 40.0},
            }
        if rng.random() < 0.15:
            node["expiry"] = {
                "after_s": rng.choice((1.0, 4.0)),
                "action_id": rng.choice(("RES_SKIP", "RES_ABORT_SAGA")),
            }
        return node

    async def start(self, trace_id: str) -> None:
        body = {"intent": None, "blueprint": None, "input": {}, "labels": {}, "plan": self.plan()}
        if self.rng.random() < 0.1:
            body["deadline_s"] = self.rng.choice((2.0, 6.0))
        await self._command(trace_id, "start", body)
        self.started.append(trace_id)

    async def panic(self, trace_id: str) -> None:
        await self._command(trace_id, "pause", {"comment": "stop"})

    async def cancel(self, trace_id: str) -> None:
        await self._command(trace_id, "cancel", {"compensate": self.rng.random() < 0.7, "comment": None})

    async def _command(self, trace_id: str, kind: str, body: dict[str, Any]) -> None:
        await self._database()
        p = partition("default", trace_id, self.p)
        row = self.server.database.add_command(trace_id, p, kind, body, "ann", "api")
        self.accepted.append(Accepted(kind, trace_id, row.command_id))
        self._nudge(trace_id, p, row.command_id)

    async def _database(self) -> None:
        """They try again until the gateway answers."""
        await asyncio.sleep(self.server.faults.latency())
        while self.server.down:  # noqa: ASYNC110  time is simulated
            await asyncio.sleep(0.1)

    def _nudge(self, trace_id: str, p: int, command_id: str) -> None:
        f = self.server.faults
        if self.bus.down or f.hit("nudge lost", 0.05) or topics.COMMANDS not in self.bus.counts:
            return
        e = Envelope(command_id, ce_type("nudge"), "/handrail/gateway", subject=trace_id)
        value = encode(Nudge(trace_id=trace_id, command_id=command_id))
        self.bus.arrive(Outgoing(topics.COMMANDS, workflow_key("default", trace_id).encode(), value, to_headers(e), p))

    # what they decide

    def open_pauses(self) -> list[PauseRow]:
        db = self.server.database
        return [p for p in db.pauses.values() if p.state == "open" and p.pause_id not in db.decisions]

    async def look(self, *, healed: bool) -> None:
        """Somebody goes through the inbox; often several at once, who do not agree."""
        rng = self.rng
        for pause in self.open_pauses():
            if pause.kind == "escalation" and rng.random() < 0.3:
                said = {"pause_id": pause.pause_id, "role": rng.choice(("operator", "user")), "text": "well"}
                await self._command(pause.trace_id, "message", said)
            if not healed and rng.random() < 0.6:
                continue
            many = rng.choice((1, 1, 2, 4))
            self.races += many > 1
            await asyncio.gather(*(self._press(pause, healed=healed) for _ in range(many)))

    async def _press(self, pause: PauseRow, *, healed: bool) -> None:
        db, rng = self.server.database, self.rng
        button = self._button(pause, healed=healed)
        if button is None:
            return
        given = (
            {"text": "told", "json": {"told": 1}}.get(button.get("input_schema") or "")
            if button["requires_input"]
            else None
        )
        actor, channel = rng.choice(("ann", "bob")), rng.choice(CHANNELS)
        await self._database()
        tx = db.begin()
        try:
            for _ in range(200):  # lock_timeout
                try:
                    db.lock(tx, pause.pause_id)
                    break
                except (Locked, ConnectionError):
                    await asyncio.sleep(0.01)
            else:
                return
            await asyncio.sleep(self.server.faults.latency())
            if tx.over:
                return
            if pause.state != "open" or pause.pause_id in db.decisions:
                self.lost += 1
                self.server.faults.counts["race lost"] += 1
                return
            p = partition("default", pause.trace_id, self.p)
            body = {"pause_id": pause.pause_id}

            def write() -> None:
                db.decide(pause, button["action_id"], given, actor, channel)
                row = db.add_command(pause.trace_id, p, "decide", body, actor, channel)
                told = Accepted("decide", pause.trace_id, row.command_id, pause.pause_id, button["action_id"])
                self.accepted.append(told)
                self._nudge(pause.trace_id, p, row.command_id)

            tx.staged.append(write)
            self.presses += 1
        finally:
            db.end(tx, commit=bool(tx.staged))

    def _button(self, pause: PauseRow, *, healed: bool) -> dict[str, Any] | None:
        # Nobody lies here: what a person swears to is not in the ledger's power to check.
        offered = [b for b in pause.data["available_resolutions"] if b.get("outcome") not in ("not_happened", "undone")]
        if healed:  # somebody who wants to see it end
            ends = [b for b in offered if b["kind"] in ("skip", "compensate", "resume", "close", "accept", "mark")]
            offered = ends or offered
        return self.rng.choice(offered) if offered else None
