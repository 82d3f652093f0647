"""A local endpoint that speaks OpenAI's chat completions: it plays the answers that a test gives it, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Reply = dict[str, Any] | Response
Make = Callable[[dict[str, Any]], Reply]


def says(text: str) -> Reply:
    return {"role": "assistant", "content": text}


def tool_call(name: str, arguments: dict[str, Any] | str, call_id: str = "call_1") -> Reply:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class LlmStub:
    """`play` queues replies; when none is left `otherwise` makes one. `asked` are the bodies of all requests."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.replies: deque[Reply | Make] = deque()
        self.otherwise: Make = lambda body: Response("nothing to play", 500)
        self.tokens = (100, 20)
        self.url = ""

    def play(self, *replies: Reply | Make) -> None:
        self.replies.extend(replies)

    def clear(self) -> None:
        self.asked.clear()
        self.keys.clear()
        self.replies.clear()

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        reply = self.replies.popleft() if self.replies else self.otherwise
        reply = reply(body) if callable(reply) and not isinstance(reply, Response) else reply
        if isinstance(reply, Response):
            return reply
        why = "tool_calls" if reply.get("tool_calls") else "stop"
        prompt, completion = self.tokens
        return JSONResponse(
            {
                "id": f"stub-{len(self.asked)}",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": body["model"],
                "choices": [{"index": 0, "message": reply, "finish_reason": why, "logprobs": None}],
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "total_tokens": prompt + completion,
                },
            }
        )


@contextlib.asynccontextmanager
async def running() -> AsyncGenerator[LlmStub]:
    """A stub that listens; `url` is its base URL."""
    stub = LlmStub()
    app = Starlette(routes=[Route("/v1/chat/completions", stub.complete, methods=["POST"])])
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stub.url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
    try:
        yield stub
    finally:
        server.should_exit = True
        await serving
