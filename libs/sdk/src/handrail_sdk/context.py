"""What a task knows about its attempt, and what it may ask for while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from handrail_contracts.codec import as_read
from handrail_contracts.policy import action_digest
from handrail_contracts.tasks import Escalation, ProposedAction
from handrail_sdk.failures import (
    SECOND_PROPOSAL,
    DefinitionError,
    Escalated,
    Fail,
    Proposed,
    as_number,
    as_text,
    first_fault,
    jsonable,
)
from handrail_sdk.steps import valid_node


def _unheard(percent: float | None, message: str | None) -> None:
    """Progress where nobody listens."""


def _beatless() -> None:
    """Falling silent where there is no heartbeat."""


MESSAGE_CHARS = 2_000


@dataclass(slots=True)
class Context:
    """One attempt, as the task sees it. Made by the runtime, or by `handrail_sdk.testing`.

    `effect_key` stays the same over retries: give it to the provider as idempotency key. While undoing it is the key of
    the undo, and `do_key` the one of what is undone. `attempt` counts from 1. `conversation` is what was said while a
    person had control ({role, text, …}, None unless handed back); `approved` the arguments of a proposal that may
    be done, `approval` by what ({action, proposed, digest, pause_id}); `propose` reads both.
    `cancelled` is set when the workflow no longer wants the answer. `escalation` is set once the attempt has handed over, `over`
    once it has ended by that or by a proposal, `let` once it has been given approved arguments;
    `usage` is what it has spent on models so far (`spend`), `added` the steps that it adds (`add_node`). `on_progress` and `on_silence` are the runtime's.
    """

    tenant: str
    trace_id: str
    node_id: str
    agent: str
    action: str
    attempt: int
    max_attempts: int
    effect_key: str
    do_key: str | None = None
    conversation: list[dict[str, Any]] | None = None
    approved: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    log: Any = field(default_factory=lambda: logging.getLogger("handrail.agent"))
    escalation: Escalation | None = None
    over: Escalated | Proposed | Fail | None = None
    let: bool = False
    usage: dict[str, Any] = field(default_factory=dict[str, Any])
    added: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    on_progress: Callable[[float | None, str | None], None] = _unheard
    on_silence: Callable[[], None] = _beatless

    def progress(self, percent: float | None = None, message: str | None = None) -> None:
        """Shows how far the attempt is: `percent` 0 to 100, or a line of text (its first 2,000 characters), or both. Never
        journaled; cheap; never raises."""
        self.on_progress(as_number(percent), None if message is None else as_text(message)[:MESSAGE_CHARS])

    def fall_silent(self) -> None:
        """Stops the heartbeats of this attempt and its own time limit: it will come too late. For tests of everybody else.
        Idempotent."""
        self.on_silence()

    async def escalate_to_human(
        self,
        reason: str,
        summary: str = "",
        transcript: Iterable[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        handover_message: str | None = None,
    ) -> NoReturn:
        """Hands control to a person and ends the attempt. Raises Escalated: let it pass. Whatever becomes of that exception (an
        agent framework may turn it into a word to its model), the attempt ends as escalated and its answer goes nowhere.

        `reason` is what the operator reads first; `transcript` is a list of {role, text, at}; `metadata` is shown as the
        pause's context; `handover_message` is what the end user is told. The first call counts. What has another shape is put
        into this one: nobody is left without a person for how it was asked.
        """
        if self.escalation is None:
            lines = [transcript] if isinstance(transcript, str) else transcript or ()
            self.escalation = Escalation(
                reason=as_text(reason).strip() or as_text(summary).strip() or "The agent asks for a person.",
                summary=as_text(summary),
                transcript=[_line(line) for line in lines],
                metadata=_members(metadata),
                handover_message=None if handover_message is None else as_text(handover_message),
            )
        raise self._ends(Escalated(self.escalation))

    def spend(
        self, *, input_tokens: int = 0, output_tokens: int = 0, cost_usd: float = 0.0, model: str | None = None
    ) -> None:
        """Counts a model's answer into the attempt's usage, which its event and the state show. Adds up; call it once per
        answer, also when the attempt fails afterwards. What is no number, or below zero, counts as nothing; never raises."""
        u = self.usage
        u["calls"] = u.get("calls", 0) + 1
        u["input_tokens"] = u.get("input_tokens", 0) + int(_spent(input_tokens))
        u["output_tokens"] = u.get("output_tokens", 0) + int(_spent(output_tokens))
        u["cost_usd"] = round(u.get("cost_usd", 0.0) + _spent(cost_usd), 9)
        if model is not None:
            u["model"] = as_text(model)[:200]

    def add_node(
        self,
        id: str,
        task: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        after: Iterable[str] = (),
        **fields: Any,
    ) -> None:
        """Adds a step to the running workflow. It counts once this attempt succeeds, and only where the plan allows this step
        so many (`may_add_nodes`); else the attempt fails with `too-many-nodes`, as it does for steps that no plan may have.

        `task` is `agent.action`; `inputs` are values and references (`{"$from": "nodes.<id>.output.<path>"}`); `after` are
        steps that it comes after, also such as were added before; none means: after this one. `fields` are the other fields
        of a node in a plan. Raises DefinitionError where this is no node.
        """
        agent, _, action = task.partition(".")
        given = {"id": id, "agent": agent, "action": action, "depends_on": list(after), "inputs": dict(inputs or {})}
        made = valid_node({**{k: v for k, v in given.items() if v}, **fields}, repr(id[:80]))
        self.added.append(made.model_dump(mode="json", by_alias=True, exclude_unset=True))

    async def propose(
        self,
        action: str,
        args: Mapping[str, Any],
        *,
        summary: str = "",
        diff: Mapping[str, Any] | None = None,
        reversible: bool | None = None,
        confidence: float | None = None,
        affected: int | None = None,
        domain: str | None = None,
        requires_confirmation: bool | None = None,
    ) -> dict[str, Any]:
        """Proposes an action instead of acting. Once it is approved the task runs again, and the same call gives the arguments
        to act with: those that were proposed, or as a person has edited them. Act with these and no others. A task proposes one
        action; a second one after the first was let pass fails as `second-proposal`: give it a step of its own.

        `args` in full; `diff` is {before, after}; `confidence` 0 to 1; `affected` how many things it touches;
        `requires_confirmation` is the model's own wish to ask. Raises Proposed until exactly this is approved: let it pass. Whatever
        becomes of that exception (an agent framework may turn it into a word to its model), the attempt ends as proposed and its
        answer goes nowhere; the first proposal that was not approved counts.
        """
        # As it will be read, which is what is approved: of other arguments the digest would never be that of these.
        given: dict[str, Any] = from_json(as_read(to_json(jsonable(dict(args)), inf_nan_mode="null")))
        wanted = (self.approval or {}).get("proposed")
        if self.approved is not None and wanted in (None, action_digest(action, given)):
            self.let = True
            return dict(self.approved)
        if self.let:
            wanted_one = f"Expected one proposal of {self.agent}.{self.action}, but after the one that was approved it proposes {action}."
            why = f"{wanted_one} Make that a step of its own: a node of the plan, or ctx.add_node."
            raise self._ends(Fail(SECOND_PROPOSAL, why, retryable=False))
        try:
            made = ProposedAction(
                action=action,
                args=given,
                summary=as_text(summary),
                diff=jsonable(dict(diff)) if diff is not None else None,
                reversible=reversible,
                confidence=confidence,
                affected=affected,
                domain=domain,
                requires_confirmation=requires_confirmation,
            )
        except (ValidationError, TypeError, ValueError) as e:
            told = first_fault(e) if isinstance(e, ValidationError) else f"diff: {e}"
            raise DefinitionError(
                f"Expected a proposal of {action[:80]!r} as propose describes it, but at {told}"
            ) from e
        raise self._ends(Proposed(made))

    def _ends(self, how: Escalated | Proposed | Fail) -> Escalated | Proposed | Fail:
        """Remembers how the attempt has ended: the first word counts."""
        if self.over is None:
            self.over = how
        return how


def _spent(value: Any) -> float:
    return max(0.0, as_number(value) or 0.0)


def _line(line: Any) -> dict[str, Any]:
    """A line of a transcript; a bare text is one of nobody in particular."""
    return jsonable(dict(line)) if isinstance(line, Mapping) else {"text": as_text(line)}


def _members(metadata: Any) -> dict[str, Any]:
    if metadata is None:
        return {}
    return jsonable(dict(metadata)) if isinstance(metadata, Mapping) else {"metadata": jsonable(metadata)}
