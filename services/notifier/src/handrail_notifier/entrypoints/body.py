"""The body of a POST: of bounded size, JSON as the gateway reads it, and of one shape. What is not is told as a problem, field
by field."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.pointers import escaped
from handrail_notifier.entrypoints.door import problem_response
from handrail_runtime import strict_json

M = TypeVar("M", bound=BaseModel)
SHOWN_FAULTS = 20


class Refused(Exception):
    """The answer instead."""

    def __init__(self, response: Response) -> None:
        super().__init__("refused")
        self.response = response


async def read_body(request: Request, model: type[M], *, limit_bytes: int) -> M:
    """The body as `model`. Raises Refused, ClientDisconnect."""
    path = request.url.path[:120]
    if request.method != "POST":
        detail = "Expected POST."
        raise Refused(problem_response("method-not-allowed", detail, instance=path, headers={"allow": "POST"}))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        detail = f"Expected Content-Type: application/json, but found {kind[:80]!r}."
        raise Refused(problem_response("unsupported-media-type", detail, instance=path))
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit_bytes:
            detail = f"Expected at most {limit_bytes} bytes, but the body is larger."
            raise Refused(problem_response("payload-too-large", detail, instance=path, headers={"connection": "close"}))
    try:
        strict_json.parse(body)
        return model.model_validate_json(body)
    except strict_json.BadJson as e:
        raise Refused(problem_response(e.code, e.detail, instance=path, errors=e.errors, **e.members)) from e
    except ValidationError as e:
        raise Refused(_faults(e, path)) from e


def _faults(error: ValidationError, path: str) -> Response:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    errors = [
        {"pointer": _pointer(fault), "code": _code(fault), "message": fault["msg"][:200]}
        for fault in found[:SHOWN_FAULTS]
    ]
    code = "unknown-field" if all(one["code"] == "unknown-field" for one in errors) else "validation"
    detail = f"Expected a body of another shape: {errors[0]['pointer'] or 'it'}: {errors[0]['message']}"
    return problem_response(code, detail, instance=path, errors=errors)


def _code(fault: ErrorDetails) -> str:
    return "unknown-field" if fault["type"] == "extra_forbidden" else "validation"


def _pointer(fault: ErrorDetails) -> str:
    return "".join("/" + escaped(str(part)[:80]) for part in fault["loc"])
