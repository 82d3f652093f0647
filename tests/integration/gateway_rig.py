"""A gateway on a real PostgreSQL, listening on a real socket, and hands to put rows there that an orchestrator would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from handrail_contracts import ids
from handrail_contracts.model import iso
from handrail_contracts.topics import TOPICS
from handrail_gateway.adapters import postgres
from handrail_gateway.bootstrap import Gateway, build
from handrail_gateway.settings import GatewaySettings
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import Bus
from handrail_runtime.settings import EngineSettings
from handrail_store import connect
from handrail_store.connect import pool
from handrail_store.journal_weeks import born_at

PARTITIONS = 4
NO_REDIS = "redis://127.0.0.1:1/0"
JSON = {"Content-Type": "application/json"}

RESOLUTIONS: list[dict[str, Any]] = [
    {"action_id": "RES_SKIP", "display_text": "Skip Hardware Step", "requires_input": False, "kind": "skip"},
    {
        "action_id": "RES_MANUAL_SKU",
        "display_text": "Provide Custom Vendor Link",
        "requires_input": True,
        "input_schema": "url",
        "kind": "retry",
        "sets": "vendor_url",
    },
    {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "requires_input": False, "kind": "compensate"},
]
BLUEPRINT: dict[str, Any] = {
    "name": "employee-onboarding",
    "version": 2,
    "title": "Onboard",
    "input_schema": {
        "type": "object",
        "required": ["employee", "sku"],
        "properties": {
            "employee": {"type": "string"},
            "sku": {"type": "string"},
            "budget": {"type": "number", "minimum": 0, "default": 2500},
        },
        "additionalProperties": False,
    },
    "defaults": {"employee": "New colleague", "sku": "MBP-16"},
    "match": {"examples": ["Onboard a new employee and provision their hardware"], "keywords": ["new engineer"]},
    "nodes": [
        {"id": "hr_record", "agent": "hr_bot", "action": "create", "inputs": {"name": {"$from": "input.employee"}}},
        {"id": "hardware", "agent": "hardware_bot", "action": "order", "depends_on": ["hr_record"]},
    ],
    "output": {"order": {"$from": "nodes.hardware.output"}},
}
MANIFESTS: dict[tuple[str, str], dict[str, Any]] = {
    ("hr_bot", "create"): {"effect_class": "idempotent", "compensatable": True},
    ("hardware_bot", "order"): {"effect_class": "idempotent", "compensatable": True, "retry": {"max_attempts": 5}},
    ("simulator", "script"): {"effect_class": "pure", "compensatable": True},
    ("bank", "wire"): {
        "effect_class": "unsafe",
        "input_schema": {"type": "object", "properties": {"amount": {"type": "number"}}},
    },
}


@dataclass
class Rig:
    """A running gateway. `client` speaks to it, `db` looks into its database."""

    gateway: Gateway
    client: httpx2.AsyncClient
    db: Any
    bus: Bus
    dsn: str
    names: Any = field(default_factory=lambda: iter(range(10**9)))

    @property
    def port(self) -> int:
        return self.gateway.port

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """A POST of JSON; header names have underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json={} if body is None else body, headers=named)

    async def get(self, path: str, **parameters: Any) -> httpx2.Response:
        return await self.client.get(path, params=parameters)

    async def register(self) -> None:
        """The agents and the blueprint of these tests."""
        for (name, action), manifest in MANIFESTS.items():
            await self.add_agent(name, action, manifest)
        await self.add_blueprint(BLUEPRINT)

    async def add_agent(self, name: str, action: str, manifest: dict[str, Any]) -> None:
        await self.db.execute(
            "INSERT INTO handrail.agent (name, action, version, manifest, registered_at, last_seen)"
            " VALUES ($1, $2, '1', $3, handrail.clock(), handrail.clock()) ON CONFLICT DO NOTHING",
            name,
            action,
            manifest,
        )

    async def add_blueprint(self, blueprint: dict[str, Any]) -> None:
        await self.db.execute(
            "INSERT INTO handrail.blueprint (name, version, digest, body, loaded_at)"
            " VALUES ($1, $2, $3, $4, handrail.clock()) ON CONFLICT DO NOTHING",
            blueprint["name"],
            blueprint["version"],
            ids.digest(str(blueprint).encode()),
            blueprint,
        )

    async def workflow(
        self, events: list[dict[str, Any]], *, status: str, trace_id: str | None = None, **more: Any
    ) -> str:
        """A workflow with these events (event_type and what it carries; seq and at are given here)."""
        trace_id = trace_id or f"t-{uuid4().hex[:12]}"
        now_ms = int(await self.db.fetchval("SELECT (extract(epoch FROM handrail.clock()) * 1000)::bigint"))
        ended = status in ("COMPLETED", "COMPENSATED", "CANCELLED", "FAILED")
        await self.db.execute(
            "INSERT INTO handrail.workflow (trace_id, p, born, status, seq, blueprint, intent, labels, created_at,"
            " updated_at, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, handrail.clock(), handrail.clock(),"
            " CASE WHEN $9 THEN handrail.clock() END)",
            trace_id,
            ids.partition("default", trace_id, PARTITIONS),
            born_at(now_ms),
            status,
            len(events),
            more.get("blueprint"),
            more.get("intent"),
            more.get("labels", {}),
            ended,
        )
        await self.append(trace_id, events)
        return trace_id

    async def append(self, trace_id: str, events: list[dict[str, Any]]) -> None:
        """Further events of a workflow."""
        born, last, now = await self.db.fetchrow(
            "SELECT born, (SELECT coalesce(max(seq), 0) FROM handrail.journal j WHERE j.born = w.born AND j.tenant ="
            " w.tenant AND j.trace_id = w.trace_id), handrail.clock() FROM handrail.workflow w WHERE trace_id = $1",
            trace_id,
        )
        rows = [
            {"trace_id": trace_id, "seq": last + i, "at": iso(int(now.timestamp() * 1000)), **event}
            for i, event in enumerate(events, 1)
        ]
        await self.db.execute(
            "INSERT INTO handrail.journal (born, trace_id, seq, p, pseq, type, data, meta, at)"
            " SELECT $1, $2, s, $3, s, t, d, m, handrail.clock()"
            " FROM unnest($4::int[], $5::text[], $6::json[], $7::json[]) AS u (s, t, d, m)",
            born,
            trace_id,
            ids.partition("default", trace_id, PARTITIONS),
            [row["seq"] for row in rows],
            [row["event_type"] for row in rows],
            [{k: v for k, v in row.items() if k != "meta"} for row in rows],
            [row.get("meta") for row in rows],
        )

    async def paused(self, *, resolutions: list[dict[str, Any]] | None = None, **more: Any) -> tuple[str, str]:
        """A workflow at one open pause, as an orchestrator leaves it: (trace_id, pause_id)."""
        trace_id = await self.workflow([accepted(), planned("a")], status="PAUSED_HITL", **more.pop("workflow", {}))
        return trace_id, await self.pause(trace_id, resolutions=resolutions, **more)

    async def pause(self, trace_id: str, *, resolutions: list[dict[str, Any]] | None = None, **more: Any) -> str:
        """One more open pause of a workflow."""
        seq = 1 + await self.db.fetchval("SELECT count(*) FROM handrail.journal WHERE trace_id = $1", trace_id)
        data = pause_event(ids.pause_id("default", trace_id, seq), resolutions or RESOLUTIONS, **more)
        await self.append(trace_id, [data])
        stored = await self.db.fetchval(
            "SELECT data FROM handrail.journal WHERE trace_id = $1 AND seq = $2", trace_id, seq
        )
        await self.db.execute(
            "INSERT INTO handrail.pause (pause_id, trace_id, seq, node_id, kind, data, failed_agent, error_code,"
            " opened_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, handrail.clock(), $9::text::timestamptz)",
            data["pause_id"],
            trace_id,
            seq,
            data["node_id"],
            data["kind"],
            stored,
            data["failed_agent"],
            more.get("error_code"),
            data["expires_at"],
        )
        return data["pause_id"]

    async def close_pause(
        self, pause_id: str, outcome: str, action_id: str | None = None, actor: str = "system"
    ) -> None:
        """Closes a pause as an orchestrator does: by the decision that is there, or by one of its own."""
        await self.db.execute(
            "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at, applied)"
            " SELECT pause_id, trace_id, $2, $3, $4, 'system', handrail.clock(), true FROM handrail.pause"
            " WHERE pause_id = $1 ON CONFLICT (pause_id) DO UPDATE SET applied = true",
            pause_id,
            outcome,
            action_id,
            actor,
        )
        await self.db.execute(
            "UPDATE handrail.pause SET state = $2, closed_at = handrail.clock() WHERE pause_id = $1", pause_id, outcome
        )

    async def commands(self, trace_id: str, kind: str | None = None) -> list[Any]:
        """The command rows of a workflow, oldest first."""
        return await self.db.fetch(
            "SELECT * FROM handrail.command WHERE trace_id = $1 AND ($2::text IS NULL OR kind = $2) ORDER BY n",
            trace_id,
            kind,
        )


