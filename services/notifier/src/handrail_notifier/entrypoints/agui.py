"""AG-UI over HTTP: `POST /ag-ui` runs a workflow up to its next pause or its end, `?format=agui` is its whole stream."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from ag_ui.core import ResumeEntry, RunAgentInput, UserMessage
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handrail_contracts.ids import TRACE_ID
from handrail_notifier.application.agui_tracks import Run, Tracks
from handrail_notifier.application.ports import Desk, NotFound, RefusedElsewhere, Unavailable
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.position import GoOn, Reset
from handrail_notifier.entrypoints.body import Refused, read_body
from handrail_notifier.entrypoints.door import problem_response
from handrail_notifier.entrypoints.sse import Streams, not_found, unavailable

LIMIT_BYTES = 1024 * 1024
_ORDERED = ("blueprint", "input", "plan", "labels", "deadline_s")
"""What `forwardedProps.handrail` may add to the intent of a new workflow."""
_DECIDED = ("action_id", "input", "comment", "evidence_digest", "override_claim")


class AguiEvents:
    """The stream of a workflow in AG-UI frames."""

    def __init__(self, tracks: Tracks, streams: Streams) -> None:
        self._tracks, self._streams = tracks, streams

    async def follow(self, watched: Watched, opening: GoOn | Reset, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves it from where the client goes on; the caller holds `watched`. Raises Unavailable."""
        track = await self._tracks.hold(watched)
        try:
            match opening:
                case GoOn(cursor):
                    await self._streams.serve(scope, receive, send, track, cursor)
                case Reset(reason):
                    piece = track.reset(reason)
                    await self._streams.serve(scope, receive, send, track, piece.cursor, piece.body)
        finally:
            self._tracks.release(track)


class AguiRun:
    """ASGI endpoint of `/ag-ui`."""

    def __init__(self, tracks: Tracks, rings: Rings, desk: Desk, streams: Streams, tenant: str) -> None:
        self._tracks, self._rings, self._desk, self._streams, self._tenant = tracks, rings, desk, streams, tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path
        try:
            order = await read_body(request, RunAgentInput, limit_bytes=LIMIT_BYTES, strict=False)
            refusal = self._streams.refusal(request, methods=("POST",)) or _unusable(order, path)
            if refusal is not None:
                raise Refused(refusal)
            await self._streams.attend()
            watched = await self._held(order, request)
        except Refused as refused:
            await refused.response(scope, receive, send)
            return
        try:
            await self._run(watched, order, scope, receive, send)
        finally:
            self._rings.release(watched)

    async def _held(self, order: RunAgentInput, request: Request) -> Watched:
        key, path = (self._tenant, order.thread_id), request.url.path
        try:
            try:
                return await self._rings.hold(key)
            except NotFound as e:
                if order.resume or _intent(order) is None:
                    raise Refused(not_found(order.thread_id, path)) from e
            actor = request.headers.get("handrail-actor", "")
            await self._desk.start(_new_workflow(order), key=_key(order, "start"), actor=actor)
            return await self._rings.hold(key)
        except NotFound as e:
            raise Refused(not_found(order.thread_id, path)) from e
        except Unavailable as e:
            raise Refused(unavailable(path)) from e
        except RefusedElsewhere as e:
            raise Refused(_passed_on(e)) from e

    async def _run(self, watched: Watched, order: RunAgentInput, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            track = await self._tracks.hold(watched)
        except Unavailable:
            await unavailable(path)(scope, receive, send)
            return
        try:
            answered = [entry for entry in order.resume or () if entry.status == "resolved"]
            # Where it stands is taken before anything is decided: what the decision brings about is what is shown.
            run = Run(track, order.run_id, [entry.interrupt_id for entry in answered])
            cursor, opening = track.head, run.opening()
            for entry in answered:
                actor = Request(scope).headers.get("handrail-actor", "")
                key = _key(order, entry.interrupt_id)
                await self._desk.decide(order.thread_id, _decision(entry), key=key, actor=actor)
            track.runs[run] = None
            try:
                await self._streams.serve(scope, receive, send, run, cursor, opening)
            finally:
                del track.runs[run]
        except Unavailable:
            await unavailable(path)(scope, receive, send)
        except RefusedElsewhere as e:
            await _passed_on(e)(scope, receive, send)
        finally:
            self._tracks.release(track)


def _unusable(order: RunAgentInput, path: str) -> Response | None:
    if TRACE_ID.fullmatch(order.thread_id) is None:
        detail = "Expected threadId to be a trace id, 1 to 64 of A-Z a-z 0-9 _ -, but it is not one."
        errors = [{"pointer": "/threadId", "code": "invalid-trace-id", "message": detail}]
        return problem_response("validation", detail, instance=path, errors=errors)
    for place, entry in enumerate(order.resume or ()):
        if entry.status == "resolved" and not _decision(entry).get("action_id"):
            detail = "Expected payload {action_id, input?, comment?} with one of the buttons, but it names none."
            errors = [{"pointer": f"/resume/{place}/payload/action_id", "code": "missing", "message": detail}]
            return problem_response("invalid-input", detail, instance=path, errors=errors)
    return None


def _decision(entry: ResumeEntry) -> dict[str, Any]:
    payload: Any = entry.payload
    given: Mapping[str, Any] = {"action_id": payload} if isinstance(payload, str) else {}
    if isinstance(payload, dict):
        given = cast("dict[str, Any]", payload)
    return {"pause_id": entry.interrupt_id, **{name: given[name] for name in _DECIDED if name in given}}


def _intent(order: RunAgentInput) -> str | None:
    said = [message for message in order.messages if isinstance(message, UserMessage)]
    if not said:
        return None
    content = said[-1].content
    if isinstance(content, str):
        return content
    return "\n".join(str(part.text) for part in content if part.type == "text") or None


def _new_workflow(order: RunAgentInput) -> dict[str, Any]:
    props: Any = order.forwarded_props
    ours: Any = props.get("handrail") if isinstance(props, dict) else None
    more = {name: ours[name] for name in _ORDERED if name in ours} if isinstance(ours, dict) else {}
    return {"trace_id": order.thread_id, "intent": _intent(order), **more}


def _key(order: RunAgentInput, what: str) -> str:
    """The same for the same run: a request that is sent again orders nothing twice."""
    return "ag-ui-" + hashlib.sha256(f"{order.thread_id}\n{order.run_id}\n{what}".encode()).hexdigest()[:40]


def _passed_on(refused: RefusedElsewhere) -> Response:
    headers = {"cache-control": "no-store"}
    if refused.retry_after is not None:
        headers["retry-after"] = refused.retry_after
    return Response(refused.body, refused.status, headers, media_type="application/problem+json")
