"""The body of a POST: of bounded size, JSON as the gateway reads it, and of one shape. What is not is told as a problem, field
by field."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from handrail_notifier.entrypoints.door import problem_response
from handrail_runtime import strict_fields, strict_json

M = TypeVar("M", bound=BaseModel)


class Refused(Exception):
    """The answer instead."""

    def __init__(self, response: Response) -> None:
        super().__init__("refused")
        self.response = response


async def read_body(request: Request, model: type[M], *, limit_bytes: int, strict: bool = True) -> M:
    """The body as `model`, without `strict` as its author's own clients are used to write it. Raises Refused,
    ClientDisconnect."""
    path = request.url.path[:120]
    if request.method != "POST":
        detail = "Expected POST."
        raise Refused(problem_response("method-not-allowed", detail, instance=path, headers={"allow": "POST"}))
    headers = request.headers
    unread = strict_fields.unread_encoding(headers.get("content-encoding", ""))
    unread = unread or strict_fields.unread_type(headers.get("content-type", ""))
    if unread is not None:
        raise Refused(problem_response("unsupported-media-type", unread, instance=path))
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit_bytes:
            detail = f"Expected at most {limit_bytes} bytes, but the body is larger."
            raise Refused(problem_response("payload-too-large", detail, instance=path, headers={"connection": "close"}))
    try:
        return strict_fields.read(model, body, strict_json.parse(body), strict=strict)
    except strict_json.BadJson as e:
        raise Refused(problem_response(e.code, e.detail, instance=path, errors=e.errors, **e.members)) from e
    except strict_fields.BadFields as e:
        raise Refused(problem_response(e.code, e.detail, instance=path, errors=e.errors)) from e
