"""The pictures of every state, light and dark, narrow and wide, into artefacts/console: to be looked at by a person.

Most are of the real system. States that cannot be ordered from it (an expired pause, a binary answer, somebody else's
case) are the real answer with one field changed on its way to the browser. A picture fails when its sign does not show,
when the page reports an error, or when the page is wider than its window. HANDRAIL_PICTURES=all takes forced colours and
200 % zoom of every one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.console.rig import PATIENCE_MS, PICTURES, ROOT, Console, listen, missing, running
from tests.console.stream_cut import StreamCut
from tests.engines import required

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]
expect.set_options(timeout=PATIENCE_MS)
RECORDINGS = ROOT / "tests/contracts/recordings"
SIZES = {"1280": (1280, 900), "390": (390, 844)}


class Album:
    """A window that is photographed in every size and theme."""

    def __init__(self, console: Console, page: Page, complaints: list[str]) -> None:
        self.console, self.page, self.complaints = console, page, complaints
        self.faults: list[str] = []

    async def go(self, path: str) -> None:
        await self.page.goto(f"{self.console.url}/console/{path}")

    async def take(self, name: str, sign: str, **also: Any) -> None:
        """Waits for a sign, then photographs; notes what is wrong instead of stopping."""
        try:
            await expect(self.page.locator(sign).first).to_be_visible()
        except AssertionError as error:
            self.faults.append(f"{name}: {str(error)[:200]}")
        for width, (w, h) in SIZES.items():
            await self.page.set_viewport_size({"width": w, "height": h})
            await self.page.wait_for_timeout(350)  # the graph fits itself to its room
            for scheme in ("light", "dark"):
                await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
                await self.page.screenshot(path=PICTURES / f"{name}-{scheme}-{width}.png")
            wide = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wide > 0:
                self.faults.append(f"{name}: {wide} px wider than {w}")
        await self.page.set_viewport_size({"width": 1280, "height": 900})
        if also.get("star") or os.environ.get("HANDRAIL_PICTURES") == "all":
            await self.page.emulate_media(color_scheme="light", forced_colors="active")
            await self.page.screenshot(path=PICTURES / f"{name}-forced-colors-1280.png")
            await self.page.emulate_media(forced_colors="none")
            await self.page.set_viewport_size({"width": 640, "height": 450})
            await self.page.wait_for_timeout(300)
            await self.page.screenshot(path=PICTURES / f"{name}-zoom-200.png")
            await self.page.set_viewport_size({"width": 1280, "height": 900})

    async def changed(self, trace_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        """From here on the state of a workflow reaches the browser with a change."""

        async def patch(route: Route) -> None:
            answer = await route.fetch()
            state = await answer.json()
            change(state)
            await route.fulfill(response=answer, json=state)

        await self.page.route(re.compile(rf"/workflows/{trace_id}/state"), patch)

    async def recorded(self, name: str) -> str:
        """A recorded workflow in place of the server's."""
        events = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
        from handrail_contracts.view import WorkflowView

        trace_id = events[0]["trace_id"]
        view = WorkflowView(trace_id)
        for event in events:
            view.apply(event)
        state = json.loads(json.dumps(view.state()))
        base = rf"/workflows/{trace_id}"
        await self.page.route(re.compile(rf"{base}/state"), lambda r: r.fulfill(json=state))
        listed = {"items": events, "next_cursor": None}
        none = {"items": [], "next_cursor": None}
        await self.page.route(
            re.compile(rf"{base}/journal"),
            lambda r: r.fulfill(json=listed if "after=0" in r.request.url else none),
        )
        ping = 'retry: 600000\n\nevent: ping\ndata: {"at": "2026-11-20T09:00:00Z"}\n\n'
        await self.page.route(
            re.compile(rf"{base}/events"), lambda r: r.fulfill(content_type="text/event-stream", body=ping)
        )
        preview = {"action_id": "A", "status_after": "RUNNING", "nodes": [], "undo": [], "skipped": []}
        await self.page.route(re.compile(rf"{base}/pauses/.*/preview/"), lambda r: r.fulfill(json=preview))
        return trace_id


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def album(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Album]:
    """A Handrail that has seen nothing yet."""
    if reason := missing():
        if required("console"):
            pytest.fail(f"HANDRAIL_REQUIRE names the console, but {reason}", pytrace=False)
        pytest.skip(reason)
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with running(tmp_path_factory.mktemp("pictures"), HANDRAIL_AGENTS__DEMO_DELAY_MS="600") as console:
        context = await console.browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        complaints: list[str] = []
        listen(page, complaints)
        yield Album(console, page, complaints)
        await context.close()


