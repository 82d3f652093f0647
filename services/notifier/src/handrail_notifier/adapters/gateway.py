"""The gateway over HTTP: what a person decides by way of AG-UI or Slack is stored by the same door as everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx2
from pydantic_core import to_json

from handrail_notifier.application.ports import RefusedElsewhere, Unavailable

TIMEOUT_S = 10.0


class GatewayDesk:
    """Implements `ports.Desk`. `base_url` is asked for at each call: in a single process it is known late.
    `channel` is recorded with every decision."""

    def __init__(self, base_url: Callable[[], str], channel: str = "ag-ui") -> None:
        self._base_url, self._channel = base_url, channel
        self._client: httpx2.AsyncClient | None = None

    async def start(self, order: Mapping[str, Any], *, key: str, actor: str) -> None:
        """As the port says."""
        await self._post("/workflows", order, key, actor)

    async def decide(self, trace_id: str, decision: Mapping[str, Any], *, key: str, actor: str) -> None:
        """As the port says."""
        await self._post(f"/workflows/{quote(trace_id, safe='')}/resume", decision, key, actor)

    async def close(self) -> None:
        """Lets go of the connections. Idempotent."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _post(self, path: str, body: Mapping[str, Any], key: str, actor: str) -> None:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False)
        headers = {
            # Between services; the name under which the gateway is reached here is not one that it must know.
            "host": "localhost",
            "content-type": "application/json",
            "idempotency-key": key,
            "handrail-channel": self._channel,
            **({"handrail-actor": actor} if actor else {}),
        }
        try:
            answer = await self._client.post(self._base_url() + path, content=to_json(body), headers=headers)
        except httpx2.HTTPError as e:
            raise Unavailable(f"Expected the gateway to answer, but: {type(e).__name__}.") from e
        if answer.status_code >= 300:
            kind = answer.headers.get("content-type", "")
            if not kind.startswith("application/problem+json"):
                raise Unavailable(f"Expected the gateway, but what answered {answer.status_code} is not it.")
            raise RefusedElsewhere(answer.status_code, answer.content, answer.headers.get("retry-after"))
