"""The browser's own EventSource, in headless Chromium: pages of another origin, tickets, a closed tab, an offline spell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, async_playwright

from handrail_contracts.events import EventType
from handrail_contracts.view import WorkflowView
from handrail_runtime.testing import TcpProxy
from handrail_sdk.client import Client
from tests.engines import chromium, missing, required
from tests.journals import canonical
from tests.system.house import Up, script
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    missing("chromium") is not None and not required("chromium"), reason=missing("chromium") or ""
)

HELD = [script("a"), script("b", "a", outcomes=["fatal:BROKEN"]), script("c", "b")]
PAGE = """<!doctype html><title>a page of somebody else</title><script>
const seen = [], errors = [], opened = [];
let source;
function listen(url, types) {
  source = new EventSource(url);
  source.onopen = () => opened.push(url);
  source.onerror = () => errors.push(source.readyState);
  for (const type of types) source.addEventListener(type, (e) => seen.push({type, id: e.lastEventId, data: JSON.parse(e.data)}));
  source.addEventListener("end", () => source.close());
}
async function call(url, body) {
  const answer = await fetch(url, {method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body)});
  return {status: answer.status, body: await answer.json()};
}
</script>"""


class House:
    """A Handrail that another origin may use, a web server of that origin, and a browser."""

    def __init__(self, up: Up, site: str, stranger: str, context: BrowserContext) -> None:
        self.up, self.site, self.stranger, self.context = up, site, stranger, context

    async def page(self, site: str | None = None) -> Page:
        page = await self.context.new_page()
        await page.goto(site or self.site)
        return page

    async def start(self) -> str:
        async with Client(self.up.url) as client:
            return (await client.start(plan={"nodes": HELD})).trace_id

    async def let_go(self, trace_id: str) -> None:
        async with Client(self.up.url) as client:
            await client.wait(trace_id, until="paused", timeout_s=60)
            await client.resume(trace_id, "RES_SKIP")

    async def state(self, trace_id: str) -> dict[str, Any]:
        async with httpx2.AsyncClient(timeout=30) as http:
            return (await http.get(f"{self.up.url}/workflows/{trace_id}/state")).json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    servers = [await asyncio.start_server(_page, "127.0.0.1", 0) for _ in range(2)]
    port, stranger = (server.sockets[0].getsockname()[1] for server in servers)
    site = f"http://127.0.0.1:{port}"
    up = Up(tmp_path_factory.mktemp("browser") / "data", HANDRAIL_CORS_ORIGINS=site, HANDRAIL_LOG_LEVEL="debug")
    await up.start()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield House(up, site, f"http://127.0.0.1:{stranger}", await browser.new_context())
        await browser.close()
    for server in servers:
        server.close()
    await up.stop()


async def _page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = PAGE.encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    writer.write(body)
    await writer.drain()
    writer.close()


async def opened(page: Page, base: str, trace_id: str, more: str = "") -> str:
    """The page orders a ticket and opens the stream with it; answers the ticket."""
    ticket = await page.evaluate("([url, body]) => call(url, body)", [f"{base}/sse-tickets", {"trace_id": trace_id}])
    assert ticket["status"] == 201
    await page.evaluate(
        "([url, types]) => listen(url, types)", [f"{base}{ticket['body']['url']}{more}", list(EventType)]
    )
    return ticket["body"]["ticket"]


async def seqs(page: Page) -> list[int]:
    return await page.evaluate("seen.map((e) => e.data.seq)")


async def test_a_page_of_a_named_origin_follows_to_the_end_with_a_ticket(house: House) -> None:
    trace_id = await house.start()
    page = await house.page()
    ticket = await opened(page, house.up.url, trace_id)
    await house.let_go(trace_id)

    async def ended() -> bool:
        return await page.evaluate("source.readyState === EventSource.CLOSED && seen.length > 0")

    await wait_until(ended, description="the stream has ended", timeout_s=60)
    events = [one["data"] for one in await page.evaluate("seen")]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert canonical(WorkflowView(trace_id).apply_all(events).state()) == canonical(await house.state(trace_id))
    log = "".join(path.read_text(errors="replace") for path in house.up.data.rglob("*.log"))
    assert "Handrail is ready" in log
    assert ticket not in log, "a ticket is a credential: no log may hold it"
    await page.close()


async def test_a_page_that_was_not_named_may_neither_order_nor_listen(house: House) -> None:
    trace_id = await house.start()
    page = await house.page(house.stranger)
    script = "(url) => call(url, {inbox: true}).then(() => 'got in', () => 'kept out')"
    assert await page.evaluate(script, f"{house.up.url}/sse-tickets") == "kept out"
    async with Client(house.up.url) as client:
        ticket = await client.ticket(trace_id=trace_id)
    await page.evaluate("([url, types]) => listen(url, types)", [house.up.url + ticket.url, list(EventType)])

    async def refused() -> bool:
        return bool(await page.evaluate("errors.length"))

    await wait_until(refused, description="the browser refused it", timeout_s=60)
    assert await page.evaluate("[seen.length, opened.length]") == [0, 0]
    await page.close()


async def test_forms_and_blind_requests_of_another_site_order_nothing(house: House) -> None:
    # Chromium resolves every name below localhost to this machine: a site that is foreign by its name.
    page = await house.page(house.stranger.replace("127.0.0.1", "evil.localhost"))
    order = {"trace_id": "csrf", "plan": {"nodes": HELD}}
    blind = "([url, order]) => fetch(url, {method: 'POST', mode: 'no-cors', body: JSON.stringify(order)}).then(() => 'sent', () => 'no')"
    await page.evaluate(blind, [f"{house.up.url}/workflows", order])
    form = """(url) => new Promise((done) => {
      const frame = document.body.appendChild(Object.assign(document.createElement("iframe"), {name: "f"}));
      const form = document.body.appendChild(document.createElement("form"));
      Object.assign(form, {action: url, method: "post", enctype: "text/plain", target: "f"});
      form.appendChild(Object.assign(document.createElement("input"), {name: '{"trace_id":"csrf","intent":"', value: '"}'}));
      frame.onload = () => done("answered"); form.submit(); setTimeout(() => done("blocked"), 5000);
    })"""
    await page.evaluate(form, f"{house.up.url}/workflows")
    async with httpx2.AsyncClient(timeout=30) as http:
        assert (await http.get(f"{house.up.url}/workflows/csrf/state")).status_code == 404
        assert (await http.post(f"{house.up.url}/workflows", json=order)).status_code == 202, "it was worth refusing"
    await page.close()


async def test_a_used_ticket_stops_the_browser_instead_of_looping(house: House) -> None:
    trace_id = await house.start()
    page = await house.page()
    async with TcpProxy("127.0.0.1", house.up.port, seed=1) as proxy:
        await opened(page, f"http://127.0.0.1:{proxy.port}", trace_id)

        async def some() -> bool:
            return bool(await seqs(page))

        await wait_until(some, description="the first events", timeout_s=60)
        await proxy.cut()

        async def stopped() -> bool:
            return await page.evaluate("source.readyState === EventSource.CLOSED")

        await wait_until(stopped, description="401 ends an EventSource", timeout_s=60)
    # The page orders another ticket and goes on where it was.
    last = (await seqs(page))[-1]
    await opened(page, house.up.url, trace_id, f"&after={last}")
    await house.let_go(trace_id)

    async def whole() -> bool:
        return await page.evaluate("seen.at(-1).type.startsWith('WORKFLOW_COMPLETED')")

    await wait_until(whole, description="the end", timeout_s=60)
    got = await seqs(page)
    assert got == list(range(1, len(got) + 1))
    await page.close()


async def test_a_closed_tab_comes_back_by_state_and_stream_without_a_gap(house: House) -> None:
    trace_id = await house.start()
    first = await house.page()
    await opened(first, house.up.url, trace_id)

    async def some() -> bool:
        return bool(await seqs(first))

    await wait_until(some, description="the first events", timeout_s=60)
    await first.close()
    async with Client(house.up.url) as client:
        await client.wait(trace_id, until="paused", timeout_s=60)
    second = await house.page()
    painted = await second.evaluate(
        "(url) => fetch(url).then((a) => a.json())", f"{house.up.url}/workflows/{trace_id}/state"
    )
    painted.pop("history", None)
    view = WorkflowView.from_state(painted)
    await opened(second, house.up.url, trace_id, f"&after={painted['cursor']}")
    await house.let_go(trace_id)

    async def ended() -> bool:
        return await second.evaluate("source.readyState === EventSource.CLOSED && seen.length > 0")

    await wait_until(ended, description="the stream has ended", timeout_s=60)
    view.apply_all(one["data"] for one in await second.evaluate("seen"))
    assert canonical(view.state()) == canonical(await house.state(trace_id))
    await second.close()


async def test_an_offline_spell_is_survived_by_the_browsers_own_reconnect(house: House) -> None:
    # Without a ticket: here the browser itself connects again, with its own Last-Event-ID.
    trace_id = await house.start()
    async with TcpProxy("127.0.0.1", house.up.port, seed=2) as proxy, Client(house.up.url) as client:
        page = await house.page()
        url = f"http://127.0.0.1:{proxy.port}/workflows/{trace_id}/events"
        await page.evaluate("([url, types]) => listen(url, types)", [url, list(EventType)])

        async def some() -> bool:
            return bool(await seqs(page))

        async def noticed() -> bool:
            return bool(await page.evaluate("errors.length"))

        async def ended() -> bool:
            return await page.evaluate("source.readyState === EventSource.CLOSED")

        await wait_until(some, description="the first events", timeout_s=60)
        try:
            await house.context.set_offline(True)
            await proxy.cut()
            await house.let_go(trace_id)
            await client.wait(trace_id, timeout_s=60)
            await wait_until(noticed, description="the browser noticed", timeout_s=60)
            assert await page.evaluate("navigator.onLine") is False
        finally:
            await house.context.set_offline(False)
        await wait_until(ended, description="it came back by itself and has the rest", timeout_s=90)
        events = [one["data"] for one in await page.evaluate("seen")]
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        assert canonical(WorkflowView(trace_id).apply_all(events).state()) == canonical(await house.state(trace_id))
        await page.close()
