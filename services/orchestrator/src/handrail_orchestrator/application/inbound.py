"""Messages and command rows become engine inputs. What cannot be read is set aside, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from handrail_contracts.codec import Undecodable, decode
from handrail_contracts.commands import CommandKind, Nudge
from handrail_contracts.ids import partition
from handrail_contracts.tasks import DeadLetter, Escalation, Result
from handrail_engine.inputs import Cancel, Claim, GiveUp, Input, Outside, PanicPause, Say, Start
from handrail_engine.payloads import INLINE_BYTES, reference, with_fields
from handrail_orchestrator.application.ports import Command
from handrail_orchestrator.application.work import Item, Work
from handrail_runtime.ports import Record


class Inbound:
    """Sorts what arrives into a Work. `partitions` is P; `tenant` whom this orchestrator serves."""

    def __init__(self, tenant: str, partitions: int) -> None:
        self._tenant = tenant
        self._partitions = partitions

    def records(self, records: Iterable[Record], work: Work) -> bool:
        """Adds what the bus brought; True when there was a nudge among it."""
        nudged = False
        for r in records:
            ce_id: str | None = None
            try:
                envelope, message = decode(r.topic, r.headers, r.value)
                ce_id = envelope.id or None
                nudged |= self._one(r, ce_id, message, work)
            except Undecodable as e:
                work.unread.append((r, e.reason))
            work.offsets[r.partition, r.topic] = (r.offset + 1, ce_id)
        return nudged

    def _one(self, r: Record, ce_id: str | None, message: Any, work: Work) -> bool:
        if isinstance(message, Nudge):
            return True
        if not isinstance(message, (Result, DeadLetter)):
            raise Undecodable(f"Expected a message of {r.topic}, but it is another.")
        if message.tenant != self._tenant:
            raise Undecodable(f"Expected tenant {self._tenant!r}, but found {message.tenant[:40]!r}.")
        p = partition(self._tenant, message.trace_id, self._partitions)
        if p != r.partition:
            raise Undecodable(f"Expected partition {p} for its workflow, but it lies in {r.partition}.")
        if r.value is not None and len(r.value) > INLINE_BYTES:
            message = self._offload(message, work)
        work.add(message.trace_id, p, Item(message, ce_id, r))
        return False

    def _offload(self, message: Result | DeadLetter, work: Work) -> Result | DeadLetter:
        changed: dict[str, Any] = {}
        if isinstance(message, Result) and (ref := self._stored(message.trace_id, message.output, work)) is not None:
            changed["output"] = with_fields(ref, message.output)
        if (
            message.error is not None
            and (ref := self._stored(message.trace_id, message.error.evidence, work)) is not None
        ):
            changed["error"] = message.error.model_copy(update={"evidence": ref})
        if isinstance(message, Result) and message.escalation is not None:
            changed["escalation"] = self._told(message.trace_id, message.escalation, work)
        return message.model_copy(update=changed) if changed else message

    def _told(self, trace_id: str, e: Escalation, work: Work) -> Escalation:
        """A long transcript is kept whole beside the event, which shows its newest lines (`talk.newest`) and where the rest
        is; metadata that is too large becomes a reference."""
        changed: dict[str, Any] = {}
        whole = self._stored(trace_id, e.transcript, work)
        if whole is not None:
            text = f"All {len(e.transcript)} lines stand at {whole['$ref']}"
            at = e.transcript[-1].get("at")
            changed["transcript"] = [*e.transcript, {"role": "system", "text": text, "at": at, "$ref": whole["$ref"]}]
        if (ref := self._stored(trace_id, e.metadata, work)) is not None:
            changed["metadata"] = ref
        return e.model_copy(update=changed) if changed else e

    def _stored(self, trace_id: str, value: Any, work: Work) -> dict[str, Any] | None:
        if value is None:
            return None
        body = orjson.dumps(value)
        if len(body) <= INLINE_BYTES:
            return None
        mark, ref = reference(trace_id, body)
        work.blobs.append((trace_id, mark, body))
        return ref

    def commands(self, commands: Iterable[Command], work: Work) -> None:
        """Adds command rows; one that nobody understands is applied as nothing, so that it cannot stop the others."""
        for c in commands:
            what = command_input(c)
            if isinstance(what, Start) and what.outside is not None:
                told = self._told(c.trace_id, what.outside.escalation, work)
                what = replace(what, outside=replace(what.outside, escalation=told))
            work.add(c.trace_id, c.p, Item(what, c.command_id, None, c.n, c.body.get("pause_id")))
            if c.unborn:
                work.unborn.add(c.trace_id)


def command_input(c: Command) -> Input | None:
    """The engine input of a command row; None for a decision, whose content is read under the pause's lock, and for one that
    only has the workflow looked at (what is due then comes by time)."""
    b = c.body
    match c.kind:
        case CommandKind.START:
            return Start(
                b.get("intent"),
                b.get("blueprint"),
                b.get("input") or {},
                b.get("labels") or {},
                b["plan"]["nodes"] if b.get("plan") else None,
                b.get("output") or (b["plan"].get("output") if b.get("plan") else None),
                b.get("deadline_s"),
                outside=_outside(b.get("outside")),
                actor=c.actor,
                policies=b.get("policies") or 0,
                budget=(b.get("plan") or {}).get("budget"),
            )
        case CommandKind.PAUSE:
            return PanicPause(b.get("comment"), c.actor)
        case CommandKind.CANCEL:
            return Cancel(b.get("compensate", True), b.get("comment"), c.actor, c.channel)
        case CommandKind.GIVE_UP:
            return GiveUp(b.get("compensate", True), b.get("comment"), c.actor, c.channel)
        case CommandKind.CLAIM:
            return Claim(b["pause_id"], b.get("claimed_by"), b.get("claimed_until"))
        case CommandKind.MESSAGE:
            return Say(b["pause_id"], b["role"], b["text"], c.actor)
        case _:
            return None


def _outside(said: dict[str, Any] | None) -> Outside | None:
    if said is None:
        return None
    return Outside(Escalation.model_validate(said["escalation"]), said["pause_id"], said.get("callback_url"))
