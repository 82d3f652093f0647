"""What is published about the service itself: health, metrics, OpenAPI, AsyncAPI, JSON Schemas, problem pages."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from handrail_contracts import commands, events, plan, problems, tasks
from handrail_contracts.answers import ANSWERS
from handrail_contracts.blueprint import Blueprint
from handrail_contracts.pauses import Pause
from handrail_contracts.policy import Policy
from handrail_contracts.problems import PROBLEMS, Problem
from handrail_contracts.topics import TOPICS, KeyRule, Topic
from handrail_contracts.topics import tasks as task_topic
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.entrypoints.http import answers, streams
from handrail_gateway.entrypoints.http.usecases import UseCases
from handrail_runtime import health

_SAID: tuple[type[BaseModel], ...] = (
    commands.StartRequest,
    commands.ResumeRequest,
    commands.PauseRequest,
    commands.CancelRequest,
    commands.ClaimRequest,
    commands.ReleaseRequest,
    commands.ReasonRequest,
    commands.DiscardRequest,
    commands.DevRecordRequest,
    commands.ReplayRequest,
    commands.MessageRequest,
    commands.SseTicketRequest,
    commands.EscalationRequest,
    commands.PolicyRequest,
    commands.SimulateRequest,
    commands.DevRecordRequest,
    commands.Nudge,
    plan.Plan,
    Blueprint,
    Policy,
    tasks.Task,
    tasks.Result,
    tasks.Heartbeat,
    tasks.Progress,
    tasks.DeadLetter,
    Pause,
    Problem,
    *dict.fromkeys(events.EVENTS.values()),
)
MODELS: tuple[type[BaseModel], ...] = (*_SAID, *ANSWERS)
"""Every shape that is published."""
_QUARANTINED = {
    "description": "A copy of a record that could not be read, byte for byte; headers say why and where it came from."
}


def schemas(template: str = "#/components/schemas/{model}") -> dict[str, Any]:
    """Name -> JSON Schema 2020-12 of every published model."""
    _, found = models_json_schema([(m, "validation") for m in MODELS], by_alias=True, ref_template=template)
    return found["$defs"]


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes, with the models of contracts."""
    document = get_openapi(
        title="Handrail",
        version=app.version,
        summary="The panic button for agentic workflows",
        description="Start workflows, watch them, and decide where they stopped. Errors are RFC 9457 problems.",
        routes=app.routes,
    )
    document["paths"].update(streams.paths())
    components = document.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **schemas()}
    return document


def asyncapi(version: str, partitions: int) -> dict[str, Any]:
    """The AsyncAPI 3.0.0 document of the topics."""
    topics = [*TOPICS, task_topic("{agent}")]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Handrail on Kafka",
            "version": version,
            "description": "CloudEvents 1.0 in binary mode: attributes are headers with the prefix ce_.",
        },
        "defaultContentType": "application/json",
        "channels": {_channel(t): _channel_object(t, partitions) for t in topics},
        "operations": {f"receive-{_channel(t)}": _operation(t) for t in topics},
        "components": {"messages": _messages(topics), "schemas": schemas()},
    }


def _channel(topic: Topic) -> str:
    return topic.name.replace("handrail.", "").replace(".{agent}", "").replace(".", "-")


def _channel_object(topic: Topic, partitions: int) -> dict[str, Any]:
    kafka: dict[str, Any] = {
        "topic": topic.name,
        "topicConfiguration": {"retention.ms": topic.retention_ms, "cleanup.policy": ["delete"]},
        "bindingVersion": "0.5.0",
    }
    if topic.co_partitioned:
        kafka["partitions"] = partitions
    channel: dict[str, Any] = {
        "address": topic.name,
        "description": topic.why,
        "messages": {name: {"$ref": f"#/components/messages/{_channel(topic)}-{name}"} for name in topic.payload},
        "bindings": {"kafka": kafka},
    }
    if "{agent}" in topic.name:
        channel["parameters"] = {"agent": {"description": "The agent's name."}}
        del kafka["topic"]
    return channel


def _operation(topic: Topic) -> dict[str, Any]:
    at = f"#/channels/{_channel(topic)}"
    return {
        "action": "receive",
        "channel": {"$ref": at},
        "summary": topic.why,
        "messages": [{"$ref": f"{at}/messages/{name}"} for name in topic.payload],
    }


