"""A conversation of an agent that lives outside of Handrail: ask for a person, be silent, go on with what was said.

    handover = Handover(client, message="A colleague takes over.")
    await handover.escalate("The customer disputes a charge.", transcript=[...])
    await handover.may_speak()                 # False while a person has it
    back = await handover.wait(timeout_s=600)  # what was said and decided, once it is over

Nothing is called before a person is needed: there is no proxy in the agent's way. The adapters in `handrail_sdk.adapters` make
this a tool of pydantic-ai, of the OpenAI Agents SDK and of LangGraph.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from handrail_contracts.plan import ResolutionKind
from handrail_contracts.tasks import Escalation
from handrail_sdk.client import Client
from handrail_sdk.client_errors import Problem
from handrail_sdk.failures import as_text, jsonable
from handrail_sdk.shortened import shortened

POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Back:
    """How it ended. `handed_back`: the agent has the word again; else a person has closed it. `response` is the person's last
    reply where they answered with one."""

    handed_back: bool
    action_id: str | None
    response: str | None
    conversation: list[dict[str, Any]]


class HandedOver(Exception):
    """A person has the conversation: the agent's run ends here. `message` is what its user is told, and nothing more."""

    def __init__(self, message: str, trace_id: str, pause_id: str) -> None:
        super().__init__(message)
        self.message, self.trace_id, self.pause_id = message, trace_id, pause_id


class Handover:
    """One conversation. `message` is the hand-over sentence, `metadata` what the operator should know of every escalation in it
    (user, order …). Not to be shared by conversations."""

    def __init__(
        self,
        client: Client,
        *,
        message: str = "A colleague takes over and sees everything that we wrote.",
        metadata: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
    ) -> None:
        self._client, self.message, self._callback_url = client, message, callback_url
        self._metadata = dict(metadata or {})
        self.trace_id: str | None = None
        self.pause_id: str | None = None

    async def escalate(
        self,
        reason: str,
        *,
        summary: str = "",
        transcript: Iterable[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> HandedOver:
        """Asks for a person and answers how to end the run (raise it, or say its `message`). The same `idempotency_key` again
        opens nothing new. Of a conversation that is too long the newest lines are sent. Raises ClientError."""
        asked = shortened(
            Escalation(
                reason=as_text(reason).strip() or as_text(summary),
                summary=as_text(summary),
                transcript=[jsonable(dict(line)) for line in transcript],
                metadata=jsonable({**self._metadata, **(metadata or {})}),
                handover_message=self.message,
            )
        )
        opened = await self._client.escalate(
            asked.reason,
            summary=asked.summary,
            transcript=asked.transcript,
            metadata=asked.metadata,
            handover_message=asked.handover_message,
            callback_url=self._callback_url,
            idempotency_key=idempotency_key,
        )
        self.trace_id, self.pause_id = opened["trace_id"], opened["pause_id"]
        return HandedOver(self.message, opened["trace_id"], opened["pause_id"])

    async def may_speak(self) -> bool:
        """False while a person has the conversation, and after they closed it. Raises ClientError."""
        if self.pause_id is None:
            return True
        found = await self._over()
        return found is not None and found.handed_back

    async def wait(self, timeout_s: float | None = None, poll_s: float = POLL_S) -> Back:
        """Waits until the person is done. Raises TimeoutError, ClientError."""
        async with asyncio.timeout(timeout_s):
            while (found := await self._over()) is None:  # noqa: ASYNC110  a person decides, elsewhere: it can only be asked for
                await asyncio.sleep(poll_s)
            return found

    async def say(self, text: str) -> None:
        """Adds what the agent says to the conversation. Raises Problem `human-has-control` while a person has it."""
        if self.pause_id is not None:
            await self._client.say(self.pause_id, text, role="agent")

    async def _over(self) -> Back | None:
        assert self.pause_id is not None
        try:
            pause = await self._client.get_pause(self.pause_id)
        except Problem as e:
            if e.status == 404:  # accepted, and not begun yet
                return None
            raise
        shown = pause.model_dump(mode="json")
        decision = shown.get("decision")
        if decision is None or not decision["applied"]:
            return None
        kinds = {b["action_id"]: b.get("kind") for b in shown["available_resolutions"]}
        kind = kinds.get(decision["action_id"])
        response = decision["input"] if kind == ResolutionKind.RESPOND else None
        return Back(kind == ResolutionKind.HAND_BACK, decision["action_id"], response, shown.get("conversation") or [])
