"""Approvals and conversations, decided in a browser."""

from __future__ import annotations

from typing import Any

from playwright.async_api import expect

from tests.console.rig import PATIENCE_MS, Console

expect.set_options(timeout=PATIENCE_MS)

GATED: dict[str, Any] = {
    "nodes": [
        {
            "id": "pay",
            "agent": "bank",
            "action": "transfer",
            "inputs": {"to": "Alice", "amount": 500},
            "gate": {"decide": "always", "summary": "Transfer 500 to Alice"},
        }
    ]
}


async def gated(console: Console) -> str:
    """A transfer that waits for approval."""
    trace_id: str = (await console.call("POST", "/workflows", {"plan": GATED}))["trace_id"]
    await console.wait(trace_id, lambda s: bool(s["pauses"]))
    return trace_id


async def test_an_amount_is_edited_and_the_edited_one_is_paid(console: Console) -> None:
    trace_id = await gated(console)
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        await expect(page.locator(".proposal-summary")).to_have_text("Transfer 500 to Alice")
        await page.locator("[data-action=RES_EDIT]").click()
        confirm = page.locator("[data-confirm=RES_EDIT]")
        await expect(confirm).to_be_disabled()
        await page.get_by_label("Amount").fill("450")
        await expect(page.locator(".chip.edited")).to_have_count(1)
        await page.get_by_label("Comment").fill("the invoice says 450")
        await confirm.click()
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
    state = await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    assert state["nodes"][0]["output"]["amount"] == 450


async def test_a_refusal_says_why(console: Console) -> None:
    trace_id = await gated(console)
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        await page.locator("[data-action=RES_REJECT]").click()
        await page.locator("[data-confirm=RES_REJECT]").click()
        await expect(page.locator(".field-error")).to_contain_text("Expected a reason")
        await expect(page.get_by_label("Comment")).to_be_focused()
        await page.keyboard.type("not this month")
        await page.locator("[data-confirm=RES_REJECT]").click()
        await expect(page.get_by_test_id("closed")).to_contain_text("not this month")
    await console.wait(trace_id, lambda s: s["status"] == "COMPLETED_WITH_SKIPS")


async def test_an_operator_speaks_and_answers_in_a_conversation(console: Console) -> None:
    asked = {"order_id": "12345", "message": "I was charged twice, I want a person"}
    order = {"blueprint": "refund-support", "input": asked}
    trace_id: str = (await console.call("POST", "/workflows", order))["trace_id"]
    await console.wait(trace_id, lambda s: bool(s["pauses"]))
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        await expect(page.locator(".bubble[data-role=user]")).to_contain_text("I was charged twice")
        await page.get_by_label("Say something").fill("I am looking at it")
        await page.get_by_role("button", name="Say it").click()
        await expect(page.locator(".bubble[data-role=operator]")).to_contain_text("I am looking at it")
        await page.locator("[data-action=RES_RESPOND]").click()
        await page.get_by_label("Reply *").fill("The second charge is refunded.")
        await page.locator("[data-confirm=RES_RESPOND]").click()
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
    state = await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    assert state["nodes"][0]["output"]["response"] == "The second charge is refunded."
