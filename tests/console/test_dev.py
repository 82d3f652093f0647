"""An empty inbox that teaches, and the dev page: there under `handrail up`, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.console.rig import PATIENCE_MS, Console, serious
from tests.system.house import Up
from tests.waiting import wait_until

expect.set_options(timeout=PATIENCE_MS)
DOORS = [
    ("stock", "failure", {"action_id": "RES_SKIP"}, "Skip Hardware Step"),
    ("transfer", "gate", {"action_id": "RES_REJECT", "comment": "too much"}, "Reject"),
    ("refund", "escalation", {"action_id": "RES_CLOSE"}, "Close"),
]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def fresh(console: Console, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Console]:
    """A Handrail that nobody has used yet, before the same browser."""
    up = Up(tmp_path_factory.mktemp("fresh"), HANDRAIL_AGENTS__LOAD="tests.console.spender")
    await up.start()
    yield Console(up, console.browser)
    await up.stop()


async def test_an_empty_inbox_starts_the_stories_that_need_a_person(fresh: Console) -> None:
    async with fresh.desk() as desk:
        page = await desk.open("inbox")
        await expect(page.get_by_role("heading", name="Nothing needs you")).to_be_visible()
        assert await serious(page) == []
        for demo, kind, decision, said in DOORS:
            await page.locator(f"[data-demo={demo}]").click()
            await page.wait_for_url(re.compile("/console/workflows/"))
            trace_id = page.url.rsplit("/", 1)[1].split("?")[0]
            state = await fresh.wait(trace_id, lambda s: bool(s["pauses"]))
            assert state["pauses"][0]["kind"] == kind
            await fresh.call("POST", f"/workflows/{trace_id}/resume", decision, **{"Handrail-Actor": "grace"})
            await desk.open("inbox")
            await expect(page.locator(".last-decision")).to_contain_text(f"{said}")
            await expect(page.locator(".last-decision")).to_contain_text("by grace")


async def test_the_command_line_of_an_empty_inbox_makes_a_pause(fresh: Console) -> None:
    async with fresh.desk() as desk:
        page = await desk.open("inbox")
        command = await page.locator(".demo pre").inner_text()
        shell = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asyncio.wait_for(shell.communicate(), 30)
        await fresh.wait(json.loads(answer)["trace_id"], lambda s: bool(s["pauses"]))
        await expect(page.locator(".row-item")).to_contain_text("All approved vendors returned 404")


async def test_a_command_is_written_by_hand_and_its_answer_shown(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("dev?tab=command")
        await page.get_by_label("Body").fill('{"blueprint": "nothing-such"}')
        await page.get_by_role("button", name="Send", exact=True).click()
        answer = page.get_by_test_id("answer")
        await expect(answer).to_contain_text("Status 422")
        await expect(answer).to_contain_text("unknown-blueprint")
        trace_id, _ = await console.paused()
        await page.get_by_label("Command").select_option("POST /workflows/{trace_id}/cancel")
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.locator(".field-error")).to_contain_text("Expected a trace_id")
        await page.get_by_label("trace_id").fill(trace_id)
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(answer).to_contain_text("Status 202")
        await console.wait(trace_id, lambda s: s["status"] == "COMPENSATED")


async def test_a_fault_is_injected_and_met(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("dev?tab=fault")
        await page.get_by_label("What happens to the step").select_option("fatal:REFUSED")
        await page.get_by_role("button", name="Start it").click()
        await page.wait_for_url(re.compile("/console/workflows/"))
        await expect(page.locator(".step[data-step=faulty]")).to_have_attribute("data-token", "human")


async def test_an_unreadable_record_is_seen_on_its_topic_and_in_the_quarantine(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("dev?tab=fault")
        await page.get_by_label("Record").fill("no message at all")
        await page.get_by_role("button", name="Send it").click()
        await expect(page.get_by_role("status").filter(has_text="Sent to handrail.results")).to_be_visible()

        async def set_aside() -> bool:
            items = (await console.call("GET", "/quarantine?topic=handrail.results"))["items"]
            return any(item["key"] == "ZGVmYXVsdC9ub2JvZHk=" for item in items)

        await wait_until(set_aside, description="the record is set aside", timeout_s=PATIENCE_MS / 1000)
        await page.get_by_role("link", name="Topics").click()
        await page.get_by_role("link", name="handrail.results").click()
        record = page.locator(".dev-record").filter(has_text="default/nobody").first
        await record.locator("summary").click()
        await expect(record).to_contain_text("no message at all")
        assert await serious(page) == []


async def test_schemas_are_shown_as_they_are_published(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("dev?tab=schemas")
        await page.get_by_label("Schema", exact=True).select_option("ResumeRequest")
        await expect(page.locator(".evidence")).to_contain_text("evidence_digest")
        await expect(page).to_have_url(re.compile("schema=ResumeRequest"))


async def test_where_the_server_is_no_desk_there_is_no_dev_page(console: Console) -> None:
    async with console.desk() as desk:
        await desk.page.route("**/healthz", lambda route: route.fulfill(json={"status": "ok"}))
        page = await desk.open("dev")
        await expect(page.get_by_role("heading", name="There is no dev page here")).to_be_visible()
        await expect(page.locator("nav a[href$='/dev']")).to_have_count(0)
        await desk.page.unroute_all(behavior="ignoreErrors")


async def test_a_budget_is_seen_being_used_up_on_the_page_of_its_workflow(fresh: Console) -> None:
    steps = [
        {"id": "think", "agent": "spender", "action": "think"},
        {"id": "again", "agent": "spender", "action": "think", "depends_on": ["think"]},
        {"id": "never", "agent": "spender", "action": "think", "depends_on": ["again"]},
    ]
    plan = {"nodes": steps, "budget": {"tokens": 2000}}
    trace_id = (await fresh.call("POST", "/workflows", {"plan": plan}))["trace_id"]
    await fresh.wait(trace_id, lambda s: bool(s["pauses"]))
    async with fresh.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.locator("[data-spending=tokens]")).to_contain_text("spent 2,000 of 2,000 tokens")
        await expect(page.locator("[data-spending=usd]")).to_have_text("spent $0.04")
        await fresh.call("POST", f"/workflows/{trace_id}/pause", {})
        await fresh.call("POST", f"/workflows/{trace_id}/resume", await _raised(fresh, trace_id, 5000))
        await expect(page.locator("[data-spending=tokens]")).to_contain_text("of 7,000 tokens")


async def _raised(fresh: Console, trace_id: str, by: int) -> dict[str, object]:
    """The decision that raises the budget, of a workflow that somebody has paused by hand as well: it stays to be looked at."""
    state = await fresh.wait(trace_id, lambda s: len(s["pauses"]) == 2)
    [pause] = [p for p in state["pauses"] if p["kind"] == "failure"]
    return {"action_id": "RES_RAISE_BUDGET", "input": by, "pause_id": pause["pause_id"]}