async def test_every_picture_shows_what_it_should(album: Album) -> None:
    for part in (_empty, _running, _paused, _rows, _rare, _evidence, _approve, _lists, _connection):
        await part(album)
        await album.page.unroute_all(behavior="ignoreErrors")
    assert album.faults == []
    assert album.complaints == []


async def _empty(a: Album) -> None:
    await a.go("inbox")
    await a.take("28-first-run", ".demo")
    await a.go("workflows")
    await a.take("28-first-run-workflows", ".empty")
    await a.go("start?blueprint=employee-onboarding")
    await a.take("00-start", ".start-form")


async def _running(a: Album) -> None:
    planned = [{"id": "hr_record", "inputs": {"duration_ms": 60_000}}] + [
        {"id": i, "depends_on": ["hr_record"]} for i in ("email_account", "hardware", "payroll")
    ]
    held = await a.console.plan(planned)
    await a.go(f"workflows/{held}")
    await a.changed(held, lambda s: [n.update(state="PENDING", attempt=0, started_at=None) for n in s["nodes"]])  # type: ignore[func-returns-value]
    await a.page.reload()
    await a.take("05-dag-all-pending", ".step, tr[data-step]")
    await a.page.unroute_all()
    await a.console.call("POST", f"/workflows/{held}/cancel", {"compensate": False})
    middle = [
        {"id": "a"},
        {"id": "b", "depends_on": ["a"]},
        {"id": "c", "depends_on": ["a"], "inputs": {"duration_ms": 60_000}},
        {"id": "d", "depends_on": ["b", "c"]},
    ]
    trace = await a.console.plan(middle, intent="Three of four are under way")
    await a.go(f"workflows/{trace}")
    await a.take("06-dag-mid-run", "[data-state=IN_PROGRESS]")
    await a.console.call("POST", f"/workflows/{trace}/cancel", {"compensate": False})
    green = await a.console.start("MBP-16")
    await a.console.wait(green, lambda s: s["status"] == "COMPLETED")
    await a.go(f"workflows/{green}")
    await a.take("07-dag-all-green", "[data-state=COMPLETE]")
    big = [
        {"id": f"n{i}", "depends_on": [f"n{i - 10}", f"n{i // 10 * 10 - 10 + i * 7 % 10}"] if i > 9 else []}
        for i in range(200)
    ]
    trace = await a.console.plan(big, intent="Two hundred steps")
    await a.console.wait(trace, lambda s: s["status"] == "COMPLETED")
    await a.go(f"workflows/{trace}")
    await a.take("12-dag-200", ".step, tr[data-step]", star=True)


async def _paused(a: Album) -> None:
    trace, pause = await a.console.paused()
    await a.go(f"workflows/{trace}")
    await a.take("09-dag-paused", ".option-button", star=True)
    await a.go(f"workflows/{trace}?tab=intervene")
    await a.take("14-intervene", ".option-button", star=True)
    await a.page.get_by_role("button", name="Provide Custom Vendor Link").click()
    await a.page.get_by_label("Provide Custom Vendor Link *").fill("vendor")
    await a.page.locator("[data-confirm=RES_MANUAL_SKU]").click()
    await a.take("15-intervene-url-error", ".field-error")
    await a.go(f"workflows/{trace}?tab=graph&node=hardware_procurement")
    await a.take("08-step-panel", ".panel")
    await a.page.evaluate("localStorage.setItem('handrail.view', 'outline')")
    await a.go(f"workflows/{trace}?tab=graph")
    await a.take("13-outline", ".outline", star=True)
    await a.page.evaluate("localStorage.removeItem('handrail.view')")

    def failed(state: dict[str, Any]) -> None:
        state["pauses"] = []
        state["status"] = "FAILED"
        state["nodes"][2]["state"] = "DEAD_LETTERED"

    await a.changed(trace, failed)
    await a.go(f"workflows/{trace}")
    await a.take("08-dag-failed", "[data-state=DEAD_LETTERED]", star=True)
    await a.page.unroute_all()
    await a.go(f"workflows/{trace}")
    await a.page.get_by_role("button", name="Panic").click()
    await a.page.get_by_role("button", name="Cancel and undo").click()
    await a.take("00-panic", "dialog[open]")
    await a.page.keyboard.press("Escape")
    body = {"action_id": "RES_ABORT_SAGA", "pause_id": pause["pause_id"]}
    await a.console.call("POST", f"/workflows/{trace}/resume", body)
    await a.go(f"workflows/{trace}")
    await a.take("10-dag-compensating", ".lane, [data-state=COMPENSATING], [data-state=COMPENSATED]")
    await a.console.wait(trace, lambda s: s["status"] == "COMPENSATED")
    await a.go(f"workflows/{trace}")
    await a.take("10-dag-compensated", ".lane[data-token=compensated], [data-state=COMPENSATED]")
    await a.go(f"workflows/{trace}?tab=audit")
    await a.take("21-audit", "table")
    await a.go(f"workflows/{trace}?tab=events")
    await a.page.get_by_role("slider").fill("8")
    await a.take("00-events-replay", ".event")


