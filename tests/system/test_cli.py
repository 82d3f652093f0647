"""The three stories of the demo, told by the command line against the whole system in one process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from handrail_contracts.view import WorkflowView
from handrail_sdk.client import Client
from tests.journals import canonical
from tests.system.demo import Demo
from tests.system.house import free_port
from tests.waiting import wait_until

CLIENTS = Path(__file__).parents[2] / "clients"
ONBOARD = (
    "run",
    "--blueprint",
    "employee-onboarding",
    "-i",
    "employee=Ada",
    "-i",
    "department=Engineering",
    "-i",
    "budget=2500",
)
PAUSED, DONE = 3, 0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo") / "data")
    await demo.start()
    yield demo
    await demo.stop()


async def stuck(demo: Demo) -> tuple[str, str]:
    """Runs into the missing laptop: (trace_id, pause_id)."""
    shown = await demo.handrail(*ONBOARD, "-i", "sku=MBP-OUT-OF-STOCK", "--wait", "--json")
    assert shown.code == PAUSED, shown.err
    (pause,) = shown.json["pauses"]
    return shown.json["trace_id"], pause["pause_id"]


async def test_a_laptop_that_is_there_runs_through(demo: Demo) -> None:
    shown = await demo.handrail(*ONBOARD, "-i", "sku=MBP-16", "--watch")
    assert (shown.code, shown.err) == (DONE, "")
    assert "Started " in shown.lines[0]
    assert "Accepted employee-onboarding" in shown.lines[1]
    assert "✓ Completed" in shown.lines[-1]
    assert sum("→ ✓ Complete" in text for text in shown.lines) == 5


async def test_an_intent_finds_the_blueprint(demo: Demo) -> None:
    words = "Please onboard our new engineer and get her a laptop"
    shown = await demo.handrail("run", words, "--wait", "--json")
    assert (shown.code, shown.err) == (DONE, "")
    assert shown.json["blueprint"] == "employee-onboarding"


async def test_the_pause_is_in_the_inbox_with_its_three_buttons_and_a_skip_completes(demo: Demo) -> None:
    trace_id, pause_id = await stuck(demo)
    items = (await demo.handrail("inbox", "--json")).json["items"]
    (pause,) = [p for p in items if p["pause_id"] == pause_id]
    assert [r["action_id"] for r in pause["available_resolutions"]] == ["RES_SKIP", "RES_MANUAL_SKU", "RES_ABORT_SAGA"]
    shown = await demo.handrail("show", trace_id)
    for told in (
        "⚑ Needs you",
        "Failed · hardware_procurement",
        "SKU_UNAVAILABLE",
        "requested_budget  2500",
        f"resolve {pause_id} RES_SKIP",
    ):
        assert told in shown.out
    assert "person" in (await demo.handrail("explain", trace_id)).out
    resolved = await demo.handrail("resolve", trace_id, "skip", "--comment", "she has one")
    assert (resolved.code, resolved.out) == (0, "✓ RES_SKIP is stored and will be applied.\n")
    watched = await demo.handrail("watch", trace_id)
    assert watched.code == DONE
    assert "Completed with skips" in watched.lines[-1]
    assert any("Pause decided by ada over cli: RES_SKIP (she has one)" in text for text in watched.lines)
    late = await demo.handrail("resolve", pause_id, "RES_ABORT_SAGA")
    assert late.code == 1
    assert late.err.startswith("handrail: Expected")
    assert "ada" in late.err


async def test_a_vendor_link_dispatches_again_and_completes(demo: Demo) -> None:
    trace_id, pause_id = await stuck(demo)
    wrong = await demo.handrail("resolve", pause_id, "manual-sku", "--input", "not a url")
    assert wrong.code == 1
    assert wrong.err.count("\n") <= 3
    right = await demo.handrail("resolve", pause_id, "manual-sku", "--input", "https://vendor.example/mbp16")
    assert (right.code, right.err) == (0, "")
    assert (await demo.handrail("watch", trace_id)).code == DONE
    node = next(
        n for n in (await demo.handrail("show", trace_id, "--json")).json["nodes"] if n["id"] == "hardware_procurement"
    )
    assert (node["state"], node["attempt"]) == ("COMPLETE", 4)


async def test_an_abort_undoes_in_reverse_and_ends_rolled_back(demo: Demo) -> None:
    trace_id, pause_id = await stuck(demo)
    assert (await demo.handrail("resolve", pause_id, "3")).code == 0
    watched = await demo.handrail("watch", trace_id, "--json")
    assert watched.code == 3
    events = [json.loads(text) for text in watched.lines]
    assert events[-1]["status"] == "COMPENSATED"
    done = [e["node_id"] for e in events if e.get("to") == "COMPLETE"]
    undone = [e["node_id"] for e in events if e.get("to") == "COMPENSATED"]
    assert set(undone) == set(done)
    assert undone[-1] == "hr_record", "what all others stand on is undone last"


async def test_a_dead_letter_is_replayed(demo: Demo) -> None:
    trace_id, _ = await stuck(demo)
    letters = (await demo.handrail("dead-letters", "list", "--state", "open", "--json")).json["items"]
    (letter,) = [d for d in letters if d["trace_id"] == trace_id]
    assert letter["error_code"] == "SKU_UNAVAILABLE"
    id_ = letter["dead_letter_id"]
    assert trace_id in (await demo.handrail("dead-letters", "show", id_)).out
    replayed = await demo.handrail("dead-letters", "replay", id_, "--input", "https://vendor.example/mbp16")
    assert (replayed.code, replayed.err) == (0, "")
    assert (await demo.handrail("watch", trace_id)).code == DONE


async def test_the_panic_button_pauses_and_a_cancel_ends(demo: Demo) -> None:
    plan = {"nodes": [
        {"id": "slow", "agent": "simulator", "action": "script", "inputs": {"duration_ms": 600_000}},
        {"id": "after", "agent": "simulator", "action": "script", "depends_on": ["slow"]},
    ]}  # fmt: skip
    file = demo.data.parent / "plan.json"
    file.write_text(json.dumps(plan))
    trace_id = (await demo.handrail("run", "--plan", str(file), "--json")).json["trace_id"]
    async with demo.client() as client:

        async def begun() -> bool:
            return any(n.state in ("SCHEDULED", "IN_PROGRESS") for n in (await client.state(trace_id)).nodes)

        await wait_until(begun, description="it has begun")
    seen = await demo.handrail("cancel", trace_id, "--preview")
    assert seen.code == 0
    assert "after: Pending → ⊘ Cancelled" in seen.out
    assert (await demo.handrail("show", trace_id, "--json")).json["status"] != "CANCELLED"
    assert (await demo.handrail("pause", trace_id, "--preview", "--json")).json["status_after"] == "PAUSED_HITL"
    assert (await demo.handrail("pause", trace_id, "--comment", "hold on")).code == 0
    watched = await demo.handrail("watch", trace_id, "--until", "paused")
    assert watched.code == PAUSED
    assert "hold on" in watched.lines[-1]
    again = await demo.handrail("pause", trace_id)
    assert again.code == 1
    assert (await demo.handrail("cancel", trace_id, "--no-undo")).code == 0
    ended = await demo.handrail("watch", trace_id)
    assert ended.code == 3
    assert "⊘ Cancelled" in ended.lines[-1]


async def test_history_export_and_the_python_client_tell_the_same(demo: Demo) -> None:
    shown = await demo.handrail(*ONBOARD, "-i", "sku=MBP-16", "--wait", "--json")
    trace_id = shown.json["trace_id"]
    exported = [json.loads(text) for text in (await demo.handrail("export", "journal", trace_id)).lines]
    async with Client(demo.url) as client:
        state = await client.state(trace_id, history=True)
        watched = [event async for event, _ in client.watch(trace_id, after=0)]
    assert exported == state.history == watched
    kept = state.model_dump(mode="json", by_alias=True, exclude_unset=True)
    kept.pop("history")
    assert canonical(WorkflowView(trace_id).apply_all(exported).state()) == canonical(kept)
    traced = (await demo.handrail("trace", trace_id, "--json")).json
    assert [{k: v for k, v in e.items() if k != "source"} for e in traced if e["source"] == "journal"] == exported
    effects = await demo.ledger(trace_id)
    assert len(effects) == 5 and [e for e in traced if e["source"] == "ledger"] == [
        {"source": "ledger", **e} for e in effects
    ]
    assert len((await demo.handrail("trace", trace_id)).lines) == len(exported) + len(effects) + 1


async def test_lists_and_the_doctor_find_everything_well(demo: Demo) -> None:
    names = [b["name"] for b in (await demo.handrail("blueprints", "--json")).json["items"]]
    assert {"employee-onboarding", "bank-transfer", "refund-support"} <= set(names)
    agents = (await demo.handrail("agents", "--json")).json["items"]
    assert {"simulator", "hardware_procurement_bot"} <= {a["name"] for a in agents if a["alive"]}
    listed = (await demo.handrail("ls", "--blueprint", "employee-onboarding", "--limit", "2", "--json")).json
    assert all(w["blueprint"] == "employee-onboarding" for w in listed["items"])
    doctor = (await demo.handrail("doctor", "--json")).json
    assert [f for f in doctor["server"] if f["state"] == "wrong"] == []
    assert len(doctor["server"]) >= 3


async def test_one_key_starts_once(demo: Demo) -> None:
    words = (*ONBOARD, "-i", "sku=MBP-16", "--idempotency-key", "only-once", "--json")
    first, second = await demo.handrail(*words), await demo.handrail(*words)
    assert first.json["trace_id"] == second.json["trace_id"]


async def test_a_watch_outlives_the_death_of_everything_it_watches(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "data")
    await demo.start()
    try:
        trace_id, pause_id = await stuck(demo)
        watching = await demo.spawn("watch", trace_id, "--json")
        assert watching.stdout is not None
        lines: list[dict[str, Any]] = []

        async def read() -> None:
            assert watching.stdout is not None
            async for text in watching.stdout:
                lines.append(json.loads(text))

        reading = asyncio.create_task(read())
        await wait_until(
            lambda: any(e["event_type"] == "WORKFLOW_PAUSED_HITL" for e in lines), description="the pause is seen"
        )
        await demo.kill()
        await demo.start()
        assert (await demo.handrail("resolve", pause_id, "skip")).code == 0
        await asyncio.wait_for(reading, 90)
        assert await watching.wait() == DONE
        assert [e["seq"] for e in lines] == list(range(1, len(lines) + 1))
        assert lines[-1]["status"] == "COMPLETED_WITH_SKIPS"
    finally:
        await demo.stop()


async def test_the_typescript_client_tells_the_same_stories(demo: Demo) -> None:
    npx = shutil.which("npx")
    if npx is None or not (CLIENTS / "node_modules" / "vitest").exists():
        pytest.skip("the TypeScript client's packages are not installed: npm ci --prefix clients")
    process = await asyncio.create_subprocess_exec(
        npx, "vitest", "run", "--config", "vitest.real.config.ts",
        cwd=CLIENTS / "typescript", env={**os.environ, "HANDRAIL_URL": demo.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, out.decode()[-4000:]


async def test_a_second_instance_on_the_same_data_is_one_clear_line(demo: Demo) -> None:
    shown = await demo.handrail("up", "--data", str(demo.data), "--port", str(free_port()))
    assert shown.code == 78
    assert shown.err.count("\n") == 1
    assert str(demo.data) in shown.err


async def test_the_clock_of_a_running_handrail_is_found_by_its_data(demo: Demo) -> None:
    shown = await demo.handrail("clock", "show", "--data", str(demo.data), "--json")
    assert (shown.code, shown.err) == (0, "")
    assert shown.json["offset_s"] == 0


async def test_what_people_put_into_a_workflow_is_in_no_log_line_and_no_metric(demo: Demo) -> None:
    """Through a run, a failure, a refused and a taken decision, an undo, and requests that are refused at the door."""
    canary = "canary7f3a9secret"
    words = ("run", "--blueprint", "employee-onboarding", "-i", f"employee={canary}", "-i", f"department={canary}")
    shown = await demo.handrail(*words, "-i", "budget=2500", "-i", "sku=MBP-OUT-OF-STOCK", "--wait", "--json")
    assert shown.code == PAUSED, shown.err
    trace_id = shown.json["trace_id"]
    assert (
        await demo.handrail("resolve", trace_id, "RES_MANUAL_SKU", "--input", f"{canary} is no url", "--yes")
    ).code != 0
    assert (await demo.handrail("resolve", trace_id, "RES_ABORT_SAGA", "--comment", canary, "--yes")).code == DONE
    assert canary in (await demo.handrail("watch", trace_id)).out, "people see it"
    async with demo.client() as client:
        state = await client.state(trace_id)
    assert state.status == "COMPENSATED"
    async with httpx2.AsyncClient(base_url=demo.url, trust_env=False, timeout=30) as http:
        for body in ({"blueprint": canary}, {"intent": "x", canary: canary}, {"plan": {"nodes": [{"id": canary}]}}):
            assert (await http.post("/workflows", json=body)).status_code == 422
        assert (
            await http.post("/workflows", content=f'{{"{canary}', headers={"Content-Type": "application/json"})
        ).is_error
        metrics = (await http.get("/metrics")).text
    assert "handrail_" in metrics and canary not in metrics
    assert canary not in (demo.data / "up.log").read_text("utf-8", "replace")
