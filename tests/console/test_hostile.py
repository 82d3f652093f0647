"""What vendors, models and strangers send is shown as text: 60 attempts to be more, in every field that is shown."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.console.rig import PATIENCE_MS, Console

expect.set_options(timeout=PATIENCE_MS)

FIRE = "window.__fired=1"
HOSTILE = [
    f"<script>{FIRE}</script>",
    f"<img src=x onerror={FIRE}>",
    f"<svg onload={FIRE}>",
    f"<svg/onload={FIRE}//",
    f"<body onload={FIRE}>",
    f"<iframe src=javascript:{FIRE}>",
    f"<iframe srcdoc='<script>parent.{FIRE}</script>'>",
    f"<object data=javascript:{FIRE}>",
    f"<embed src=javascript:{FIRE}>",
    f"<a href=javascript:{FIRE}>x</a>",
    f"javascript:{FIRE}",
    f" JaVaScRiPt:{FIRE}",
    f"java\tscript:{FIRE}",
    f"data:text/html,<script>{FIRE}</script>",
    f"vbscript:{FIRE}",
    f'"><script>{FIRE}</script>',
    f"'><script>{FIRE}</script>",
    f"</script><script>{FIRE}</script>",
    f"</textarea><script>{FIRE}</script>",
    f"</title><script>{FIRE}</script>",
    f"</style><script>{FIRE}</script>",
    f"</pre><script>{FIRE}</script>",
    f"--><script>{FIRE}</script>",
    f"]]><script>{FIRE}</script>",
    f"<![CDATA[<script>{FIRE}</script>]]>",
    f"<math><mtext><mglyph><style><img src=x onerror={FIRE}>",
    f"<details open ontoggle={FIRE}>",
    f"<input autofocus onfocus={FIRE}>",
    f"<select autofocus onfocus={FIRE}>",
    f"<video><source onerror={FIRE}>",
    f"<audio src=x onerror={FIRE}>",
    f"<marquee onstart={FIRE}>",
    f"<form action=javascript:{FIRE}><button>x",
    f"<button formaction=javascript:{FIRE}>x",
    f"<meta http-equiv=refresh content='0;javascript:{FIRE}'>",
    "<meta http-equiv=refresh content='0;url=https://attacker.example/'>",
    f"<base href=javascript:{FIRE}//>",
    "<link rel=stylesheet href=https://attacker.example/x.css>",
    "<style>*{display:none}</style>",
    "<div style='position:fixed;inset:0;background:red'>",
    f"<template><script>{FIRE}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={FIRE}>'>",
    f"<xmp><script>{FIRE}</script></xmp>",
    f"&lt;script&gt;{FIRE}&lt;/script&gt;",
    f"%3Cscript%3E{FIRE}%3C/script%3E",
    f"\\u003cscript\\u003e{FIRE}\\u003c/script\\u003e",
    f"${{{FIRE}}}",
    f"{{{{constructor.constructor('{FIRE}')()}}}}",
    f"#{{{FIRE}}}",
    f"`${{{FIRE}}}`",
    f"';{FIRE};//",
    f'";{FIRE};//',
    f"\u2028{FIRE}\u2029",
    "\u202etxt.exe\u202c",
    "a\u0300" * 40,
    "__proto__",
    "constructor",
    '{"__proto__":{"polluted":1}}',
    "![x](https://attacker.example/x.png)",
    f"[x](javascript:{FIRE})",
]

WATCH = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.__violations.push(`${e.violatedDirective} ${e.blockedURI}`));
for (const name of ["alert", "confirm", "prompt"]) window[name] = () => { window.__fired = 1; };
"""
FOUND = """() => ({
  fired: window.__fired ?? 0,
  violations: window.__violations,
  polluted: ({}).polluted ?? null,
  made: [...document.querySelectorAll(
    "script:not([src^='/console/']), iframe, object, embed, base, link:not([href^='/console/']), meta[http-equiv], style," +
    "img:not([src^='/console/']), video, audio, marquee, math, xmp, template, [onload], [onerror], [onfocus], [ontoggle]," +
    "a[href^='javascript' i], a[href^='data:' i], a[href^='vbscript' i], form[action], [formaction]"
  )].map((e) => e.outerHTML.slice(0, 200)),
})"""
NOTHING: dict[str, Any] = {"fired": 0, "violations": [], "polluted": None, "made": []}


