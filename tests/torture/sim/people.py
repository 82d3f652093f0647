"""Everybody outside: clients who start workflows, operators who decide pauses (several at once), who panic, who cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.commands import Nudge
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.ids import partition, workflow_key
from handrail_runtime.ports import Outgoing
from tests.torture.checker.history import Accepted
from tests.torture.sim.agents import Outside
from tests.torture.sim.bus import SimBus
from tests.torture.sim.database import Locked, PauseRow
from tests.torture.sim.plans import AMOUNTS, Plans
from tests.torture.sim.store import Server

CHANNELS = ("console", "api", "cli", "slack", "mcp")
_ENDING = ("skip", "compensate", "resume", "close", "accept", "mark", "approve", "reject")


class People:
    """`p` is the number of partitions; `accepted` what they were told was accepted; `living` are the processes that live."""

    def __init__(
        self,
        rng: Random,
        server: Server,
        bus: SimBus,
        partitions: int,
        plans: Plans,
        outside: Outside,
        living: Callable[[], set[str]],
    ) -> None:
        self.rng, self.server, self.bus, self.p, self.plans = rng, server, bus, partitions, plans
        self.outside, self.living = outside, living
        self.accepted: list[Accepted] = []
        self.started: list[str] = []
        self.races = 0
        self.lost = 0
        self.presses = 0

    # what they order

    async def start(self, trace_id: str) -> None:
        db, intent = self.server.database, self.plans.intent()
        plan = self.plans.draw(db.registry) if intent is None else None
        body = {
            "intent": intent,
            "blueprint": None,
            "input": {},
            "labels": {},
            "plan": plan,
            "policies": len(db.policies),
        }
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
        if button is None or (button.get("outcome") == "not_happened" and not await self._never_happened(pause)):
            return
        given = self._given(pause, button)
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

    def _given(self, pause: PauseRow, button: dict[str, Any]) -> Any:
        """What they write beside the button."""
        amount = self.rng.choice(AMOUNTS)
        if button["kind"] == "edit":
            args = pause.data["proposed_action"]["args"]
            return {**args, "amounts": [amount]} if "amounts" in args else {**args, "amount": amount}
        if not button["requires_input"]:
            return None
        return {"text": "told", "json": {"told": 1}, "number": amount}.get(button.get("input_schema") or "")

    async def _never_happened(self, pause: PauseRow) -> bool:
        """Nobody lies here: who swears that it did not happen has seen that it cannot happen any more, and has looked twice."""
        for _ in range(2):
            if self.outside.may_happen(pause.trace_id, pause.data["node_id"], self.living()):
                return False
            await asyncio.sleep(1.0)
        return True

    def _button(self, pause: PauseRow, *, healed: bool) -> dict[str, Any] | None:
        # What a person swears to have undone is not in the ledger's power to check.
        offered = [b for b in pause.data["available_resolutions"] if b.get("outcome") != "undone"]
        if healed:  # somebody who wants to see it end
            ends = [b for b in offered if b["kind"] in _ENDING and b.get("scope") != "savepoint"]
            ends = [b for b in ends if b.get("outcome") != "not_happened"] or ends
            offered = ends or offered
        rare = [b for b in offered if b.get("scope") or b["action_id"] == "RES_AMOUNT"] if not healed else []
        return self.rng.choice(rare or offered) if offered else None
