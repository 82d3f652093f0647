"""Everybody can use it: keyboard only, screen readers, narrow screens, and it loads quickly."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from playwright.async_api import expect

from tests.console.rig import AXE, BUILT, PATIENCE_MS, Console, serious

expect.set_options(timeout=PATIENCE_MS)
FIRST_LOAD_BYTES = 220 * 1024


async def test_started_paused_and_decided_without_a_mouse(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("inbox")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Inbox")
        press = page.keyboard.press
        await page.keyboard.type("gs")  # in one go: the two belong together for a second
        card = page.get_by_role("link", name=re.compile("Employee onboarding"))
        await expect(card).to_be_visible()
        await card.focus()
        await press("Enter")
        await page.get_by_label("Laptop").focus()
        await press("Control+a")
        await page.keyboard.type("MBP-OUT-OF-STOCK")
        await press("Enter")
        await page.wait_for_url(re.compile("/console/workflows/"))
        await expect(page.locator("[data-option=RES_MANUAL_SKU]")).to_be_visible()
        await press("i")
        await expect(page.locator(".intervention h2")).to_be_focused()
        await press("2")
        await expect(page.get_by_label("Provide Custom Vendor Link *")).to_be_focused()
        await page.keyboard.type("https://vendor.example/mbp16")
        await press("Control+Enter")
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
        await expect(page.get_by_test_id("polite")).to_contain_text("Workflow: Completed")


async def test_the_graph_is_one_tab_stop_and_arrows_walk_it(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk() as desk:
        page = await desk.open(f"workflows/{trace_id}")
        await expect(page.locator(".step[tabindex='0']")).to_have_count(1)
        await page.locator(".step[tabindex='0']").focus()
        await expect(page.locator(".step:focus")).to_have_attribute(
            "aria-label", "hardware_procurement, step 3 of 5, needs you, attempt 3 of 3"
        )
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator(".step[data-step=hr_record]")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("complementary", name="Step hr_record")).to_be_visible()
        await expect(page.locator(".panel h2")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.locator(".step[data-step=hr_record]")).to_be_focused()
        await expect(page.locator(".panel")).to_have_count(0)


async def test_the_palette_and_the_sheet_open_and_give_the_focus_back(console: Console) -> None:
    async with console.desk() as desk:
        page = await desk.open("agents")
        await expect(page.locator("[data-agent]").first).to_be_visible()
        await page.keyboard.press("Control+k")
        await expect(page.get_by_placeholder("Type a command")).to_be_focused()
        await page.keyboard.type("dead")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile("/console/dead-letters"))
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_form_that_a_tap_opens_on_a_telephone_is_in_sight_and_has_the_focus(console: Console) -> None:
    trace_id, _ = await console.paused()
    async with console.desk(width=390, height=844, has_touch=True, is_mobile=True) as desk:
        page = await desk.open(f"workflows/{trace_id}?tab=intervene")
        await page.get_by_role("button", name="Provide Custom Vendor Link").tap()
        link = page.get_by_label("Provide Custom Vendor Link *")
        await expect(link).to_be_focused()
        await expect(link).to_be_in_viewport(ratio=1)
        await expect(page.locator("[data-confirm=RES_MANUAL_SKU]")).to_be_in_viewport(ratio=1)
        await page.get_by_role("button", name="Cancel", exact=True).tap()
        await expect(page.locator("[data-action=RES_MANUAL_SKU]")).to_be_focused()
    await console.call("POST", f"/workflows/{trace_id}/cancel", {"compensate": False})


async def test_long_names_stay_within_a_telephone(console: Console) -> None:
    name = "a_very_long_step_name_that_goes_on_and_on_for_a_while_0123456789"
    plan = [{"id": name, "inputs": {"outcomes": ["fatal:" + "X" * 40]}}]
    trace_id = await console.plan(plan, intent="Long " * 60)
    await console.wait(trace_id, lambda s: bool(s["pauses"]))
    async with console.desk(width=390, height=844) as desk:
        for path, sign in {
            "dead-letters": f".letter:has-text('{name}')",
            "inbox": f".row-item:has-text('{name}')",
            "workflows": f"tr[data-trace='{trace_id}']",
            f"workflows/{trace_id}": ".option-button",
        }.items():
            page = await desk.walk(path)
            await expect(page.locator(sign).first).to_be_visible()
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{path} is {wide} px wider than the window"
        heading = await page.locator(".run-title h1").bounding_box()
        assert heading is not None and heading["height"] < 110, "three lines at most"
    await console.call("POST", f"/workflows/{trace_id}/cancel", {"compensate": False})


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        pytest.param("dark", 390, marks=pytest.mark.torture),
        pytest.param("light", 390, marks=pytest.mark.torture),
        pytest.param("dark", 1280, marks=pytest.mark.torture),
    ],
)
async def test_axe_finds_nothing_serious(console: Console, width: int, scheme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci --prefix clients")
    (trace_id, pause), (other, _) = await asyncio.gather(console.paused(), console.paused())
    pages = {
        "inbox": ".row-item",
        f"inbox?pause={pause['pause_id']}": ".row-item",
        "inbox?state=resolved": ".tabs",
        "workflows": "tr[data-trace]",
        f"workflows/{trace_id}": ".option-button, .step, tr[data-step]",
        f"workflows/{trace_id}?tab=intervene": ".option-button",
        f"workflows/{trace_id}?tab=graph&node=hardware_procurement": ".panel h2",
        f"workflows/{trace_id}?tab=events": ".event",
        f"workflows/{trace_id}?tab=audit": "[role=tabpanel]:not([hidden])",
        "start?blueprint=employee-onboarding": ".start-form",
        "dead-letters": ".letter",
        "policies": "[data-policy]",
        "agents": "[data-agent]",
        "dev": "[data-demo]",
        "dev?tab=command": "textarea",
        "dev?tab=fault": "textarea",
        "dev?tab=topics&topic=handrail.events": ".dev-record",
        "dev?tab=schemas": ".evidence",
    }
    found: dict[str, list[str]] = {}
    async with console.desk(width=width, color_scheme=scheme, reduced_motion="reduce") as desk:
        for path, sign in pages.items():
            page = await desk.walk(path)
            await expect(page.locator(sign).first).to_be_visible()
            if path.endswith(trace_id) and width >= 1280:
                await expect(page.locator("[data-option=RES_SKIP] .effect")).to_contain_text("skips")
            if faults := await serious(page):
                found[path] = faults
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{path} is {wide} px wider than a window of {width}"
    for each in (trace_id, other):
        await console.call("POST", f"/workflows/{each}/cancel", {"compensate": False})
    assert found == {}


def _sizes(manifest: dict[str, dict[str, object]], entry: str, seen: set[str]) -> int:
    """Compressed bytes of a chunk and of all that it imports at once."""
    chunk = manifest[entry]
    total = 0
    for file in [chunk["file"], *chunk.get("css", [])]:  # type: ignore[misc]
        if file not in seen:
            seen.add(str(file))
            total += (BUILT / f"{file}.gz").stat().st_size
    return total + sum(_sizes(manifest, each, seen) for each in chunk.get("imports", []))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "parts",
    [
        ["index.html", "src/pages/inbox.tsx"],
        ["index.html", "src/pages/run.tsx", "src/graph/picture.tsx"],
    ],
    ids=["inbox", "workflow with its graph"],
)
async def test_the_first_load_is_within_its_budget(console: Console, parts: list[str]) -> None:
    manifest = json.loads((BUILT / ".vite/manifest.json").read_text())
    seen: set[str] = set()
    total = sum(_sizes(manifest, part, seen) for part in parts)
    print(f"first load of {parts[-1]}: {total / 1024:.0f} KiB gzip in {len(seen)} files")
    assert total <= FIRST_LOAD_BYTES


async def test_the_theme_is_there_before_the_first_paint_and_is_kept(console: Console) -> None:
    async with console.desk(color_scheme="light") as desk:
        page = await desk.open("agents")
        await page.get_by_role("button", name=re.compile("^Theme")).click()
        await page.get_by_role("button", name=re.compile("^Theme")).click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.reload(wait_until="commit")
        await page.locator("body").wait_for(state="attached")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        scripts = await page.evaluate("fetch('/console/').then(r => r.text())")
        assert scripts.index("theme.js") < scripts.index('type="module"')


async def test_the_policy_is_strict_and_addresses_of_pages_are_served(console: Console) -> None:
    async with console.desk() as desk:
        answer = await desk.page.goto(f"{console.url}/console/workflows/any/where")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        missing = await desk.page.request.get(f"{console.url}/console/assets/none.js")
        assert missing.status == 404
        script = next(BUILT.glob("assets/index-*.js"))
        asset = await desk.page.request.get(f"{console.url}/console/assets/{script.name}")
        assert "immutable" in asset.headers["cache-control"]
        assert answer.headers["cache-control"] == "no-cache"
