"""Answers on the wire: JSON as bytes, problems as RFC 9457 wants them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote as urlquote

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.problems import QUOTE_CHARS, problem
from handrail_gateway.application.faults import Refusal, StorageFull, StoreFault
from handrail_gateway.application.ports import Answer

JSON, PROBLEM = "application/json", "application/problem+json"
RETRY_AFTER_S = 2
GONE = 499
"""How a request is counted that ended without an answer."""
_CUT = re.compile("%[0-9A-F]?$")
LONGEST_PATH = 400

_log = structlog.get_logger(__name__)


class Json(Response):
    """Encoded JSON."""

    media_type = JSON


def of(answer: Answer) -> Response:
    """A use case's answer."""
    return Json(answer.body, answer.status, answer.headers)


def value(shown: Any, status: int = 200) -> Response:
    """A value, encoded."""
    return Json(orjson.dumps(shown), status)


def instance(path: str) -> str:
    """The path of a request as a problem names it: a URI reference. A path that is longer than any of ours is quoted as all
    input is, by its first 80 characters."""
    shown = urlquote(path, safe="/#:@!$&'()*+,;=", errors="replace")
    return shown if len(shown) <= LONGEST_PATH else _CUT.sub("", shown[:QUOTE_CHARS])


def refusal(path: str, refused: Refusal) -> Response:
    """The problem of a refusal."""
    return problem_response(
        refused.status,
        refused.body(instance(path)),
        retry_after=refused.retry_after,
        headers=dict(refused.headers),
        close=refused.close,
    )


def store_fault(path: str, fault: StoreFault) -> Response:
    """The 503 of a database that did not do it."""
    if isinstance(fault, StorageFull):
        detail = "Expected the database to store this, but it is out of space. Nothing was stored. Try again later."
        code = "storage-full"
    else:
        detail = "Expected the database to answer, but it does not. Try again with the same Idempotency-Key."
        code = "unavailable"
    body = problem(code, detail, instance=instance(path), retry_after=RETRY_AFTER_S)
    return problem_response(503, body, retry_after=RETRY_AFTER_S)


def problem_response(
    status: int,
    body: dict[str, Any],
    *,
    retry_after: int | None = None,
    headers: dict[str, str] | None = None,
    close: bool = False,
) -> Response:
    """Any problem."""
    headers = headers or {}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if close:
        headers["Connection"] = "close"
    return Response(orjson.dumps(body), status, headers, media_type=PROBLEM)


async def on_refusal(request: Request, error: Exception) -> Response:
    """Handler of Refusal."""
    assert isinstance(error, Refusal)
    return refusal(request.url.path, error)


async def on_store_fault(request: Request, error: Exception) -> Response:
    """Handler of StoreFault."""
    assert isinstance(error, StoreFault)
    return store_fault(request.url.path, error)


async def on_gone(request: Request, error: Exception) -> Response:
    """Handler of a client that has left while it was sending: nobody hears this, and it is no fault of ours."""
    return Response(status_code=GONE)


async def on_bug(request: Request, error: Exception) -> Response:
    """Handler of everything that was not foreseen. The log has it, the client does not."""
    _log.error("request_failed", path=request.url.path[:200], kind=type(error).__name__, exc_info=error)
    detail = "Something failed on our side. It is in our log. Try again; if it stays so, tell the operators."
    return problem_response(500, problem("internal", detail, instance=instance(request.url.path)))
