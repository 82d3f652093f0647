"""The three stories of the demo, clicked through by a person in a browser."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from playwright.async_api import Page, expect

from tests.console.rig import PATIENCE_MS, Console
from tests.waiting import wait_until

expect.set_options(timeout=PATIENCE_MS)


def status(page: Page, value: str) -> object:
    return expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", value)


def step(page: Page, name: str):
    return page.locator(f".step[data-step={name}]")


async def undone(console: Console, trace_id: str) -> list[str]:
    """What an undo would touch, in its order: whatever completed, the last one first (two of the steps run side by side)."""
    history = (await console.call("GET", f"/workflows/{trace_id}/state?history=true"))["history"]
    return [
        e["node_id"] for e in reversed(history) if e["event_type"] == "NODE_STATE_CHANGED" and e["to"] == "COMPLETE"
    ]


async def test_a_workflow_is_started_from_its_form_and_seen_to_its_end(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("start")
        await page.get_by_role("link", name=re.compile("Employee onboarding")).click()
        await expect(page.locator(".step[data-state=PENDING]")).to_have_count(5)
        labels = await page.locator(".start-form .field:not(details *) label").all_text_contents()
        assert [label.rstrip(" *") for label in labels[:4]] == ["Employee", "Department", "Laptop", "Budget"]
        await page.get_by_label("Employee").fill("Grace")
        await page.get_by_role("button", name="Start", exact=True).click()
        await page.wait_for_url(re.compile("/console/workflows/"))
        await status(page, "COMPLETED")  # type: ignore[misc]
        await expect(page.locator(".step[data-token=complete]")).to_have_count(5)
        await expect(page.get_by_test_id("connection")).to_have_text("Ended")
        await step(page, "email_account").click()
        panel = page.get_by_role("complementary")
        await expect(panel).to_contain_text("grace@company.example")
        await expect(panel.get_by_role("heading", name="Input")).to_be_visible()
        await expect(panel).to_contain_text("fail_compensation")


async def test_the_step_is_skipped(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await expect(step(page, "hardware_procurement")).to_have_attribute("data-token", "human")
        names = await page.locator(".option-button span:not(.dim)").all_text_contents()
        assert names == ["Skip Hardware Step", "Provide Custom Vendor Link", "Abort and Rollback Onboarding"]
        await expect(page.locator("[data-option=RES_SKIP] .effect")).to_contain_text(
            "skips hardware_procurement, runs welcome"
        )
        await page.get_by_role("button", name="Skip Hardware Step").click()
        await status(page, "COMPLETED_WITH_SKIPS")  # type: ignore[misc]
        await expect(page.get_by_test_id("closed")).to_contain_text("Done: Skip Hardware Step")
        await expect(step(page, "hardware_procurement")).to_have_attribute("data-token", "skipped")


async def test_another_vendor_is_given(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await page.get_by_role("button", name="Provide Custom Vendor Link").click()
        field = page.get_by_label("Provide Custom Vendor Link *")
        await field.fill("not an address")
        await page.locator("[data-confirm=RES_MANUAL_SKU]").click()
        await expect(page.locator(".field-error")).to_contain_text("Expected an address")
        await expect(field).to_be_focused()
        await field.fill("https://vendor.example/mbp16")
        await page.locator("[data-confirm=RES_MANUAL_SKU]").click()
        await status(page, "COMPLETED")  # type: ignore[misc]


async def test_everything_is_undone_in_reverse(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk() as desk:
        order = await undone(console, trace_id)
        assert (sorted(order[:2]), order[2:]) == (["email_account", "payroll"], ["hr_record"])
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.locator("[data-option=RES_ABORT_SAGA] .effect")).to_contain_text(f"undoes {', '.join(order)}")
        await page.get_by_role("button", name="Abort and Rollback Onboarding").click()
        await page.locator("[data-confirm=RES_ABORT_SAGA]").click()
        await status(page, "COMPENSATED")  # type: ignore[misc]
        await expect(page.locator(".lane[data-token=compensated]")).to_have_count(3)
        await page.get_by_role("tab", name="Audit").click()
        await expect(page.get_by_role("row").filter(has_text="Abort and Rollback Onboarding")).to_contain_text("ada")


async def test_a_failed_undo_is_rescued_by_a_person(console: Console) -> None:
    trace_id, _ = await console.paused(fail_compensation="email")
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await page.get_by_role("button", name="Abort and Rollback Onboarding").click()
        await page.locator("[data-confirm=RES_ABORT_SAGA]").click()
        await expect(page.locator(".intervention[data-kind=compensation_failure] [data-action]").first).to_be_visible()
        await page.locator("[data-action=RES_ACCEPT]").click()
        confirm = page.locator("[data-confirm=RES_ACCEPT]")
        if await confirm.count():
            await confirm.click()
        await status(page, "COMPENSATION_INCOMPLETE")  # type: ignore[misc]
        await expect(page.locator(".run-head .meta")).to_contain_text("5 of 5 steps ended")


async def test_the_inbox_names_what_waits_and_its_badge_agrees_with_its_list(console: Console) -> None:
    trace_id, pause = await console.paused()
    async with console.desk() as desk:
        page = await desk.open("inbox")
        row = page.locator(f".row-item[data-pause={pause['pause_id']}]")
        await expect(row).to_contain_text("All approved vendors returned 404")
        await expect(row).to_contain_text(f"employee-onboarding · {trace_id}")
        await expect(row).to_contain_text("Decide")
        shown = await page.locator(".row-item:not(.gone)").count()
        await expect(page.get_by_test_id("inbox-count").locator("[aria-hidden]")).to_have_text(str(shown))
        await row.get_by_role("link").click()
        detail = page.locator(".inbox-detail")
        await expect(detail).to_contain_text("SKU_UNAVAILABLE")
        fading = page.locator(f".row-item.gone[data-pause={pause['pause_id']}]")
        said = expect(fading).to_contain_text("Resolved by ada over console: Skip Hardware Step")
        gone = asyncio.create_task(said)  # from now on: it is shown for five seconds
        await detail.get_by_role("button", name="Skip Hardware Step").click()
        await expect(detail.get_by_test_id("closed")).to_contain_text("Done: Skip Hardware Step")
        # It fades and does not vanish under the cursor.
        await gone
    await console.wait(trace_id, lambda s: s["status"] == "COMPLETED_WITH_SKIPS")


async def test_a_row_that_the_filter_leaves_out_does_not_come_to_say_that_it_was_resolved(console: Console) -> None:
    trace_id, pause = await console.paused()
    async with console.desk() as desk:
        page = await desk.open("inbox?q=nothing-is-called-this")
        await expect(page.get_by_test_id("inbox-count")).to_be_visible()
        await expect(page.locator(".row-item")).to_have_count(0)
        told = page.evaluate(
            "() => new Promise(done => new MutationObserver(() =>"
            " document.querySelector('.row-item') && done(document.querySelector('.row-item').textContent))"
            ".observe(document.body, {childList: true, subtree: true}) ?? setTimeout(() => done(''), 4000))"
        )
        seen = asyncio.create_task(told)
        body = {"action_id": "RES_SKIP", "pause_id": pause["pause_id"]}
        await console.call("POST", f"/workflows/{trace_id}/resume", body)
        assert await seen == ""


async def test_the_panic_button_pauses_and_cancels_after_a_preview(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await page.get_by_role("button", name="Panic").click()
        await page.get_by_role("button", name="Cancel and undo").click()
        dialog = page.get_by_role("dialog", name="Cancel and undo")
        await expect(dialog).to_contain_text("3 steps will be undone")
        order = await undone(console, trace_id)
        assert (sorted(order[:2]), order[2:]) == (["email_account", "payroll"], ["hr_record"])
        await expect(dialog.get_by_role("listitem")).to_have_text([re.compile(f"^{node_id}") for node_id in order])
        await dialog.get_by_label("Comment").fill("wrong person")
        await page.get_by_test_id("panic-send").click()
        await status(page, "COMPENSATED")  # type: ignore[misc]
        await expect(page.get_by_role("button", name="Panic")).to_have_count(0)


async def test_alike_failures_are_decided_together_one_first(console: Console) -> None:
    started = [await console.paused(trace_id=f"alike-{i}") for i in range(3)]
    async with console.desk() as desk:
        page = await desk.open("inbox?q=alike-")
        cluster = page.get_by_test_id("cluster").filter(has_text="SKU_UNAVAILABLE")
        await expect(cluster).to_contain_text("3 alike")
        await cluster.get_by_role("button").click()
        await page.get_by_role("radio", name="Provide Custom Vendor Link").check()
        await page.get_by_label("Provide Custom Vendor Link *").fill("https://vendor.example/mbp16")
        await page.get_by_role("button", name="Try the first").click()
        tried = page.get_by_test_id("bulk-tried")
        await expect(tried).to_contain_text("hardware_procurement complete")
        others = [await console.wait(trace_id, lambda s: True) for trace_id, _ in started[1:]]
        assert [s["status"] for s in others] == ["PAUSED_HITL", "PAUSED_HITL"]
        await tried.get_by_role("button", name="Do it to the other 2").click()
        await expect(page.get_by_test_id("bulk-rest")).to_contain_text("2 decisions accepted")
    for trace_id, _ in started:
        await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")


async def test_a_dead_letter_is_replayed_and_another_is_discarded(console: Console) -> None:
    (first, _), (second, _) = await asyncio.gather(console.paused(), console.paused())
    async with console.desk() as desk:
        page = await desk.open("dead-letters")
        for trace_id, button in ((first, "Discard"), (second, "Replay")):
            letters = await page.evaluate("fetch('/dead-letters?state=open').then(r => r.json())")
            id_ = next(x["dead_letter_id"] for x in letters["items"] if x["trace_id"] == trace_id)
            row = page.locator(f"[data-letter={id_}]")
            await row.get_by_role("button", name=button).click()
            dialog = page.get_by_role("dialog", name=button)
            await dialog.get_by_label("Reason").fill("seen")
            if button == "Replay":
                await dialog.get_by_label("Provide Custom Vendor Link *").fill("https://vendor.example/mbp16")
            await dialog.get_by_role("button", name=button).click()
            await expect(row).to_have_count(0)
    await console.wait(first, lambda s: s["status"] == "COMPLETED_WITH_SKIPS")
    await console.wait(second, lambda s: s["status"] == "COMPLETED")


async def test_a_record_that_nobody_can_read_is_looked_at_replayed_and_let_go(console: Console) -> None:
    """The bytes that the simulator sends for `garbage` are in quarantine; sent again they come back, as they are no better."""
    outcomes = {"outcomes": ["garbage", "ok"], "duration_ms": 0}
    trace_id = await console.plan([{"id": "odd", "inputs": outcomes, "timeouts": {"lease_s": 1.0}}])

    async def records() -> list[dict[str, Any]]:
        found = (await console.call("GET", "/quarantine?limit=100"))["items"]
        return [record for record in found if f"/{trace_id}/" in str(record["headers"])]

    async def are(count: int) -> bool:
        return len(await records()) == count

    await wait_until(lambda: are(1), description="the record is in quarantine", timeout_s=PATIENCE_MS / 1000)
    first = (await records())[0]["id"]
    async with console.desk() as desk:
        page = await desk.open("dead-letters")
        await page.get_by_role("link", name="Quarantine").click()
        row = page.locator(f"[data-record='{first}']")
        await row.locator("summary").click()
        await expect(row).to_contain_text("Expected a valid Result")
        await expect(row).to_contain_text("handrail.results")
        await expect(row).to_contain_text("dev.handrail.result_ok.v1")
        await row.get_by_role("button", name="Replay").click()
        dialog = page.get_by_role("dialog", name="Replay")
        await dialog.get_by_role("button", name="Replay").click()
        await expect(row).to_have_count(0)
        await wait_until(lambda: are(2), description="it came back", timeout_s=PATIENCE_MS / 1000)
        second = next(record["id"] for record in await records() if record["id"] != first)
        await page.reload()
        again = page.locator(f"[data-record='{second}']")
        await again.get_by_role("button", name="Discard").click()
        dialog = page.get_by_role("dialog", name="Discard")
        await expect(dialog.get_by_role("button", name="Discard")).to_be_disabled()
        await dialog.get_by_label("Reason").fill("truncated on its way")
        await dialog.get_by_role("button", name="Discard").click()
        await expect(again).to_have_count(0)
        await page.get_by_label("State").select_option("discarded")
        await expect(again).to_contain_text("truncated on its way")
    assert {r["id"]: r["state"] for r in await records()} == {first: "replayed", second: "discarded"}
    await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")


async def test_rows_that_are_alike_are_picked_by_key_and_decided_together(console: Console) -> None:
    started = await asyncio.gather(*(console.paused(trace_id=f"picked-{i}") for i in range(3)))
    async with console.desk() as desk:
        page = await desk.open("inbox?q=picked-")
        rows = page.locator(".row-item:not(.gone)")
        await expect(rows).to_have_count(3)
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await expect(page.get_by_test_id("picked")).to_contain_text("1 selected")
        await expect(page.get_by_role("button", name="Resolve the selected")).to_be_disabled()
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await expect(page.get_by_test_id("picked")).to_contain_text("2 selected")
        await page.get_by_role("button", name="Resolve the selected").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Resolve 2 alike together")
        await page.get_by_role("radio", name="Skip Hardware Step").check()
        await page.get_by_role("button", name="Try the first").click()
        await page.get_by_role("button", name="Do it to the other 1").click()
        await expect(page.get_by_test_id("bulk-rest")).to_contain_text("1 decision accepted")
        await page.keyboard.press("Escape")
        await expect(rows).to_have_count(1)
        await expect(page.get_by_test_id("picked")).to_have_count(0)

    async def states() -> dict[str, str]:
        return {t: (await console.wait(t, lambda s: True))["status"] for t, _ in started}

    async def two_are_done() -> bool:
        return sorted((await states()).values()) == ["COMPLETED_WITH_SKIPS", "COMPLETED_WITH_SKIPS", "PAUSED_HITL"]

    await wait_until(
        two_are_done, description="the picked ones are done, the third waits", timeout_s=PATIENCE_MS / 1000
    )
    left = next(t for t, status in (await states()).items() if status == "PAUSED_HITL")
    await console.call("POST", f"/workflows/{left}/cancel", {"compensate": False})


async def test_a_policy_says_what_it_asks_and_other_rules_are_tried_on_the_past(console: Console) -> None:
    order = {"blueprint": "bank-transfer", "input": {"to": "Alice", "amount": 300}}
    trace_id = (await console.call("POST", "/workflows", order))["trace_id"]
    pause = (await console.wait(trace_id, lambda s: bool(s["pauses"])))["pauses"][0]
    async with console.desk() as desk:
        page = await desk.open("policies")
        policy = page.locator("[data-policy=bank]")
        rule = policy.locator("[data-rule=money-over-100]")
        await expect(rule).to_contain_text("action is transfer, args.amount > 100")
        await expect(rule).to_contain_text("Asks a person")
        await expect(rule).to_contain_text("waiting now")
        body = {"action_id": "RES_APPROVE", "pause_id": pause["pause_id"]}
        await console.call("POST", f"/workflows/{trace_id}/resume", body)
        await expect(rule).not_to_contain_text("waiting now")
        await expect(rule).to_contain_text(re.compile(r"last (now|\d+ s ago)"))
        await policy.get_by_text("All versions").click()
        await expect(policy.locator("[data-version='1']")).to_contain_text("Applied by the system")
        await policy.get_by_text("Try other rules").click()
        candidate = policy.get_by_label("The policy to try")
        rules = [{"id": "all", "match": {"action": "transfer"}, "decide": "sometimes"}]
        await candidate.fill(json.dumps({"name": "bank", "version": 2, "rules": rules}))
        await policy.get_by_role("button", name="What would it have asked?").click()
        await expect(policy.get_by_role("alert")).to_contain_text("/policy/rules/0/decide")
        rules[0]["decide"] = "never"
        await candidate.fill(json.dumps({"name": "bank", "version": 2, "rules": rules}))
        await policy.get_by_role("button", name="What would it have asked?").click()
        await expect(policy.get_by_test_id("simulated")).to_contain_text("with these rules it would be 0")
    assert [p["version"] for p in (await console.call("GET", "/policies/bank"))["items"]] == [1]


async def test_a_large_plan_opens_with_what_has_failed_in_sight(console: Console) -> None:
    nodes: list[dict[str, Any]] = [
        {"id": f"n{i}", "depends_on": [f"n{i - 10}"] if i >= 10 else [], "inputs": {"duration_ms": 0}}
        for i in range(199)
    ]
    nodes.append({"id": "last", "depends_on": ["n198"], "inputs": {"outcomes": ["fatal:BOOM"]}})
    trace_id = await console.plan(nodes)
    await console.wait(trace_id, lambda s: bool(s["pauses"]))
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        failed = step(page, "last")
        await expect(failed).to_be_in_viewport(ratio=0.99)
        box, room = await failed.bounding_box(), await page.locator(".graph").bounding_box()
        assert box is not None and room is not None
        assert room["x"] <= box["x"] and box["x"] + box["width"] <= room["x"] + room["width"]
        assert box["width"] > 100, "it can be read"
    await console.call("POST", f"/workflows/{trace_id}/cancel", {"compensate": False})


async def test_what_is_not_there_is_told_as_that(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("workflows/nosuch")
        await expect(page.locator("main")).to_contain_text("There is no such workflow")
        await expect(page.get_by_test_id("connection")).to_have_text("Live")
        await desk.walk("frobnicate")
        await expect(page.locator("main")).to_contain_text("There is no such page")
        await page.locator("main").get_by_role("link", name="Inbox").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Inbox")
        await desk.walk("agents")
        bank = page.locator("[data-agent]").filter(has=page.locator("code", has_text="transfer")).first
        await expect(bank).to_contain_text("version ")
        await expect(bank).to_contain_text("declares ")
        await desk.walk("policies")
        await page.get_by_text("Try other rules on past decisions").first.click()
        await page.get_by_label("The policy to try").first.fill("name: bank")
        await page.get_by_role("button", name="What would it have asked?").first.click()
        await expect(page.get_by_role("alert").filter(has_text="Expected JSON")).to_contain_text("policy simulate FILE")
