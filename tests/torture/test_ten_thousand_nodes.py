"""10,000 nodes in four shapes, from outside: accepted, run to the end, in bounded memory. Times are printed, never asserted."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.system.house import Up
from tests.waiting import wait_until

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1200)]
SIZE = 10_000
MOST_RSS_MB = 500  # of the whole embedded process: gateway, orchestrator, agents and notifier together
Shape = list[dict[str, Any]]


def node(id_: str, *after: str) -> dict[str, Any]:
    return {"id": id_, "agent": "simulator", "action": "noop", "depends_on": list(after)}


def chain() -> Shape:
    return [node(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(SIZE)]


def star() -> Shape:
    leaves = [f"n{i}" for i in range(SIZE - 1)]
    return [*(node(leaf) for leaf in leaves), node("hub", *leaves)]


def layered() -> Shape:
    rng = random.Random(1)
    above = {i: [f"n{i - 1}_{p}" for p in range(100)] for i in range(1, 100)}
    return [node(f"n{i}_{j}", *(rng.sample(above[i], 9) if i else ())) for i in range(100) for j in range(100)]


def scattered() -> Shape:
    rng = random.Random(2)
    parents = [sorted({f"n{rng.randrange(i)}" for _ in range(rng.randint(0, 5))} if i else ()) for i in range(SIZE)]
    return [node(f"n{i}", *found) for i, found in enumerate(parents)]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Up]:
    made = Up(Path(tmp_path_factory.mktemp("large")))
    await made.start()
    yield made
    await made.stop()


def rss_mb(up: Up) -> float:
    assert up.process is not None
    lines = Path(f"/proc/{up.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


@pytest.mark.parametrize("shape", [star, layered, scattered, chain], ids=lambda f: f.__name__)
async def test_ten_thousand_nodes_run_to_the_end_in_bounded_memory(shape: Callable[[], Shape], up: Up) -> None:
    trace_id, most = f"large-{shape.__name__}", rss_mb(up)
    async with httpx2.AsyncClient(base_url=up.url, trust_env=False, timeout=120) as http:
        began = time.monotonic()
        answer = await http.post("/workflows", json={"plan": {"nodes": shape()}, "trace_id": trace_id})
        accepted = time.monotonic()
        assert answer.status_code == 202

        async def ended() -> bool:
            nonlocal most
            most = max(most, rss_mb(up))
            said = await http.get("/workflows", params={"q": trace_id})
            if said.status_code == 503:  # a machine with much else to do: asked again
                return False
            (item,) = said.json()["items"]
            assert item["status"] in ("ACCEPTED", "RUNNING", "COMPLETED"), item
            return item["status"] == "COMPLETED" and item["counts"] == {"COMPLETE": SIZE}

        await wait_until(ended, description="all 10,000 nodes are complete", timeout_s=900)
    ran = time.monotonic() - accepted
    print(f"\n{shape.__name__}: 202 in {accepted - began:.2f} s, complete in {ran:.0f} s, at most {most:.0f} MB RSS")
    assert most < MOST_RSS_MB


async def test_fifty_thousand_are_refused_with_the_limit_named(up: Up) -> None:
    async with httpx2.AsyncClient(base_url=up.url, trust_env=False, timeout=120) as http:
        plan = {"nodes": [node(f"n{i}") for i in range(50_000)]}
        answer = await http.post("/workflows", json={"plan": plan})
    assert answer.status_code == 422 and answer.json()["type"] == "/problems/dag-too-large"
    assert "at most 10000 nodes" in answer.json()["detail"] and "50000" in answer.json()["detail"]