async def _rows(a: Album) -> None:
    paused = [await a.console.paused(employee=name) for name in ("Ada", "Grace", "Edsger")]
    await a.console.call("POST", f"/pauses/{paused[1][1]['pause_id']}/claim", {"seconds": 600})
    talk = {"order_id": "12345", "message": "I was charged twice, I want a person"}
    refund = (await a.console.call("POST", "/workflows", {"blueprint": "refund-support", "input": talk}))["trace_id"]
    await a.console.wait(refund, lambda s: bool(s["pauses"]))
    await a.go("inbox")
    await a.take("02-inbox-mixed", ".cluster", star=True)
    await a.go(f"inbox?pause={paused[0][1]['pause_id']}")
    await a.take("02-inbox-detail", ".option-button, .row-item")
    await a.go("inbox")
    await a.page.get_by_test_id("cluster").get_by_role("button").first.click()
    await a.take("03-inbox-bulk", "dialog[open]")
    await a.page.keyboard.press("Escape")
    await a.go("inbox")
    await expect(a.page.locator(".row-item").first).to_be_visible()
    body = {"action_id": "RES_SKIP", "pause_id": paused[2][1]["pause_id"]}
    await a.console.call(
        "POST", f"/workflows/{paused[2][0]}/resume", body, **{"Handrail-Actor": "ana", "Handrail-Channel": "slack"}
    )
    await a.take("04-row-resolved-elsewhere", ".row-item.gone")
    await a.go(f"workflows/{refund}?tab=intervene")
    await a.take("20-transcript", ".bubble")
    await a.go("inbox?state=resolved")
    await a.take("00-inbox-resolved", ".row-item")


async def _rare(a: Album) -> None:
    trace = await a.recorded("grows-and-types-from-the-future")
    await a.go(f"workflows/{trace}")
    await a.take("11-dynamic-node", ".step-added")
    await a.page.unroute_all()
    trace, _ = await a.console.paused()

    def shorthand(state: dict[str, Any]) -> None:
        state["pauses"][0]["available_resolutions"][1]["input_schema"] = "colour"

    await a.changed(trace, shorthand)
    await a.go(f"workflows/{trace}?tab=intervene")
    await a.page.get_by_role("button", name="Provide Custom Vendor Link").click()
    await a.take("16-unknown-shorthand", ".option-form .notice")
    await a.page.unroute_all()

    def assigned(state: dict[str, Any]) -> None:
        state["pauses"][0].update(assignees=["grace"], expires_at="2099-01-01T00:00:00Z", on_expiry="RES_SKIP")

    await a.changed(trace, assigned)
    await a.go(f"workflows/{trace}?tab=intervene")
    await a.take("27-meant-for-another", ".deadline")
    await a.page.unroute_all()
    problem = {
        "status": 410,
        "title": "Expired",
        "type": "/problems/expired",
        "detail": "Expected a decision before the deadline, but it has passed: RES_SKIP was done.",
    }
    await a.page.route(
        re.compile("/resume$"), lambda r: r.fulfill(status=410, json=problem, content_type="application/problem+json")
    )
    await a.go(f"workflows/{trace}?tab=intervene")
    await a.page.get_by_role("button", name="Skip Hardware Step").click()
    await a.take("26-expired", "[data-code=expired]")
    await a.page.unroute_all()
    won = {
        "status": 409,
        "title": "Already resolved",
        "type": "/problems/already-resolved",
        "detail": "Expected an open pause, but ana has decided RES_SKIP over slack 8 s ago.",
        "resolved_by": "ana",
        "channel": "slack",
        "action_id": "RES_SKIP",
    }
    await a.page.route(
        re.compile("/resume$"), lambda r: r.fulfill(status=409, json=won, content_type="application/problem+json")
    )
    await a.go(f"workflows/{trace}?tab=intervene")
    await a.page.get_by_role("button", name="Skip Hardware Step").click()
    await a.take("25-conflict", "[data-code=already-resolved]")
    await a.page.unroute_all()
    await a.console.call("POST", f"/workflows/{trace}/cancel", {"compensate": False})


