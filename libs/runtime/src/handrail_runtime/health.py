"""Health, readiness and metrics as plain functions: `serve` answers with them, ASGI services mount them.

`/healthz`: the process lives, nothing else is asked. `/readyz`: every named check answers within its budget, else 503.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from handrail_runtime.ports import Bus
from handrail_runtime.telemetry import registry

Check = Callable[[], Awaitable[None]]
"""Returns when ready, raises when not."""
BUDGET_S = 1.0

_log = structlog.get_logger(__name__)


def healthz() -> tuple[int, dict[str, Any]]:
    """Status and JSON body of `GET /healthz`."""
    return 200, {"status": "ok"}


async def readyz(
    checks: Mapping[str, Check], *, accepting: bool = True, budget_s: float = BUDGET_S
) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of `GET /readyz`. Runs all checks at once, each within `budget_s` seconds. `accepting`
    False (starting, or stopping) is 503 whatever the checks say. Never raises for a check; bodies name the kind of a
    fault only, the log has its text."""
    names = list(checks)
    results = await asyncio.gather(*(_run(name, checks[name], budget_s) for name in names))
    ready = accepting and all(result["ok"] for result in results)
    status = "ready" if ready else "not_ready" if accepting else "not_accepting"
    return (200 if ready else 503), {"status": status, "checks": dict(zip(names, results, strict=True))}


def metrics() -> tuple[str, bytes]:
    """Content type and body of `GET /metrics`."""
    return CONTENT_TYPE_LATEST, generate_latest(registry())


def bus_check(bus: Bus, topic: str) -> Check:
    """A check that asks the bus for a topic: ready when it answers and the topic exists."""

    async def check() -> None:
        if await bus.partitions(topic) == 0:
            raise LookupError(f"Expected the topic {topic!r}, but it does not exist. Run `handrail topics apply`.")

    return check


async def _run(name: str, check: Check, budget_s: float) -> dict[str, Any]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(budget_s):
            await check()
    except TimeoutError:
        return {"ok": False, "error": f"no answer within {budget_s:g} s"}
    except Exception as e:  # noqa: BLE001  # drivers fail in many ways; each of them means "not ready"
        _log.warning("readiness_check_failed", check=name, kind=type(e).__name__, reason=str(e)[:200])
        return {"ok": False, "error": type(e).__name__}
    return {"ok": True, "ms": round((time.monotonic() - began) * 1000, 1)}
