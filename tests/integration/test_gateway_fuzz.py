"""G10: whatever is sent, the answer is below 500, and every refusal a problem that leaks nothing. Seeded: a failure repeats."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import Rig, accepted, patient_database, planned, running_gateway

from handrail_contracts.problems import PROBLEMS

ORDERS = (
    *["/workflows"] * 8,
    *["/workflows/{t}/resume"] * 4,
    *(
        "/workflows/{t}/pause",
        "/workflows/{t}/cancel",
        "/pauses/{p}/claim",
        "/pauses/{p}/release",
        "/pauses/{p}/messages",
    ),
    *("/dead-letters/{d}/replay", "/dead-letters/{d}/discard", "/quarantine/{}/replay", "/quarantine/{}/discard"),
)
READS = (
    *(
        "/workflows",
        "/workflows/{t}/state",
        "/workflows/{t}/journal",
        "/workflows/{t}/explain",
        "/workflows/{t}/blobs/{}",
    ),
    *("/workflows/{t}/pauses/{p}/preview/{}", "/inbox", "/pauses/{p}", "/dead-letters", "/dead-letters/{d}"),
    *("/quarantine", "/quarantine/{}", "/blueprints", "/agents", "/feedback.jsonl", "/schemas/{}", "/problems/{}"),
    *("/console/{}", "/healthz", "/metrics", "/openapi.json", "/asyncapi.json", "/{}"),
)
ODD = (
    *(
        "",
        "\x00",
        "..",
        "💥",
        "'; DROP TABLE x;--",
        "a" * 300,
        "-1",
        "0",
        "1",
        "9" * 20,
        "null",
        "true",
        "{}",
        "%",
        "%zz",
    ),
    *("sha256:" + "0" * 64, "<script>", "NaN", "1e400", "a:b", "2026-01-01T00:00:00Z", "ACCEPTED", "RES_SKIP", "open"),
)
QUERY = [
    "status",
    "blueprint",
    "label",
    "q",
    "limit",
    "cursor",
    "history",
    "after",
    "state",
    "kind",
    "agent",
    "error_code",
    "trace_id",
    "topic",
    "since",
    "x",
]
FIELDS = [
    "intent",
    "blueprint",
    "input",
    "plan",
    "trace_id",
    "labels",
    "deadline_s",
    "action_id",
    "pause_id",
    "comment",
    "evidence_digest",
    "override_claim",
    "compensate",
    "seconds",
    "reason",
    "role",
    "text",
    "nodes",
    "output",
    "id",
    "agent",
    "action",
    "depends_on",
    "inputs",
    "retry",
    "timeouts",
    "when",
    "$from",
    "resolutions",
    "gate",
    "output_schema",
    "type",
    "properties",
    "employee",
    "sku",
]
LEAKS = (b"Traceback", b"asyncpg", b"SELECT ", b"INSERT ", b"/site-packages/", b"handrail_store")


class Fuzz:
    """Requests drawn from a seed. `things` are ids that exist, by the letter that stands for them in a path."""

    def __init__(self, seed: int, things: dict[str, list[str]]) -> None:
        self.random, self.things = random.Random(seed), things
        self.ids = [i for ids in things.values() for i in ids]

    def odd(self) -> str:
        return self.random.choice(self.ids if self.random.random() < 0.5 else ODD)

    def filled(self, path: str) -> str:
        r = self.random
        for place in ("{t}", "{p}", "{d}", "{}", "{}"):
            if place in path:
                fitting = self.things.get(place[1:-1])
                odd = r.choice(fitting) if fitting and r.random() < 0.6 else self.odd()
                plain = "".join(c for c in odd if "!" <= c <= "~" and c not in "?#")
                path = path.replace(place, r.choice([quote(odd, safe=""), plain or "x"]), 1)
        return path

    def value(self, depth: int = 0) -> Any:
        r = self.random
        if depth > 4 or r.random() < 0.3:
            return r.choice([None, True, False, 0, -1, 1.5, 2**53, 2**53 + 1, 1e308, "operator", self.odd()])
        if r.random() < 0.3:
            return [self.value(depth + 1) for _ in range(r.randrange(4))]
        return {r.choice([*FIELDS, *ODD[:4]]): self.value(depth + 1) for _ in range(r.randrange(6))}

    def node(self) -> dict[str, Any]:
        r = self.random
        node: dict[str, Any] = {
            "id": r.choice(["a", "b", "c", self.odd()]),
            "agent": r.choice(["simulator", "hr_bot", "x"]),
            "action": r.choice(["script", "create"]),
            "depends_on": r.sample(["a", "b", "c"], r.randrange(3)),
            "inputs": r.choice([{}, {"x": {"$from": r.choice(["input.a", "nodes.a.output.b.0", self.odd()])}}]),
        }
        if r.random() < 0.4:
            more = ("retry", "timeouts", "when", "gate", "compensation", "resolutions", "output_schema", "context")
            node[r.choice(more)] = self.value()
        return node

    def body(self) -> bytes:
        r = self.random
        chance = r.random()
        if chance < 0.2:
            return r.choice([b"{}", b'{"action_id":"RES_SKIP"}', b'{"role":"user","text":"x"}', b'{"seconds":5}'])
        if chance < 0.4:
            value: Any = {"plan": {"nodes": [self.node() for _ in range(r.randrange(4))]}, "input": {"a": self.value()}}
        elif chance < 0.6:
            value = {"action_id": r.choice(["RES_SKIP", "RES_MANUAL_SKU", self.odd()]), "input": self.value()}
        else:
            value = self.value()
        body = bytearray(json.dumps(value, ensure_ascii=r.random() < 0.5).encode("utf-8", "surrogatepass"))
        if body and r.random() < 0.2:
            for _ in range(r.randrange(1, 4)):
                body[r.randrange(len(body))] = r.randrange(256)
        return bytes(body)

    def request(self) -> bytes:
        r = self.random
        order = r.random() < 0.6
        path = self.filled(r.choice(ORDERS if order else READS))
        if r.random() < 0.3:
            path += "?" + "&".join(f"{r.choice(QUERY)}={quote(self.odd())}" for _ in range(r.randrange(1, 4)))
        method = "POST" if order else r.choice(["GET"] * 8 + ["PUT", "HEAD", "DELETE", "OPTIONS", "POST"])
        body = self.body() if method in ("POST", "PUT") else b""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
        if r.random() < 0.9:
            lines.append("Content-Type: application/json")
        if r.random() < 0.3:
            lines.append("Idempotency-Key: " + r.choice(["k1", "k2", '"x"', "", "é", "a" * 256]))
        if r.random() < 0.2:
            lines.append("Handrail-Actor: " + r.choice(["ana", "é", "x" * 200]))
        if r.random() < 0.05:
            lines.append("Accept: " + r.choice(["text/html", "*/*", "application/json;q=0"]))
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)
    with patient_database():
        async with running_gateway(dsn) as running:
            await running.register()
            yield running
    await drop_database(postgres_server, dsn)


async def things(rig: Rig) -> dict[str, list[str]]:
    running = [await rig.workflow([accepted(), planned("a")], status="RUNNING") for _ in range(5)]
    found: dict[str, list[str]] = {"t": running, "p": [], "d": []}
    for i in range(15):
        trace_id, pause_id = await rig.paused()
        await rig.db.execute(
            "INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, data, pause_id, at)"
            " VALUES ($1, $2, 'a', '{}', $3, handrail.clock())",
            f"dl{i}-{trace_id}",
            trace_id,
            pause_id,
        )
        for kind, id_ in zip("tpd", (trace_id, pause_id, f"dl{i}-{trace_id}"), strict=True):
            found[kind].append(id_)
    return found


async def one(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head[9:12]), head.lower(), body
    finally:
        writer.close()


def judge(request: bytes, status: int, head: bytes, body: bytes) -> None:
    shown = (request[:800], head[:300], body[:500])
    assert status < 500, shown
    assert not any(leak in body for leak in LEAKS), shown
    if status >= 400:
        assert b"content-type: application/problem+json" in head, shown
        if not request.startswith(b"HEAD"):
            problem = orjson.loads(body)
            code = problem["type"].removeprefix("/problems/")
            assert PROBLEMS[code] == (status, problem["title"]), shown
            assert problem["detail"], shown


@pytest.mark.parametrize(
    ("seed", "requests"),
    [(1, 1_500), pytest.param(2, 50_000, marks=[pytest.mark.torture, pytest.mark.timeout(1800)])],
)
async def test_nothing_that_is_sent_makes_a_bug_show(rig: Rig, seed: int, requests: int) -> None:
    if os.environ.get("HANDRAIL_TORTURE") == "long" and requests > 10_000:
        requests *= 20
    fuzz = Fuzz(seed, await things(rig))
    statuses: Counter[int] = Counter()
    for _ in range(requests // 20):
        drawn = [fuzz.request() for _ in range(20)]
        for request, answer in zip(drawn, await asyncio.gather(*(one(rig.port, r) for r in drawn)), strict=True):
            judge(request, *answer)
            statuses[answer[0]] += 1
    # It must have got past the door, too: an idle fuzz proves nothing.
    assert {200, 202, 400, 404, 409, 422} <= set(statuses), statuses