async def _evidence(a: Album) -> None:
    trace, _ = await a.console.paused()
    bodies = {
        "json": (
            "application/json",
            {"error": {"code": 404, "vendors": ["A", "B"], "retry": False, "at": None}},
            False,
        ),
        "text": ("text/plain", "upstream connect error\nreset reason: connection failure", False),
        "html": ("text/html", "<html><script>alert(1)</script><h1>503 Service Unavailable</h1></html>", False),
        "truncated": (
            "application/json",
            {
                "$ref": f"/workflows/{trace}/blobs/sha256:00",
                "bytes": 900_000,
                "preview": '{"rows": [{"id": 1}, {"id": 2',
            },
            True,
        ),
        "binary": ("application/octet-stream", "AAECAwQF" * 40, False),
    }
    for name, (kind, body, cut) in bodies.items():
        evidence = {"content_type": kind, "body": body, "truncated": cut}
        await a.changed(trace, lambda s, e=evidence: s["pauses"][0].update(raw_evidence=e))
        await a.go(f"workflows/{trace}?tab=intervene")
        await a.take(f"17-evidence-{name}", ".intervention section")
        await a.page.unroute_all()
    await a.console.call("POST", f"/workflows/{trace}/cancel", {"compensate": False})


async def _approve(a: Album) -> None:
    order = {"blueprint": "bank-transfer", "input": {"to": "Alice", "amount": 700}}
    trace = (await a.console.call("POST", "/workflows", order))["trace_id"]
    await a.console.wait(trace, lambda s: bool(s["pauses"]))
    await a.go(f"workflows/{trace}?tab=intervene")
    await a.take("18-approve", ".proposal")
    edit = a.page.locator("[data-action=RES_EDIT]")
    await expect(edit).to_be_visible()
    await edit.click()
    await a.page.locator(".option-form input").last.fill("450")
    await a.take("19-approve-edited", ".chip.edited")


async def _lists(a: Album) -> None:
    odd = {"outcomes": ["garbage", "ok"], "duration_ms": 0}
    await a.console.plan([{"id": "odd", "inputs": odd, "timeouts": {"lease_s": 1.0}}])
    for name, path, sign in (
        ("00-workflows", "workflows", "tr[data-trace]"),
        ("22-dead-letters", "dead-letters?state=all", ".letter"),
        ("22-quarantine", "dead-letters?tab=quarantine", ".letter"),
        ("00-policies", "policies", "[data-policy]"),
        ("00-agents", "agents", "[data-agent]"),
    ):
        await a.go(path)
        await a.take(name, sign)
    await a.go("inbox")
    await expect(a.page.get_by_test_id("connection")).to_have_text("Live")  # keys are heard from here on
    await a.page.keyboard.press("?")
    await a.take("29-shortcuts", "dialog[open]")
    await a.page.keyboard.press("Escape")
    await a.page.keyboard.press("Control+k")
    await a.take("30-palette", "[cmdk-list]")
    await a.page.keyboard.press("Escape")


async def _connection(a: Album) -> None:
    trace, _ = await a.console.paused()
    async with StreamCut(a.console.up.port) as line:
        await a.page.clock.install()
        await a.page.goto(f"{line.url}/console/workflows/{trace}")
        await expect(a.page.get_by_test_id("connection")).to_have_text("Live")
        line.cut()
        await a.take("23-reconnecting", ".pill[data-tone=warn]")
        await a.page.clock.run_for(40_000)
        await a.take("24-stale", ".banner[data-tone=bad]")
        await a.page.context.set_offline(True)
        await a.take("24-offline", ".banner[data-tone=warn]")
        await a.page.context.set_offline(False)
