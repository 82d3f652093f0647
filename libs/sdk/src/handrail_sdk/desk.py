"""What an operator does from Python: the inbox, claims, conversations, dead letters, quarantine, the decision dataset."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal

from pydantic_core import from_json

from handrail_contracts.answers import (
    Claimed,
    DeadLetterView,
    Feedback,
    InboxPause,
    Ordered,
    PolicyView,
    QuarantineView,
    Simulated,
    Suggestion,
)
from handrail_sdk.calls import Calls, Query, path
from handrail_sdk.connection import Connection
from handrail_sdk.inbox_stream import InboxStream, InboxUpdate
from handrail_sdk.pages import UNSET, Page, one, page


class Desk:
    """The operator's half of `Client`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def inbox(
        self,
        state: Literal["open", "mine", "resolved"] = "open",
        *,
        kind: str | None = None,
        agent: str | None = None,
        error_code: str | None = None,
        blueprint: str | None = None,
        trace_id: str | None = None,
        q: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[InboxPause]:
        """Pauses over all workflows, newest first."""
        query = {
            "state": state,
            "kind": kind,
            "agent": agent,
            "error_code": error_code,
            "blueprint": blueprint,
            "trace_id": trace_id,
            "q": q,
            "limit": limit,
            "cursor": cursor,
        }
        return page(InboxPause, await self._calls.get("/inbox", query))

    async def watch_inbox(
        self, *, on_connection: Callable[[Connection], None] | None = None
    ) -> AsyncGenerator[InboxUpdate]:
        """Every state of the inbox, as `(event, pauses, truncated)`, until you leave; reconnects by itself, for ever."""
        async with aclosing(InboxStream(self._calls, on_connection).follow()) as updates:
            async for update in updates:
                yield update

    async def get_pause(self, pause_id: str) -> InboxPause:
        """One pause, open or closed, with its decision."""
        return one(InboxPause, await self._calls.get(path("pauses", pause_id)))

    async def claim(self, pause_id: str, *, seconds: int = 300, idempotency_key: str | None = None) -> Claimed:
        """Takes a pause for so many seconds: nobody else can decide it unless they override. Raises Problem `claimed`."""
        route = path("pauses", pause_id, "claim")
        return one(Claimed, await self._calls.post(route, {"seconds": seconds}, idempotency_key))

    async def release(self, pause_id: str, *, idempotency_key: str | None = None) -> Claimed:
        """Gives a claim back. Idempotent."""
        return one(Claimed, await self._calls.post(path("pauses", pause_id, "release"), {}, idempotency_key))

    async def say(
        self,
        pause_id: str,
        text: str,
        *,
        role: Literal["operator", "user", "agent"] = "operator",
        idempotency_key: str | None = None,
    ) -> Ordered:
        """Adds to the conversation of an escalation. An agent is refused (`human-has-control`) until handed back to."""
        body = {"role": role, "text": text}
        return one(Ordered, await self._calls.post(path("pauses", pause_id, "messages"), body, idempotency_key))

    async def escalate(
        self,
        reason: str,
        *,
        summary: str = "",
        transcript: list[dict[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        handover_message: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Opens an escalation from outside of any workflow: `{trace_id, pause_id}`; the inbox shows it a moment later."""
        body: dict[str, Any] = {
            "reason": reason,
            "summary": summary,
            "transcript": transcript or [],
            "metadata": dict(metadata or {}),
            "handover_message": handover_message,
            "callback_url": callback_url,
        }
        given = {k: v for k, v in body.items() if v is not None}
        return await self._calls.post("/escalations", given, idempotency_key)

    async def dead_letters(
        self,
        *,
        state: str | None = None,
        agent: str | None = None,
        trace_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[DeadLetterView]:
        """Tasks that needed, or need, a person; newest first. `state`: open, replayed, discarded or closed."""
        query = {"state": state, "agent": agent, "trace_id": trace_id, "limit": limit, "cursor": cursor}
        return page(DeadLetterView, await self._calls.get("/dead-letters", query))

    async def get_dead_letter(self, dead_letter_id: str) -> DeadLetterView:
        """One dead letter."""
        return one(DeadLetterView, await self._calls.get(path("dead-letters", dead_letter_id)))

    async def replay_dead_letter(
        self, dead_letter_id: str, *, input: Any = UNSET, reason: str | None = None, idempotency_key: str | None = None
    ) -> Ordered:
        """Presses the retry of its pause. Raises Problem `already-resolved` when somebody was first."""
        body: dict[str, Any] = {} if reason is None else {"reason": reason}
        if input is not UNSET:
            body["input"] = input
        route = path("dead-letters", dead_letter_id, "replay")
        return one(Ordered, await self._calls.post(route, body, idempotency_key))

    async def discard_dead_letter(
        self, dead_letter_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> Ordered:
        """Presses the skip of its pause. Raises Problem `already-resolved` when somebody was first."""
        body = {} if reason is None else {"reason": reason}
        route = path("dead-letters", dead_letter_id, "discard")
        return one(Ordered, await self._calls.post(route, body, idempotency_key))

    async def quarantine(
        self,
        *,
        state: str | None = None,
        topic: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[QuarantineView]:
        """Records that could not be read, or that parked their workflow; newest first. `state`: open, replayed or
        discarded."""
        query = {"state": state, "topic": topic, "limit": limit, "cursor": cursor}
        return page(QuarantineView, await self._calls.get("/quarantine", query))

    async def get_quarantined(self, id: int) -> QuarantineView:
        """One record that was set aside."""
        return one(QuarantineView, await self._calls.get(path("quarantine", str(id))))

    async def replay_quarantined(self, id: int, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Feeds a record in again."""
        return await self._calls.post(path("quarantine", str(id), "replay"), {}, idempotency_key)

    async def discard_quarantined(
        self,
        id: int,
        *,
        reason: str | None = None,
        give_up: bool = False,
        compensate: bool = True,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Lets a record go, with a reason. The workflow that it has parked goes on without it; with `give_up` it ends, undone
        unless `compensate` is False or the rules cannot follow."""
        body: dict[str, Any] = {} if reason is None else {"reason": reason}
        if give_up:
            body |= {"give_up": True, "compensate": compensate}
        return await self._calls.post(path("quarantine", str(id), "discard"), body, idempotency_key)

    async def policies(self) -> Page[PolicyView]:
        """The policies in force, by name."""
        return page(PolicyView, await self._calls.get("/policies"))

    async def policy(self, name: str) -> Page[PolicyView]:
        """Every version of a policy, newest first."""
        return page(PolicyView, await self._calls.get(path("policies", name)))

    async def apply_policy(
        self, policy: Mapping[str, Any], *, comment: str | None = None, idempotency_key: str | None = None
    ) -> PolicyView:
        """Puts the next version of a policy in force; its number may be left out. Raises Problem `policy-version`."""
        body: dict[str, Any] = {"policy": dict(policy)}
        if comment is not None:
            body["comment"] = comment
        return one(PolicyView, await self._calls.post("/policies", body, idempotency_key))

    async def simulate_policy(self, policy: Mapping[str, Any], *, since: str | None = None) -> Simulated:
        """What this policy would have asked of people, over past decisions. Changes nothing."""
        body: dict[str, Any] = {"policy": dict(policy)}
        if since is not None:
            body["since"] = since
        return one(Simulated, await self._calls.post("/policies/simulate", body))

    async def policy_suggestions(
        self, *, least: int = 20, days: int = 30, since: str | None = None
    ) -> Page[Suggestion]:
        """Exemptions that at least so many unanimous approvals speak for, each for so many days."""
        query = {"min": least, "days": days, "since": since}
        return page(Suggestion, await self._calls.get("/policies/suggestions", query))

    async def feedback(
        self,
        *,
        since: str | None = None,
        blueprint: str | None = None,
        kind: str | None = None,
        outcome: str | None = None,
    ) -> AsyncGenerator[Feedback]:
        """The decision dataset, oldest first. `since`: RFC 3339; `kind` and `outcome`: one or more, separated by commas. Not
        repeated when it breaks midway: raises Unreachable."""
        async for line in self._feedback({"since": since, "blueprint": blueprint, "kind": kind, "outcome": outcome}):
            yield one(Feedback, line)

    async def training(
        self,
        format: Literal["sft", "preference", "eval"],
        *,
        since: str | None = None,
        blueprint: str | None = None,
        kind: str | None = None,
        outcome: str | None = None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """What people decided as examples to learn from; what nobody decided is none."""
        query = {"since": since, "blueprint": blueprint, "kind": kind, "outcome": outcome, "format": format}
        async for line in self._feedback(query):
            yield line

    async def _feedback(self, query: Query) -> AsyncGenerator[Any]:
        async with self._calls.lines("/feedback.jsonl", query) as response:
            async for line in response.aiter_lines():
                if line:
                    yield from_json(line)
