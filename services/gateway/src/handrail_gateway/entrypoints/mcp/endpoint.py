"""`/mcp`: Streamable HTTP, without sessions, so that any replica answers any request.

The library behind it takes a second to import: it is loaded when somebody first asks, and not at all where nobody does.
Hosts and origins are judged by the door in front, for every path alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from handrail_gateway.application.faults import Refusal, StoreFault, quote
from handrail_gateway.entrypoints.http import answers, body, head
from handrail_gateway.entrypoints.http.door import App, Receive, Scope, Send
from handrail_gateway.entrypoints.http.usecases import UseCases
from handrail_gateway.entrypoints.mcp import tools

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp_types import CallToolResult

_log = structlog.get_logger(__name__)
PATH = "/mcp"
_INSTRUCTIONS = (
    "Handrail is where people take over from agents. Call escalate_to_human when a person is needed, then be silent until"
    " get_workflow says that the agent has control again."
)


class Mcp:
    """An ASGI application around another, which it serves at `/mcp`. `run` keeps what the library needs while it is used;
    `offered` names the tools that are there."""

    def __init__(self, app: App, use: UseCases, offered: Iterable[str]) -> None:
        self._app, self._use = app, use
        self._tools = {t.name: t for t in tools.TOOLS if t.name in set(offered)}
        self._wanted = asyncio.Event()
        self._ready: asyncio.Future[StreamableHTTPSessionManager] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] != PATH or not self._tools:
            await self._app(scope, receive, send)
            return
        if not self._use.accepting():
            stopping = Refusal(
                "unavailable", "Expected a gateway that goes on, but it is stopping. Try again.", retry_after=1
            )
            await answers.refusal(PATH, stopping)(scope, receive, send)
            return
        if scope["method"] != "POST":
            # Without sessions there is nothing to stream: a GET would wait for ever, and so would a HEAD.
            detail = f"Expected one of the methods POST, but found {quote(scope['method'])}."
            raise Refusal("method-not-allowed", detail, headers={"Allow": "POST"})
        body.refuse_other_types(head.of(scope))
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._wanted.set()
        manager = await asyncio.shield(self._ready)
        await manager.handle_request(scope, receive, send)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`: waits for the first request, then holds the library's own task group open."""
        ends = asyncio.ensure_future(stopping.wait())
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait({ends, wanted}, return_when=asyncio.FIRST_COMPLETED)
            if self._ready is None:
                return
            manager = await asyncio.to_thread(self._manager)
            async with manager.run():
                self._ready.set_result(manager)
                _log.info("mcp_serving", tools=sorted(self._tools))
                await ends
        finally:
            ends.cancel()
            wanted.cancel()

    def _manager(self) -> StreamableHTTPSessionManager:
        from mcp.server.lowlevel import Server
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
        from mcp.server.transport_security import TransportSecuritySettings
        from mcp_types import (
            CallToolRequestParams,
            ListToolsResult,
            PaginatedRequestParams,
            Tool,
            ToolAnnotations,
        )

        offered = [
            Tool(
                name=t.name,
                title=t.title,
                description=t.description,
                input_schema=t.arguments.model_json_schema(),
                annotations=ToolAnnotations(
                    read_only_hint=not t.changes, destructive_hint=t.final, open_world_hint=False
                ),
            )
            for t in self._tools.values()
        ]

        async def list_tools(_: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
            return ListToolsResult(tools=offered)

        async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
            return await self._call(params.name, params.arguments or {}, context.request)

        server: Any = Server(
            "handrail",
            version=version("handrail-gateway"),
            title="Handrail",
            instructions=_INSTRUCTIONS,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )
        return StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=body.SMALL_BYTES,
        )

    async def _call(self, name: str, arguments: dict[str, Any], request: Any) -> CallToolResult:
        tool = self._tools.get(name)
        try:
            if tool is None:
                names = ", ".join(self._tools)
                raise Refusal("not-found", f"Expected one of the tools {names}, but found another.")
            return _result(await tools.call(self._use, tool, arguments, head.of(request.scope)))
        except Refusal as e:
            return _result(e.body(f"{PATH}#{name[:80]}"), failed=True)
        except StoreFault:
            gone = Refusal("unavailable", "Expected the database to answer, but it does not. Try again.", retry_after=1)
            return _result(gone.body(f"{PATH}#{name[:80]}"), failed=True)


def _result(value: Any, *, failed: bool = False) -> CallToolResult:
    from mcp_types import CallToolResult, TextContent

    encoded = orjson.dumps(value)
    shown = TextContent(type="text", text=encoded.decode())
    return CallToolResult(content=[shown], structured_content=orjson.loads(encoded), is_error=failed)
