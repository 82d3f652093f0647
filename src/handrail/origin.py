"""One origin for a gateway and a notifier in the same process: streams go to the one, everything else to the other."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic_core import to_json

from handrail_contracts.problems import problem
from handrail_notifier.bootstrap import listening
from handrail_runtime.lifecycle import Service

STREAMS = re.compile(r"/workflows/[^/]+/events|/inbox/events|/events|/ag-ui|/sse-tickets|/slack/interactions")
"""The paths that belong to the notifier; the compose stack's front and the gateway's forwarding follow the same list."""


class _Both:
    """The gateway with the notifier's streams beside its routes; those exist once it has started."""

    name = "gateway"

    def __init__(self, gateway: Any, notifier: Any) -> None:
        self._gateway, self._notifier = gateway, notifier

        # a function and not a method: the server tells ASGI 3 from ASGI 2 by that
        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            streams = scope["type"] == "http" and STREAMS.fullmatch(scope["path"])
            part = notifier.app if streams else gateway.app
            # The port is taken before the gateway has its routes: whoever is so early comes again.
            await (part if part is not None else _starting)(scope, receive, send)

        self.app = app

    async def start(self) -> None:
        await self._gateway.start()

    async def run(self) -> None:
        await self._gateway.run()

    async def stop(self) -> None:
        await self._gateway.stop()
        await self._notifier.stop()  # the port closes once its streams have ended: they are told first

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return self._gateway.checks()


async def _starting(scope: dict[str, Any], receive: Any, send: Any) -> None:
    detail = "Expected Handrail to be up, but it is still starting. Try again in a moment."
    body = to_json(problem("unavailable", detail, instance=scope["path"][:120], retry_after=1))
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"1"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def one_origin(gateway: Any, notifier: Any, host: str, port: int) -> Service:
    """The gateway as a service whose port also serves the notifier's streams; the notifier is started and run by its owner, and
    stopped with the port (its `stop` is idempotent), so that open streams hear `bye` before it closes."""
    return listening(_Both(gateway, notifier), host, port)