def plan(told: str, everything: Any) -> list[dict[str, Any]]:
    """Steps that put a string wherever an agent or a blueprint can put one."""
    buttons = [
        {"action_id": "RES_A", "display_text": told[:200] or "-", "kind": "retry", "requires_input": False},
        {
            "action_id": "RES_B",
            "display_text": told[:200] or "-",
            "kind": "skip",
            "requires_input": True,
            "input_schema": {
                "type": "object",
                "properties": {"a": {"type": "string", "title": told, "description": told, "default": told}},
            },
        },
    ]
    asked = {"context": {"said": "input.said"}, "retry": {"max_attempts": 1}, "resolutions": buttons}
    common = {"agent": "simulator", "action": "script"}
    return [
        {**common, "id": "out", "inputs": {"output": everything}},
        {**common, "id": "told", "depends_on": ["out"], "inputs": {"outcomes": [f"fatal:{told}"]}, **asked},
        {**common, "id": "asks", "depends_on": ["out"], "inputs": {"outcomes": [f"escalate:{told}"]}},
    ]


async def hostile(console: Console, told: str, everything: Any) -> tuple[str, list[dict[str, Any]]]:
    """A workflow full of it, stopped, with somebody's words in it."""
    body = {
        "intent": told,
        "input": {"said": told, "all": everything},
        "labels": {"note": told[:60]} if told.isprintable() else {},
        "plan": {"nodes": plan(told, everything)},
    }
    trace_id = (await console.call("POST", "/workflows", body))["trace_id"]
    state = await console.wait(trace_id, lambda s: bool(s["pauses"]) and s["nodes"][1]["state"] == "AWAITING_HUMAN")
    return trace_id, state["pauses"]


async def looked_at(page: Page, console: Console, trace_id: str, *, briefly: bool = False) -> list[Any]:
    """Every view of the workflow, opened as far as it opens; answers what went wrong in any."""
    base, wrong = f"{console.url}/console", []

    async def look(path: str, sign: str) -> None:
        await page.goto(f"{base}/{path}")
        await expect(page.locator(sign).first).to_be_visible()
        await page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
        forms = page.locator(".option-button[aria-expanded]")
        for i in range(await forms.count()):
            await forms.nth(i).click()
            await note(path)
        await note(path)

    async def note(path: str) -> None:
        found = await page.evaluate(FOUND)
        if found != NOTHING:
            wrong.append((path, found))

    if not briefly:
        await look(f"workflows/{trace_id}?tab=graph&node=out", ".panel .evidence")
        await look(f"workflows/{trace_id}?tab=audit", "[role=tabpanel]:not([hidden]) > *")
    await look(f"workflows/{trace_id}?tab=graph&node=told", ".panel .notice")
    await look(f"workflows/{trace_id}?tab=intervene", ".option-button")
    await look(f"workflows/{trace_id}?tab=events", ".event")
    return wrong


async def test_all_of_it_at_once_is_text(console: Console) -> None:
    everything = "\n".join(each for each in HOSTILE)
    trace_id, pauses = await hostile(console, everything[:3000], {each: each for each in HOSTILE})
    pause = next(p for p in pauses if p["node_id"] == "told")
    async with console.desk() as desk:
        await desk.page.add_init_script(WATCH)
        assert await looked_at(desk.page, console, trace_id) == []
        await desk.open("inbox?q=window.__fired")
        await expect(desk.page.locator(".row-item").first).to_be_visible()
        assert await desk.page.evaluate(FOUND) == NOTHING
        comment = {
            "action_id": "RES_B",
            "pause_id": pause["pause_id"],
            "input": {"a": everything[:500]},
            "comment": everything[:1000],
        }
        # Whoever acts may be called anything, too.
        named = HOSTILE[0][:100]
        await console.call("POST", f"/workflows/{trace_id}/resume", comment, **{"Handrail-Actor": named})
        await desk.open(f"workflows/{trace_id}?tab=audit")
        await expect(desk.page.get_by_role("row").filter(has_text=named).first).to_be_visible()
        assert await desk.page.evaluate(FOUND) == NOTHING
        for path in ("workflows", "dead-letters?state=all", "inbox?state=resolved"):
            await desk.open(path)
            await expect(desk.page.locator("[data-row]").first).to_be_visible()
            assert await desk.page.evaluate(FOUND) == NOTHING
    await console.call("POST", f"/workflows/{trace_id}/cancel", {"compensate": False})


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_each_of_it_by_itself_is_text(console: Console) -> None:
    assert len(set(HOSTILE)) >= 60
    wrong: list[Any] = []
    async with console.desk() as desk:
        await desk.page.add_init_script(WATCH)
        for told in HOSTILE:
            trace_id, _ = await hostile(console, told, {"a": told, told: [told]})
            wrong += [(told, each) for each in await looked_at(desk.page, console, trace_id, briefly=True)]
            await console.call("POST", f"/workflows/{trace_id}/cancel", {"compensate": False})
    assert wrong == []