def _messages(topics: list[Topic]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for topic in topics:
        for name in topic.payload:
            key: dict[str, Any] = {"type": "string", "description": topic.key.value}
            if topic.key is KeyRule.WORKFLOW:
                key["examples"] = ["default/req_8847_abc"]
            found[f"{_channel(topic)}-{name}"] = {
                "name": name,
                "contentType": "application/json",
                "payload": _payload(name),
                "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
            }
    return found


def _payload(name: str) -> dict[str, Any]:
    if name == "Event":
        shapes = dict.fromkeys(model.__name__ for model in events.EVENTS.values())
        return {"oneOf": [{"$ref": f"#/components/schemas/{shape}"} for shape in shapes]}
    return _QUARANTINED if name == "Quarantined" else {"$ref": f"#/components/schemas/{name}"}


def add_routes(app: FastAPI, use: UseCases, partitions: int) -> None:
    """Adds the routes, none of which stands in OpenAPI."""
    get = partial(app.get, include_in_schema=False)
    documents: dict[str, bytes] = {}

    def document(name: str, make: Any) -> Response:
        # Made when first asked for: at start nobody waits for it.
        if name not in documents:
            documents[name] = orjson.dumps(make())
        return answers.Json(documents[name])

    @get("/openapi.json")
    async def openapi_json(request: Request) -> Response:
        return document("openapi", lambda: openapi(app))

    @get("/asyncapi.json")
    async def asyncapi_json(request: Request) -> Response:
        return document("asyncapi", lambda: asyncapi(app.version, partitions))

    @get("/schemas")
    async def all_schemas(request: Request) -> Response:
        return document("schemas", lambda: {"$schema": _DRAFT, "$defs": schemas("#/$defs/{model}")})

    @get("/schemas/{name}")
    async def one_schema(request: Request) -> Response:
        name: str = request.path_params["name"]
        model = next((m for m in MODELS if m.__name__ == name), None)
        if model is None:
            names = ", ".join(sorted(m.__name__ for m in MODELS))
            raise Refusal("not-found", f"Expected one of the models {names}, but found {quote(name)}.")
        return document(f"schemas/{name}", lambda: {"$schema": _DRAFT, **model.model_json_schema(by_alias=True)})

    @get("/healthz")
    async def healthz(request: Request) -> Response:
        status, body = health.healthz()
        # The console asks here whether it stands on somebody's desk.
        return answers.value({**body, "dev": True} if use.dev is not None else body, status)

    @get("/readyz")
    async def readyz(request: Request) -> Response:
        status, body = await health.readyz(use.checks(), accepting=use.accepting())
        return answers.value(body, status)

    @get("/metrics")
    async def metrics(request: Request) -> Response:
        media, body = health.metrics()
        return Response(body, 200, media_type=media)

    @get("/problems/{code}")
    async def problem(request: Request) -> Response:
        return HTMLResponse(_page(request.path_params["code"]))


_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ADVICE = {
    400: "The request was not understood. Correct it as `detail` says; sending it again unchanged gives the same answer.",
    403: "The request is not allowed from where it came.",
    404: "There is nothing under this address, or it is not yours.",
    409: "The request was understood, but something else happened first. `detail` says what; look at the state again.",
    410: "It is too late for this. `detail` says what happened instead.",
    422: "The request is well formed, but what it asks for cannot be done. `errors` point at the fields.",
    429: "There are too many requests. Wait for `retry_after` seconds.",
    500: "Something failed on our side. The same request may work later; an Idempotency-Key makes trying again safe.",
    503: "A part that is needed is not available. Wait for `retry_after` seconds; an Idempotency-Key makes trying again safe.",
}


def _page(code: str) -> str:
    if code not in problems.PROBLEMS:
        raise Refusal("not-found", f"Expected the code of a problem, but found {quote(code)}.")
    status, title = PROBLEMS[code]
    advice = _ADVICE.get(status, "`detail` of the problem says what was expected, what was found and what to do.")
    name, head = html.escape(code), html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f"<h1>{head}</h1><p>Code <code>{name}</code>, status {status}.</p><p>{html.escape(advice)}</p></html>"
    )
