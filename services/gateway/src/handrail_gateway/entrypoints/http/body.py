"""Reading a body: its media type, its size as it comes over the wire whatever its headers say, its JSON, its model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from handrail_gateway.application.faults import Refusal
from handrail_gateway.entrypoints.http import fields, head, strict_json
from handrail_runtime import strict_fields

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

SMALL_BYTES = 1024 * 1024
LARGE_BYTES = 8 * SMALL_BYTES
SLOWEST_S = 30.0
_IN_A_THREAD_FROM_BYTES = 256 * 1024
_LINGER_S, _LINGER_BYTES = 1.0, 16 * SMALL_BYTES


async def read(request: Request, model: type[M], *, optional: bool = False) -> tuple[M, str]:
    """(the body as `model`, its digest). With `optional` no body means `{}`. Raises Refusal."""
    return await read_by(request, partial(fields.read, model), optional=optional)


async def read_by(
    request: Request, as_: Callable[[bytes, Any], T], *, limit: int = SMALL_BYTES, optional: bool = False
) -> tuple[T, str]:
    """(what `as_` makes of the body and its value, the digest). `as_` is called in a thread where the body is large.
    Raises Refusal.

    The digest is of the value, so that the same JSON written differently is the same body; it is only made where an
    Idempotency-Key asks for it, else it is empty.
    """
    known = head.of(request.scope)
    _refuse_encoded(known)
    body = await _bytes(request, known, limit)
    if not body and optional:
        body = b"{}"
    else:
        refuse_other_types(known)
    keyed = bool(known.keys)
    if len(body) >= _IN_A_THREAD_FROM_BYTES:
        return await asyncio.to_thread(_parsed, body, as_, keyed)
    return _parsed(body, as_, keyed)


def _parsed(body: bytes, as_: Callable[[bytes, Any], T], keyed: bool) -> tuple[T, str]:
    value = strict_json.parse(body)
    digest = hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest() if keyed else ""
    return as_(body, value), digest


def _refuse_encoded(known: head.Head) -> None:
    unread = strict_fields.unread_encoding(known.content_encoding)
    if unread is not None:
        raise Refusal("unsupported-media-type", unread, headers={"Accept-Encoding": "identity"})


def refuse_other_types(known: head.Head) -> None:
    """Refuses whatever does not say that it is JSON in UTF-8."""
    unread = strict_fields.unread_type(known.content_type)
    if unread is not None:
        taken = {"Accept": strict_fields.JSON, "Accept-Post": strict_fields.JSON}
        raise Refusal("unsupported-media-type", unread, headers=taken)


async def _bytes(request: Request, known: head.Head, limit: int) -> bytes:
    declared = int(known.content_length) if known.content_length.isdecimal() else 0
    if declared > limit:
        await _refuse_large(request, limit, linger=not known.expect)
    received = await request.receive()
    if received["type"] == "http.request" and not received.get("more_body", False):
        body = received.get("body", b"")
        if len(body) > limit:
            await _refuse_large(request, limit, linger=False)
        return body
    try:
        async with asyncio.timeout(SLOWEST_S):
            return await _rest(request, received, limit)
    except TimeoutError:
        raise Refusal(
            "request-timeout",
            f"Expected the whole body within {SLOWEST_S:g} s, but it is still coming. Send it faster, or less.",
            close=True,
        ) from None


async def _rest(request: Request, received: Any, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if received["type"] == "http.disconnect":
            raise ClientDisconnect
        part = received.get("body", b"")
        size += len(part)
        if size > limit:
            await _refuse_large(request, limit, linger=True)
        parts.append(part)
        if not received.get("more_body", False):
            return b"".join(parts)
        received = await request.receive()


async def _refuse_large(request: Request, limit: int, *, linger: bool) -> NoReturn:
    """Takes in for a moment what is still coming: a client that is cut off while it sends may never read our answer."""
    if linger:
        try:
            async with asyncio.timeout(_LINGER_S):
                size = 0
                while size < _LINGER_BYTES:
                    received = await request.receive()
                    size += len(received.get("body", b""))
                    if not received.get("more_body", False):
                        break
        except TimeoutError:
            pass
    raise Refusal(
        "payload-too-large",
        f"Expected a body of at most {limit} bytes, but it is larger. Send less.",
        close=True,
        limit=limit,
    )
