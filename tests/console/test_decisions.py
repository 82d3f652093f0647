"""Approvals and conversations, decided in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.rig import PATIENCE_MS, Console

expect.set_options(timeout=PATIENCE_MS)


async def gated(console: Console) -> str:
    """A transfer that its policy lets nobody make without a person."""
    order = {"blueprint": "bank-transfer", "input": {"to": "Alice", "amount": 700}}
    trace_id: str = (await console.call("POST", "/workflows", order))["trace_id"]
    await console.wait(trace_id, lambda s: bool(s["pauses"]))
    return trace_id


async def transfers(console: Console, trace_id: str) -> list[str]:
    """What the bank really did."""
    ledger = await console.call("GET", f"/simulators/ledger?trace_id={trace_id}")
    return [entry["node_id"] for entry in ledger if entry["node_id"] == "transfer"]


async def conversation(console: Console) -> str:
    """A customer who wants a person."""
    asked = {"order_id": "12345", "message": "I was charged twice, I want a person"}
    trace_id: str = (await console.call("POST", "/workflows", {"blueprint": "refund-support", "input": asked}))[
        "trace_id"
    ]
    await console.wait(trace_id, lambda s: bool(s["pauses"]))
    return trace_id


async def test_a_transfer_above_the_limit_is_started_seen_to_wait_and_approved(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("start?blueprint=bank-transfer")
        await page.get_by_label("To *").fill("Alice")
        await page.get_by_label("Amount").fill("700")
        await page.get_by_role("button", name="Start", exact=True).click()
        await page.wait_for_url(re.compile("/console/workflows/"))
        trace_id = page.url.rsplit("/", 1)[-1].split("?")[0]
        await expect(page.locator(".intervention[data-kind=gate]")).to_be_visible()
        await expect(page.locator(".proposal-summary")).to_have_text("Transfer 700.00 to Alice")
        await expect(page.locator(".proposal")).to_contain_text("It cannot be undone")
        removed, added = page.locator(".diff [data-mark=removed]"), page.locator(".diff [data-mark=added]")
        await expect(removed.first).to_contain_text("1000")
        await expect(added.first).to_contain_text("300")
        await expect(page.locator("[data-option=RES_APPROVE] .effect")).to_contain_text("runs transfer")
        assert await transfers(console, trace_id) == []
        await page.locator("[data-action=RES_APPROVE]").click()
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
        await expect(page.get_by_test_id("closed")).to_contain_text("Done: Approve")
    state = await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    assert state["output"]["transfer"]["balance"] == 300
    assert await transfers(console, trace_id) == ["transfer"]


async def test_an_amount_is_edited_and_the_edited_one_is_paid(console: Console) -> None:
    trace_id = await gated(console)
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        await expect(page.locator(".proposal-summary")).to_have_text("Transfer 700.00 to Alice")
        await page.locator("[data-action=RES_EDIT]").click()
        confirm = page.locator("[data-confirm=RES_EDIT]")
        await expect(confirm).to_be_disabled()
        await page.get_by_label("Amount").fill("450")
        await expect(page.locator(".chip.edited")).to_have_count(1)
        await page.get_by_label("Comment").fill("the invoice says 450")
        await confirm.click()
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
    state = await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    assert (state["output"]["transfer"]["amount"], state["output"]["transfer"]["balance"]) == (450, 550)
    assert await transfers(console, trace_id) == ["transfer"]


async def test_a_refusal_says_why(console: Console) -> None:
    trace_id = await gated(console)
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        comment = page.locator(".options .comment")
        await expect(comment).to_contain_text("optional")
        await page.locator("[data-action=RES_REJECT]").click()
        await expect(comment).to_contain_text("required")
        await page.locator("[data-confirm=RES_REJECT]").click()
        await expect(page.locator(".field-error")).to_contain_text("Expected a reason")
        await expect(page.get_by_label("Comment")).to_be_focused()
        await page.keyboard.type("not this month")
        await page.locator("[data-confirm=RES_REJECT]").click()
        await expect(page.get_by_test_id("closed")).to_contain_text("not this month")
    await console.wait(trace_id, lambda s: s["status"] == "COMPLETED_WITH_SKIPS")
    assert await transfers(console, trace_id) == []


async def test_what_was_typed_for_one_is_there_after_a_look_at_another(console: Console) -> None:
    first, second = await gated(console), await gated(console)
    async with console.desk() as desk:
        page = await desk.open("inbox")
        rows = {each: page.locator(".row-item").filter(has_text=each).locator("[data-row]") for each in (first, second)}
        await rows[first].click()
        await page.locator("[data-action=RES_EDIT]").click()
        await page.get_by_label("Amount").fill("450")
        await page.get_by_label("Comment").fill("the invoice says 450")
        await rows[second].click()
        await expect(page.locator(f".crumbs a[href*='{second}']").first).to_be_visible()
        await expect(page.get_by_label("Comment")).to_have_value("")
        await expect(page.get_by_label("Amount")).to_have_count(0)
        await rows[first].click()
        await expect(page.get_by_label("Amount")).to_have_value("450")
        await expect(page.locator(".chip.edited")).to_have_count(1)
        await expect(page.get_by_label("Comment")).to_have_value("the invoice says 450")
        await page.reload()
        await rows[first].click()
        await expect(page.get_by_label("Amount")).to_have_value("450")
        await expect(page.get_by_label("Comment")).to_have_value("the invoice says 450")
        await page.locator("[data-confirm=RES_EDIT]").click()
        await expect(page.get_by_test_id("closed")).to_contain_text("the invoice says 450")
        kept: str = await page.evaluate("sessionStorage.getItem('handrail.drafts')")
        assert "the invoice says 450" not in kept, "what is decided is not kept"
    for each in (first, second):
        state = await console.call("GET", f"/workflows/{each}/state")
        if state["pauses"]:
            await console.call("POST", f"/workflows/{each}/cancel", {"compensate": False})


async def test_an_operator_speaks_and_answers_in_a_conversation(console: Console) -> None:
    trace_id = await conversation(console)
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


async def test_a_conversation_is_handed_back_and_the_agent_goes_on_with_what_was_said(console: Console) -> None:
    trace_id = await conversation(console)
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        await page.get_by_label("Say something").fill("The refund is on its way")
        await page.get_by_role("button", name="Say it").click()
        await expect(page.locator(".bubble[data-role=operator]")).to_contain_text("on its way")
        await page.locator("[data-action=RES_HAND_BACK]").click()
        await expect(page.get_by_test_id("closed")).to_contain_text("Done:")
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
        # The conversation can still be read.
        await expect(page.locator(".bubble[data-role=operator]")).to_contain_text("on its way")
    state = await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    assert (state["nodes"][0]["attempt"], state["nodes"][0]["state"]) == (2, "COMPLETE")


@pytest.mark.parametrize("place", ["workflows/{trace_id}?tab=intervene&pause={pause_id}", "inbox?pause={pause_id}"])
async def test_what_an_option_would_do_follows_what_happens_beside_it(console: Console, place: str) -> None:
    """Another branch goes on while somebody reads: what is undone then is what the page says then."""
    nodes = [
        {"id": "broken", "inputs": {"outcomes": ["fatal:NO"]}},
        {"id": "other", "effect_class": "idempotent", "inputs": {"outcomes": ["fatal:NO", "ok"]}},
    ]
    trace_id = await console.plan(nodes)
    state = await console.wait(trace_id, lambda s: len(s["pauses"]) == 2)
    waiting = {pause["node_id"]: pause["pause_id"] for pause in state["pauses"]}
    async with console.desk() as desk:
        page = await desk.open(place.format(trace_id=trace_id, pause_id=waiting["broken"]))
        effect = page.locator(f"[data-pause={waiting['broken']}] [data-option=RES_ABORT_SAGA] .effect")
        await expect(effect).to_contain_text("broken")
        await expect(effect).not_to_contain_text("undoes")
        body = {"action_id": "RES_RETRY", "pause_id": waiting["other"]}
        await console.call("POST", f"/workflows/{trace_id}/resume", body)
        await expect(effect).to_contain_text("undoes other")
