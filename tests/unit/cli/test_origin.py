"""The one origin of a single process, while its gateway is still starting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx2

from handrail.origin import one_origin


async def test_whoever_comes_before_the_gateway_is_up_is_told_to_come_again() -> None:
    gateway: Any = SimpleNamespace(name="gateway", app=None, checks=dict)
    notifier: Any = SimpleNamespace(app=None)
    service: Any = one_origin(gateway, notifier, "127.0.0.1", 0)
    app = service._inner.app
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        for path in ("/readyz", "/workflows", "/inbox/events"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["type"] == "/problems/unavailable"
