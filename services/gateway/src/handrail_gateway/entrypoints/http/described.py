"""How routes are described in OpenAPI. Handlers take the bare request, because FastAPI's own validation answers faults
otherwise than CONTRACT section 7 wants them; so what they take and answer is said here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.routing import Route

from handrail_contracts.problems import PROBLEMS

READING = (
    *("malformed-json", "too-deep", "duplicate-key", "number-out-of-range", "invalid-text"),
    *("payload-too-large", "unsupported-media-type", "validation", "unknown-field", "too-many-items"),
)
"""How any body may be refused."""
_KEYED = ("idempotency-key-invalid", "idempotency-key-reused", "request-in-progress")
REF = "#/components/schemas/"
_JSON, _PROBLEM = "application/json", "application/problem+json"
_TEXT: dict[str, Any] = {"type": "string"}


class Bare(APIRoute):
    """A route that stands in OpenAPI and is called as Starlette calls its own, with nothing but the request: FastAPI would
    solve dependencies, and open three exit stacks for them, where there are none."""

    matches = Route.matches
    handle = Route.handle

    def __init__(self, path: str, endpoint: Any, **described: Any) -> None:
        super().__init__(path, endpoint, **described)
        self.app = self._answer

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def operation(
    summary: str,
    *,
    tag: str,
    body: type[BaseModel] | None = None,
    body_required: bool = True,
    answer: type[BaseModel] | dict[str, Any] | None = None,
    status: int = 200,
    also: Mapping[int, str] | None = None,
    query: Mapping[str, str] | None = None,
    path: tuple[str, ...] = (),
    problems: tuple[str, ...] = (),
    media: str = _JSON,
    keyed: bool = True,
) -> dict[str, Any]:
    """Keyword arguments for a route decorator. `query` and `path` name parameters, `problems` codes; `keyed` is whether an
    Idempotency-Key and names of who acts mean something."""
    schema: Any = {} if answer is None else answer if isinstance(answer, dict) else _ref(answer)
    responses: dict[int | str, Any] = {
        status: {"description": also.get(status, "Done.") if also else "Done.", "content": {media: {"schema": schema}}}
    }
    for other, text in (also or {}).items():
        responses.setdefault(other, {"description": text, "content": {media: {"schema": schema}}})
    by_status: dict[int, list[str]] = {}
    if body is not None:
        problems = (*problems, *READING, *(_KEYED if keyed else ()))
    for code in dict.fromkeys(problems):
        by_status.setdefault(PROBLEMS[code][0], []).append(code)
    for failed, codes in by_status.items():
        responses[failed] = {
            "description": ", ".join(f"`{c}`" for c in codes),
            "content": {_PROBLEM: {"schema": {"$ref": f"{REF}Problem"}}},
        }
    parameters = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in path]
    parameters += [{"name": n, "in": "query", "description": d, "schema": _TEXT} for n, d in (query or {}).items()]
    extra: dict[str, Any] = {}
    if body is not None:
        parameters += _POST_HEADERS if keyed else []
        extra["requestBody"] = {"required": body_required, "content": {_JSON: {"schema": _ref(body)}}}
    if parameters:
        extra["parameters"] = parameters
    return {
        "summary": summary,
        "tags": [tag],
        "status_code": status,
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


def listed(item: type[BaseModel]) -> dict[str, Any]:
    """The schema of a list of `item`."""
    cursor = {"anyOf": [_TEXT, {"type": "null"}]}
    properties = {"items": {"type": "array", "items": _ref(item)}, "next_cursor": cursor}
    return {"type": "object", "required": ["items", "next_cursor"], "properties": properties}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"{REF}{model.__name__}"}


def _header(name: str, description: str, most: int) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": most}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_POST_HEADERS = [
    _header("Idempotency-Key", "The first 2xx answer to this key is kept for 7 days and repeated.", 255),
    _header(
        "Handrail-Actor",
        "Who acts; recorded, not proven. Default `local`. `system` and `system:…` are what Handrail calls itself.",
        128,
    ),
    _header("Handrail-Channel", "Through what; default `api`.", 128),
]
PAGING = {
    "limit": "1 to 200, default 50; others are moved to the nearest end.",
    "cursor": "`next_cursor` of the page before.",
}
