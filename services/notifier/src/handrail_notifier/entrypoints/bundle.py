"""`GET /events?trace_id=a&trace_id=b` or `?label=team:it`: several workflows on one connection, for dashboards; with
`started=true` also which workflows were accepted, for lists."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handrail_contracts.ids import TRACE_ID
from handrail_notifier.application.bundle import MEMBERS, Bundles
from handrail_notifier.application.ports import NotFound, Unavailable
from handrail_notifier.application.tickets import bundle_stream
from handrail_notifier.entrypoints.door import problem_response
from handrail_notifier.entrypoints.sse import Streams, not_found, unavailable


class BundleEvents:
    """ASGI endpoint of `/events`."""

    def __init__(self, bundles: Bundles, streams: Streams) -> None:
        self._bundles, self._streams = bundles, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        trace_ids, label = request.query_params.getlist("trace_id"), request.query_params.get("label")
        started = request.query_params.get("started") == "true"
        refusal = self._streams.refusal(request) or _bad_query(request)
        refusal = refusal or await self._streams.admit(request, bundle_stream(trace_ids, label, started=started))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            bundle = await self._bundles.open(trace_ids, label, started=started)
        except NotFound as e:
            await not_found(str(e), request.url.path)(scope, receive, send)
            return
        except Unavailable:
            await unavailable(request.url.path)(scope, receive, send)
            return
        try:
            await self._streams.serve(scope, receive, send, bundle, bundle.head, bundle.snapshots())
        finally:
            self._bundles.close(bundle)


def _bad_query(request: Request) -> Response | None:
    trace_ids, labels = request.query_params.getlist("trace_id"), request.query_params.getlist("label")
    path, started = request.url.path, request.query_params.get("started", "false")
    if started not in ("true", "false"):
        return problem_response("invalid-query", "Expected started=true or started=false.", instance=path)
    if not trace_ids and not labels and started == "false":
        detail = "Expected trace_id (once or more), label=key:value or started=true."
        return problem_response("invalid-query", detail, instance=path)
    if len(trace_ids) > MEMBERS:
        return problem_response("invalid-query", f"Expected at most {MEMBERS} trace_id, but found more.", instance=path)
    if len(labels) > 1 or any(":" not in label[1:] or "\x00" in label for label in labels):
        detail = "Expected one label as key:value without NUL characters, but it is not so."
        return problem_response("invalid-query", detail, instance=path)
    for trace_id in trace_ids:
        if TRACE_ID.fullmatch(trace_id) is None:
            return not_found(trace_id, path)
    return None
