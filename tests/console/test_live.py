"""The console keeps up: reloads, closed tabs, a notifier that is gone, two people at once, many events."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from playwright.async_api import Page, Route, expect

from tests.console.rig import PATIENCE_MS, Console
from tests.console.stream_cut import StreamCut
from tests.waiting import wait_until

expect.set_options(timeout=PATIENCE_MS)


async def drawn(page: Page) -> list[list[str]]:
    """Every step as it is shown, without what ticks."""
    return await page.eval_on_selector_all(
        ".step", "steps => steps.map(s => [s.dataset.step, s.dataset.token, s.getAttribute('aria-label')]).sort()"
    )


async def test_a_reload_and_a_closed_tab_amid_a_run_lose_nothing(console: Console) -> None:
    slow = [{"id": f"s{i}", "depends_on": [f"s{i - 1}"] if i else [], "inputs": {"duration_ms": 250}} for i in range(6)]
    trace_id = await console.plan(slow)
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.locator(".step[data-step=s1][data-token=complete]")).to_be_visible()
        await page.reload()
        await expect(page.locator(".step")).to_have_count(6)
        await expect(page.locator(".step[data-token=complete]")).not_to_have_count(0)
        context = page.context
        await page.close()
        again = await context.new_page()
        await again.goto(f"{console.url}/console/workflows/{trace_id}")
        await expect(again.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
        await expect(again.locator(".step[data-token=complete]")).to_have_count(6)
        first = await drawn(again)
        await again.reload()
        await expect(again.locator(".step[data-token=complete]")).to_have_count(6)
        assert await drawn(again) == first
        await again.get_by_role("tab", name="Events").click()
        state = await console.wait(trace_id, lambda s: True)
        await expect(again.locator(".event-seq")).to_have_count(int(state["cursor"]))
        seqs = [int(text[1:]) for text in await again.locator(".event-seq").all_text_contents()]
        assert seqs == list(range(1, int(state["cursor"]) + 1))


async def test_two_people_press_at_once_and_the_loser_is_told_who_won(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk("ada") as left, console.desk("grace") as right:
        pages = [await desk.open(f"workflows/{trace_id}") for desk in (left, right)]
        skip = pages[0].get_by_role("button", name="Skip Hardware Step")
        await pages[1].get_by_role("button", name="Abort and Rollback Onboarding").click()
        abort = pages[1].locator("[data-confirm=RES_ABORT_SAGA]")
        await expect(skip).to_be_enabled()
        await expect(abort).to_be_enabled()
        both = asyncio.Barrier(2)

        async def at_once(route: Any) -> None:
            """So that neither is decided before the other has been pressed, which would take its button away."""
            await both.wait()
            await route.continue_()

        for page in pages:
            await page.route("**/resume", at_once)
        await asyncio.gather(skip.click(), abort.click())
        closed = [page.get_by_test_id("closed") for page in pages]
        for each in closed:
            await expect(each).to_be_visible()
        texts = [await each.inner_text() for each in closed]
        won = [("Done:" in text) for text in texts]
        assert sorted(won) == [False, True], texts
        loser = texts[won.index(False)]
        assert re.search(r"Resolved by (ada|grace) over console", loser), loser
    state = await console.call("GET", f"/workflows/{trace_id}/state?history=true")
    assert [e["outcome"] for e in state["history"] if e["event_type"] == "HITL_RESOLVED"] == ["decided"]


async def test_a_late_press_is_refused_in_words(console: Console) -> None:
    trace_id, pause = await console.paused()
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.get_by_role("button", name="Skip Hardware Step")).to_be_enabled()
        # The news of it does not reach this window before the press.
        await page.context.route("**/workflows/*/resume", lambda route: decided_first(route))

        async def decided_first(route: object) -> None:
            body = {"action_id": "RES_SKIP", "pause_id": pause["pause_id"]}
            await console.call("POST", f"/workflows/{trace_id}/resume", body, **{"Handrail-Actor": "grace"})
            await route.continue_()  # type: ignore[attr-defined]

        await page.get_by_role("button", name="Abort and Rollback Onboarding").click()
        await page.locator("[data-confirm=RES_ABORT_SAGA]").click()
        await expect(page.get_by_test_id("closed")).to_contain_text("Resolved by grace over api")
        await page.context.unroute_all(behavior="wait")


async def test_streams_gone_for_five_seconds_lose_and_double_nothing(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with StreamCut(console.up.port) as line, console.desk(url=line.url) as desk:
        page = await desk.open(f"workflows/{trace_id}")
        pill = page.get_by_test_id("connection")
        await expect(pill).to_have_text("Live")
        loop = asyncio.get_running_loop()
        began = loop.time()
        line.cut()
        await expect(pill).to_contain_text("Reconnecting")
        await expect(page.locator(".step")).to_have_count(5)
        # Deciding does not need the stream.
        await page.get_by_role("button", name="Skip Hardware Step").click()
        await expect(page.get_by_test_id("phase")).to_contain_text("waiting for the orchestrator")
        await console.wait(trace_id, lambda s: s["status"] == "COMPLETED_WITH_SKIPS")
        await wait_until(lambda: loop.time() - began > 5, description="five seconds have passed")
        await wait_until(lambda: line.refused > 0, description="it tried to connect meanwhile")
        line.mend()
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED_WITH_SKIPS")
        await expect(page.get_by_test_id("closed")).to_contain_text("Done: Skip Hardware Step")
        await page.get_by_role("tab", name="Events").click()
        state = await console.call("GET", f"/workflows/{trace_id}/state?history=true")
        await expect(page.locator(".event-seq")).to_have_count(len(state["history"]))
        assert await page.locator(".event-seq").all_text_contents() == [f"#{e['seq']}" for e in state["history"]]


async def test_what_is_too_old_cannot_be_decided_on(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with StreamCut(console.up.port) as line, console.desk(url=line.url) as desk:
        await desk.page.clock.install()
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.get_by_test_id("connection")).to_have_text("Live")
        line.cut()
        await page.clock.run_for(40_000)
        await expect(page.locator(".run .banner[data-tone=bad]")).to_contain_text("Showing the state of")
        await expect(page.get_by_role("button", name="Skip Hardware Step")).to_be_disabled()
        line.mend()

        # From here the clock goes at its own pace again, and a wait between two tries may be 30 s of it. A browser that
        # tells of its network ends that wait.
        async def decidable() -> bool:
            await page.evaluate("() => { dispatchEvent(new Event('online')) }")
            return await page.get_by_role("button", name="Skip Hardware Step").is_enabled()

        await wait_until(decidable, description="what is shown is fresh again")


async def test_a_claim_is_seen_by_others_and_can_be_taken_over(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk("ada") as left, console.desk("grace") as right:
        ada, grace = await left.open(f"workflows/{trace_id}"), await right.open(f"workflows/{trace_id}")
        await ada.get_by_role("button", name="Claim (c)").click()
        await expect(ada.locator(".claim")).to_contain_text("You have this until")
        await expect(grace.locator(".claim")).to_contain_text("ada has this until")
        await grace.get_by_role("button", name="Skip Hardware Step").click()
        await expect(grace.locator("[data-code=claimed]")).to_be_visible()
        await grace.get_by_label("Take it over all the same").check()
        await grace.get_by_role("button", name="Skip Hardware Step").click()
        await expect(ada.get_by_test_id("closed")).to_contain_text("Resolved by grace over console")


async def test_the_past_can_be_walked_through(console: Console) -> None:
    trace_id = await console.start("MBP-16")
    await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=events")
        scrubber = page.get_by_role("slider", name="Replay")
        await scrubber.focus()
        await page.keyboard.press("Home")
        await expect(page.get_by_test_id("replay-at")).to_contain_text("Event 1 of")
        for _ in range(2):
            await page.keyboard.press("ArrowRight")
        await expect(page.locator(".replay .step[data-token=pending]")).to_have_count(5)
        events = await page.locator(".event").count()
        assert events == 3
        await page.get_by_role("button", name="Back to now").click()
        await expect(page.locator(".event")).not_to_have_count(3)


async def test_filters_of_the_list_are_its_address(console: Console) -> None:
    trace_id = await console.start("MBP-16")
    await console.wait(trace_id, lambda s: s["status"] == "COMPLETED")
    async with console.desk() as desk:
        page = await desk.open("workflows")
        await page.get_by_label("Find").fill(trace_id[:30])
        await expect(page.locator("tr[data-trace]")).to_have_count(1)
        await page.get_by_label("Status").select_option("COMPLETED")
        await expect(page).to_have_url(re.compile(r"status=COMPLETED"))
        await expect(page).to_have_url(re.compile(rf"q={trace_id[:30]}"))
        await page.reload()
        await expect(page.get_by_label("Status")).to_have_value("COMPLETED")
        await expect(page.locator(f"tr[data-trace='{trace_id}']")).to_be_visible()
        await page.get_by_role("link", name="Waiting for a person").click()
        await expect(page.locator(f"tr[data-trace='{trace_id}']")).to_have_count(0)
        await page.go_back()
        await expect(page.locator(f"tr[data-trace='{trace_id}']")).to_be_visible()


async def test_a_row_of_the_list_follows_its_workflow(console: Console) -> None:
    trace_id, pause = await console.paused()
    async with console.desk() as desk:
        page = await desk.open(f"workflows?q={trace_id}")
        row = page.locator(f"tr[data-trace='{trace_id}']")
        await expect(row).to_have_attribute("data-status", "PAUSED_HITL")
        await console.call(
            "POST", f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP", "pause_id": pause["pause_id"]}
        )
        await expect(row).to_have_attribute("data-status", "COMPLETED_WITH_SKIPS")


async def test_nothing_polls(console: Console) -> None:
    """A page that is looked at for a while without news asks for nothing."""
    trace_id, _ = await console.paused()
    async with console.desk() as desk:
        asked: list[str] = []
        await desk.page.clock.install()
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.locator("[data-option=RES_SKIP] .effect")).to_contain_text("skips")
        await expect(page.locator(".step")).to_have_count(5)
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.run_for(20_000)
        assert [json.dumps(url) for url in asked if "/events" not in url] == []


async def test_a_new_workflow_appears_in_the_list_and_waits_while_somebody_points_at_it(console: Console) -> None:
    first = await console.plan([{"id": "only"}], labels={"batch": "news"})
    async with console.desk() as desk:
        page = await desk.open("workflows?label=batch:news")
        rows = page.locator("tr[data-trace]")
        await expect(rows).to_have_count(1)
        second = await console.plan([{"id": "only"}], labels={"batch": "news"})
        await expect(rows).to_have_count(2)
        await page.locator(f"tr[data-trace='{first}']").hover()
        third = await console.plan([{"id": "only"}], labels={"batch": "news"})
        await console.plan([{"id": "only"}], labels={"batch": "other"})
        news = page.get_by_test_id("news")
        await expect(news).to_have_text("1 new: show")
        await expect(rows).to_have_count(2)
        await news.hover()  # on its way there the pointer has left the rows
        await page.wait_for_timeout(300)
        await expect(rows).to_have_count(2)
        await news.click()
        await expect(rows).to_have_count(3)
        shown = await rows.evaluate_all("rows => rows.map(row => row.dataset.trace)")
        assert shown == [third, second, first]
        await expect(news).to_have_count(0)


async def test_filters_get_a_name_and_are_there_after_a_reload(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("workflows?status=PAUSED_HITL&label=batch:named")
        await page.get_by_role("button", name="Save this view").click()
        await page.get_by_label("Name", exact=True).fill("Mine that wait")
        await page.keyboard.press("Enter")
        saved = page.get_by_role("link", name="Mine that wait")
        await expect(saved).to_have_attribute("aria-current", "page")
        await page.get_by_role("button", name="Clear").click()
        await page.reload()
        await saved.click()
        await expect(page).to_have_url(re.compile(r"label=batch%3Anamed&status=PAUSED_HITL"))
        await page.get_by_role("button", name="Forget the view Mine that wait").click()
        await expect(saved).to_have_count(0)


async def test_a_console_that_the_server_has_replaced_offers_to_be_loaded_anew(console: Console) -> None:
    async with StreamCut(console.up.port) as line, console.desk(url=line.url) as desk:
        page = await desk.open("inbox")
        pill = page.get_by_test_id("connection")
        await expect(pill).to_have_text("Live")
        newer = '<!doctype html><script type="module" src="/console/assets/index-newer.js"></script>'
        await page.route("**/console/", lambda route: route.fulfill(content_type="text/html", body=newer))
        line.cut()
        await expect(pill).to_contain_text("Reconnecting")
        line.mend()
        banner = page.locator(".banner").filter(has_text="The console was updated")
        await expect(banner.get_by_role("button", name="Reload")).to_be_visible()
        await page.unroute_all(behavior="wait")


async def test_a_workflow_that_cannot_be_read_at_first_is_there_once_it_can(console: Console) -> None:
    trace_id, _ = await console.paused()
    internal = json.dumps({"type": "/problems/internal", "status": 500, "title": "Internal", "detail": "Not now."})
    async with console.desk() as desk:
        page = await desk.open("agents")
        await expect(page.locator("[data-agent]").first).to_be_visible()
        address = f"**/workflows/{trace_id}/state"
        pill = page.get_by_test_id("connection")
        await page.route(address, lambda route: route.abort())
        await desk.walk(f"workflows/{trace_id}")
        await expect(pill).to_contain_text("Reconnecting")
        await page.unroute(address)
        refused: list[str] = []

        async def refuse(route: Route) -> None:
            refused.append(route.request.url)
            await route.fulfill(status=500, content_type="application/problem+json", body=internal)

        await page.route(address, refuse)
        await wait_until(lambda: len(refused) > 1, description="the server has refused, and was asked again")
        await expect(pill).to_contain_text("Reconnecting")
        await expect(page.locator("main .notice")).to_have_count(0)
        await page.unroute(address)
        await page.evaluate("() => { dispatchEvent(new Event('online')) }")
        await expect(page.locator(".step")).to_have_count(5)
        await expect(pill).to_have_text("Live")


async def test_a_part_that_is_not_there_offline_is_told_as_that_and_comes_with_another_try(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("inbox")
        await expect(page.get_by_test_id("connection")).to_have_text("Live")
        await page.context.set_offline(True)
        await page.get_by_role("link", name="Agents").click()
        told = page.locator("main .notice")
        await expect(told).to_contain_text("This part could not be loaded")
        await expect(told).not_to_contain_text("TypeError")
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("dialog")).to_contain_text("This part could not be loaded")
        await page.keyboard.press("Escape")
        await expect(page.locator(".banner").filter(has_text="The console was updated")).to_have_count(0)
        await page.route("**/assets/agents-*.js", lambda route: route.abort())
        await page.context.set_offline(False)
        await expect(page.get_by_text("Offline", exact=True)).to_have_count(0)
        await expect(told).to_contain_text("This part could not be loaded")
        await page.unroute_all(behavior="wait")
        await told.get_by_role("button", name="Try again").click()
        await expect(page.locator("[data-agent]").first).to_be_visible()
