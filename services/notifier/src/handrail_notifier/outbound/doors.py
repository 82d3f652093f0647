"""The two ways in for clicks: Slack's POST (raw body under a cap, verified before it is parsed) and Socket Mode."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import structlog
from pydantic_core import from_json
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handrail_notifier.application.ports import Unavailable
from handrail_notifier.entrypoints.door import problem_response
from handrail_notifier.outbound.clicks import Clicks, Forged
from handrail_notifier.outbound.settings import ChannelSettings
from handrail_runtime.lifecycle import backoff

PATH = "/slack/interactions"
MOST_BYTES = 256 * 1024
_log = structlog.get_logger(__name__)


class SlackDoor:
    """An ASGI application at PATH."""

    def __init__(self, clicks: Clicks) -> None:
        self._clicks = clicks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (await self._answer(Request(scope, receive)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return problem_response("method-not-allowed", "Expected POST.", instance=PATH, headers={"allow": "POST"})
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                detail = f"Expected at most {MOST_BYTES} bytes, but there are more."
                return problem_response("payload-too-large", detail, instance=PATH, headers={"connection": "close"})
        said = request.headers
        try:
            await self._clicks.verify(
                body, said.get("x-slack-request-timestamp", ""), said.get("x-slack-signature", "")
            )
        except Forged as e:
            return problem_response(e.code, str(e), instance=PATH)
        except Unavailable as e:
            return problem_response("unavailable", str(e), instance=PATH, retry_after=2, headers={"retry-after": "2"})
        payload = _payload(body)
        if payload is None:
            return problem_response(
                "malformed-request", "Expected a form with a JSON `payload`, but found none.", instance=PATH
            )
        self._clicks.accept(payload)
        return Response(status_code=200)


def _payload(body: bytes) -> dict[str, Any] | None:
    try:
        payload = from_json(parse_qs(body.decode(), max_num_fields=20)["payload"][0])
    except (KeyError, ValueError, UnicodeDecodeError):
        return None
    return payload if isinstance(payload, dict) else None


async def listen(settings: ChannelSettings, clicks: Clicks, stopping: asyncio.Event) -> None:
    """Socket Mode until told to stop: Slack comes over a connection that we opened, so no public address is needed."""
    token = settings.slack_app_token.get_secret_value()
    web = AsyncWebClient(
        settings.slack_bot_token.get_secret_value(), base_url=settings.slack_api_url, trust_env_in_session=False
    )
    socket = SocketModeClient(app_token=token, web_client=web)

    async def heard(client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        try:
            if request.type == "interactive" and await clicks.first(request.envelope_id):
                clicks.accept(request.payload)
        except Unavailable as e:
            _log.warning("slack_click_lost", reason=str(e)[:200])

    socket.socket_mode_request_listeners.append(heard)
    try:
        await _connected(socket, stopping)
        await stopping.wait()
    finally:
        await socket.close()


async def _connected(socket: SocketModeClient, stopping: asyncio.Event) -> None:
    for pause_s in backoff(cap_s=60.0):
        if stopping.is_set():
            return
        try:
            await socket.connect()
        except (SlackApiError, OSError, TimeoutError) as e:
            _log.warning("socket_mode_failed", kind=type(e).__name__, again_in_s=round(pause_s, 1))
            try:
                async with asyncio.timeout(pause_s):
                    await stopping.wait()
            except TimeoutError:
                continue
        else:
            _log.info("socket_mode_connected")
            return