def accepted(**more: Any) -> dict[str, Any]:
    body = {"intent": None, "blueprint": None, "input": {}, "labels": {}, "status": "ACCEPTED"}
    return {"event_type": "WORKFLOW_ACCEPTED", **body, **more}


def planned(*node_ids: str) -> dict[str, Any]:
    nodes = [
        {
            "id": n,
            "agent": "simulator",
            "action": "script",
            "depends_on": [],
            "state": "PENDING",
            "attempt": 0,
            "max_attempts": 3,
        }
        for n in node_ids
    ]
    meta = {"nodes": [{"id": n, "agent": "simulator", "action": "script"} for n in node_ids]}
    more = {"node_count": len(nodes), "edge_count": 0, "plan_digest": "sha256:0", "meta": meta}
    return {"event_type": "WORKFLOW_PLANNED", "nodes": nodes, **more}


def moved(node_id: str, before: str, to: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "event_type": "NODE_STATE_CHANGED",
        "node_id": node_id,
        "from": before,
        "to": to,
        "attempt": attempt,
        **more,
    }


def pause_event(pause_id: str, resolutions: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "failed_agent": "hardware_bot",
        "failure_reason": "All approved vendors returned 404.",
        "context_snapshot": {"requested_budget": 2500},
        "available_resolutions": resolutions,
        "pause_id": pause_id,
        "kind": "failure",
        "node_id": "a",
        "raw_evidence": {"content_type": "application/json", "body": {"error": "X"}, "truncated": False},
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
    given = {k: v for k, v in more.items() if k in body}
    return {"event_type": "WORKFLOW_PAUSED_HITL", **body, **given, "meta": {"scope": "workflow"}}


def node(id_: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "agent": "simulator", "action": "script", "depends_on": list(depends_on), **more}


@asynccontextmanager
async def running_gateway(
    dsn: str,
    *,
    bus: Bus | None = None,
    redis_url: str = NO_REDIS,
    ledger: Callable[[str, str], Awaitable[list[dict[str, Any]]]] | None = None,
    dev: bool = False,
    **settings: Any,
) -> AsyncGenerator[Rig]:
    """A gateway for the length of the block."""
    bus = bus or await memory_bus()
    engines = EngineSettings(postgres_dsn=SecretStr(dsn), redis_url=SecretStr(redis_url), partitions=PARTITIONS)
    gateway = build(GatewaySettings(port=0, **settings), engines, bus=bus, ledger=ledger, dev=dev)
    await gateway.start()
    running = asyncio.create_task(gateway.run(), name="gateway.run")
    db = await pool(dsn, app="test", max_size=4)
    base = f"http://127.0.0.1:{gateway.port}"
    try:
        async with httpx2.AsyncClient(base_url=base, timeout=30, trust_env=False) as client:
            yield Rig(gateway, client, db, bus, dsn)
    finally:
        await db.close()
        await gateway.stop()
        await running


@contextmanager
def patient_database() -> Generator[None]:
    """For tests of many thousand requests on a machine that may stand still for seconds meanwhile: no 503 for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "PATIENCE_S", 60.0)
        patch.setattr(connect, "LOCK_TIMEOUT_MS", 60_000)
        yield


async def memory_bus() -> MemoryBus:
    bus = MemoryBus()
    await bus.ensure_topics({topic.name: (PARTITIONS, {}) for topic in TOPICS})
    return bus


async def raw(port: int, request: bytes, *, timeout_s: float = 20) -> tuple[int, dict[str, str], bytes, bool]:
    """(status, headers, body, whether the server closed) of one request sent byte for byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            closed = False
            if headers.get("connection") == "close":
                try:
                    closed = await reader.read() == b""
                except ConnectionError:
                    closed = True
            return int(lines[0].split()[1]), headers, body, closed
    finally:
        writer.close()


async def superuser(dsn: str) -> Any:
    return await asyncpg.connect(dsn)
