"""`Client`: start, watch and decide workflows from Python, over the public HTTP API.

    async with Client() as handrail:
        accepted = await handrail.start(blueprint="employee-onboarding", input={"employee": "Ada", ...})
        async for event, view in handrail.watch(accepted.trace_id):
            print(event["event_type"], view.status)

Every method raises `ClientError`: `Problem` when Handrail refuses, `Unreachable` when nobody answers. Each ordering call
is one logical call: it carries one idempotency key over all its repeats, so it happens once or not at all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import quote

import httpx2

from handrail_contracts.answers import (
    Accepted,
    AgentView,
    BlueprintView,
    NodeInputs,
    Ordered,
    Preview,
    Resuming,
    SseTicket,
    State,
)
from handrail_contracts.answers import WorkflowSummary as Summary
from handrail_contracts.plan import Plan
from handrail_contracts.view import WorkflowView
from handrail_sdk.calls import Calls, path
from handrail_sdk.client_errors import Problem
from handrail_sdk.connection import Connection
from handrail_sdk.desk import Desk
from handrail_sdk.pages import UNSET, Page, one, page
from handrail_sdk.stream import Stream, Update

DEFAULT_URL = "http://127.0.0.1:8080"
URL_VARIABLE = "HANDRAIL_URL"
ACTOR_VARIABLE = "HANDRAIL_ACTOR"
_VERSION = "0.1.0"


class Client(Desk):
    """One Handrail, spoken to over HTTP. Use it as an async context manager; it may be shared by many tasks.

    `url`: the origin, else HANDRAIL_URL, else http://127.0.0.1:8080. `actor`: who acts, recorded with every decision,
    else HANDRAIL_ACTOR, else the server's default. `channel`: through what. `timeout_s`: of each single try.
    `retries`: repeats after a broken connection or shed load. `http`: connections to use instead of own ones.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        actor: str | None = None,
        channel: str = "api",
        timeout_s: float = 30.0,
        retries: int = 4,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        headers = {"Handrail-Channel": channel, "User-Agent": f"handrail-python/{_VERSION}"}
        actor = actor or os.environ.get(ACTOR_VARIABLE)
        if actor:
            headers["Handrail-Actor"] = actor if actor.isascii() and actor.isprintable() else quote(actor)
        url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        super().__init__(Calls(url, headers, timeout_s, retries, http))

    @property
    def url(self) -> str:
        """The origin that is spoken to."""
        return self._calls.url

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Idempotent."""
        await self._calls.close()

    async def start(
        self,
        intent: str | None = None,
        *,
        blueprint: str | None = None,
        input: Mapping[str, Any] | None = None,
        plan: Plan | Mapping[str, Any] | None = None,
        trace_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Accepted:
        """Starts a workflow; when this returns it is durable. At least one of intent, blueprint, plan. `deadline_s` in
        seconds. Idempotent under one `idempotency_key` (drawn where None)."""
        dumped = plan.model_dump(mode="json", by_alias=True, exclude_unset=True) if isinstance(plan, Plan) else plan
        body = {
            "intent": intent,
            "blueprint": blueprint,
            "input": dict(input) if input is not None else None,
            "plan": dumped,
            "trace_id": trace_id,
            "labels": dict(labels) if labels is not None else None,
            "deadline_s": deadline_s,
        }
        given = {k: v for k, v in body.items() if v is not None}
        return one(Accepted, await self._calls.post("/workflows", given, idempotency_key))

    async def list(
        self,
        *,
        status: str | tuple[str, ...] | None = None,
        blueprint: str | None = None,
        labels: Mapping[str, str] | None = None,
        q: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Summary]:
        """Workflows, newest first. `q`: text of the intent, or how a trace id begins. `cursor`: `next_cursor` of the
        page before."""
        query = {
            "status": ",".join(status) if isinstance(status, tuple) else status,
            "blueprint": blueprint,
            "label": [f"{name}:{value}" for name, value in (labels or {}).items()],
            "q": q,
            "limit": limit,
            "cursor": cursor,
        }
        return page(Summary, await self._calls.get("/workflows", query))

    async def state(self, trace_id: str, *, history: bool = False) -> State:
        """The snapshot, with its cursor; with `history` also the newest 1,000 events."""
        return one(State, await self._calls.get(path("workflows", trace_id, "state"), {"history": history or None}))

    async def journal(self, trace_id: str, *, after: int = 0, limit: int | None = None) -> Page[dict[str, Any]]:
        """Events with `seq` > `after`, oldest first, raw."""
        query = {"after": after, "limit": limit}
        answer = await self._calls.get(path("workflows", trace_id, "journal"), query)
        return Page(answer["items"], answer["next_cursor"])

    async def history(self, trace_id: str) -> AsyncGenerator[dict[str, Any]]:
        """Every event so far, oldest first, however many."""
        after = 0
        while True:
            found = await self.journal(trace_id, after=after, limit=1000)
            for event in found.items:
                after = event["seq"]
                yield event
            if found.next_cursor is None or not found.items:
                return

    async def watch(
        self,
        trace_id: str,
        *,
        after: int | None = None,
        progress: bool = False,
        on_connection: Callable[[Connection], None] | None = None,
    ) -> AsyncGenerator[Update]:
        """Every step of a workflow until it has ended, as `(event, view)`; reconnects by itself, for ever, without a hole.

        `after` None begins with the snapshot of now (an event of type `snapshot`); `after=0` yields every event from the
        first, each once, in order. Without `after` a server that went back in time is believed: its snapshot comes, and what
        follows that. `progress` adds what agents say while they work; `on_connection` hears
        when the connection is lost and found. Raises Problem (`workflow-not-found` …) where waiting does not help.
        """
        stream = Stream(self._calls, trace_id, after=after, progress=progress, on_connection=on_connection)
        async with aclosing(stream.updates()) as updates:
            async for update in updates:
                yield update

    async def ticket(self, *, trace_id: str | None = None, inbox: bool = False) -> SseTicket:
        """A ticket for one stream, for somebody who can send no headers: a browser opens `url` with it, once, within
        `expires_in_s`. `watch` and `watch_inbox` order their own where the server asks for them. Raises Problem."""
        order: dict[str, Any] = {"inbox": True} if inbox else {"trace_id": trace_id}
        return SseTicket.model_validate(await self._calls.post("/sse-tickets", order))

    async def wait(
        self, trace_id: str, *, until: Literal["ended", "paused"] = "ended", timeout_s: float | None = None
    ) -> WorkflowView:
        """Waits until the workflow has ended (`paused`: or needs a person, whichever is first) and answers its view.
        Raises TimeoutError after `timeout_s` seconds; None waits for ever."""
        async with asyncio.timeout(timeout_s), aclosing(self.watch(trace_id)) as updates:
            async for _, view in updates:
                if view.ended or (until == "paused" and view.pauses):
                    return view
        raise AssertionError("Expected a watch to end with the workflow, but it ended before.")

    async def preview(self, trace_id: str, pause_id: str, action_id: str) -> Preview:
        """What a button would do, only what changes. Changes nothing."""
        route = path("workflows", trace_id, "pauses", pause_id, "preview", action_id)
        return one(Preview, await self._calls.get(route))

    async def preview_pause(self, trace_id: str) -> Preview:
        """What `pause` would do, only what changes. Changes nothing."""
        return one(Preview, await self._calls.get(path("workflows", trace_id, "pause", "preview")))

    async def preview_cancel(self, trace_id: str, *, compensate: bool = True) -> Preview:
        """What `cancel` would do, only what changes. Changes nothing."""
        asked = {"compensate": "true" if compensate else "false"}
        return one(Preview, await self._calls.get(path("workflows", trace_id, "cancel", "preview"), asked))

    async def node(self, trace_id: str, node_id: str) -> NodeInputs:
        """What a node works with: its inputs, references resolved."""
        return one(NodeInputs, await self._calls.get(path("workflows", trace_id, "nodes", node_id)))

    async def resume(
        self,
        trace_id: str,
        action_id: str,
        *,
        pause_id: str | None = None,
        input: Any = UNSET,
        comment: str | None = None,
        evidence_digest: str | None = None,
        override_claim: bool = False,
        idempotency_key: str | None = None,
    ) -> Resuming:
        """Presses a button of an open pause; when this returns the decision is durable and will be applied exactly once.

        `pause_id` None means the only open one. `evidence_digest` (of the pause that was looked at) refuses a decision
        on changed evidence. Raises Problem: `already-resolved` (`body` tells by whom), `expired`, `invalid-input` …
        """
        body: dict[str, Any] = {
            "action_id": action_id,
            "pause_id": pause_id,
            "comment": comment,
            "evidence_digest": evidence_digest,
            "override_claim": override_claim or None,
        }
        given = {k: v for k, v in body.items() if v is not None}
        if input is not UNSET:
            given["input"] = input
        return one(Resuming, await self._calls.post(path("workflows", trace_id, "resume"), given, idempotency_key))

    async def pause(self, trace_id: str, *, comment: str | None = None, idempotency_key: str | None = None) -> Ordered:
        """The panic button: nothing new is dispatched until a person presses RES_RESUME or aborts."""
        body = {} if comment is None else {"comment": comment}
        return one(Ordered, await self._calls.post(path("workflows", trace_id, "pause"), body, idempotency_key))

    async def cancel(
        self,
        trace_id: str,
        *,
        compensate: bool = True,
        comment: str | None = None,
        idempotency_key: str | None = None,
    ) -> Ordered:
        """Cancels; what was done is undone unless `compensate` is False."""
        body: dict[str, Any] = {"compensate": compensate}
        if comment is not None:
            body["comment"] = comment
        return one(Ordered, await self._calls.post(path("workflows", trace_id, "cancel"), body, idempotency_key))

    async def explain(self, trace_id: str) -> dict[str, Any]:
        """Why it is not moving: `{trace_id, status, sentence, facts}`."""
        return await self._calls.get(path("workflows", trace_id, "explain"))

    async def ledger(self, trace_id: str) -> list[dict[str, Any]]:
        """What the simulators really did for it, oldest first; empty where none run."""
        try:
            return await self._calls.get("/simulators/ledger", {"trace_id": trace_id})
        except Problem as e:
            if e.status == 404:
                return []
            raise

    async def blueprints(self) -> Page[BlueprintView]:
        """What can run."""
        return page(BlueprintView, await self._calls.get("/blueprints"))

    async def agents(self) -> Page[AgentView]:
        """Who can work, and who is alive."""
        return page(AgentView, await self._calls.get("/agents"))

    async def health(self) -> dict[str, Any]:
        """What `/healthz` says: that it is there, and whether it is a desk's (`dev`)."""
        return await self._calls.get("/healthz")

    async def ready(self) -> dict[str, Any]:
        """What `/readyz` says, also when it is not ready."""
        return await self._calls.get("/readyz", allow=(503,))
