"""Records that could not be read, or that parked their workflow: put back onto their topic, or let go."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts import codec, ids
from handrail_contracts.commands import CommandKind, DiscardRequest, ReasonRequest
from handrail_contracts.topics import COMMANDS, TOPICS, KeyRule
from handrail_gateway.application.bus import Requeue
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.idempotency import Once
from handrail_gateway.application.ports import Answer, Caller, Intake, Summary, Transaction
from handrail_gateway.application.resume import order

_BY_WORKFLOW = frozenset(topic.name for topic in TOPICS if topic.key is KeyRule.WORKFLOW)


def not_found(record_id: str) -> Refusal:
    """As for workflows."""
    return Refusal(
        "quarantine-not-found", f"Expected a quarantined record, but there is none with id {quote(record_id)}."
    )


class Quarantine:
    """Decides over quarantined records. `partitions` is P."""

    def __init__(self, once: Once, intake: Intake, requeue: Requeue, partitions: int) -> None:
        self._once, self._intake, self._requeue, self._partitions = once, intake, requeue, partitions

    async def replay(self, caller: Caller, record_id: int, request: ReasonRequest) -> Answer:
        """`202`: the record, byte for byte, is on its topic again, in the partition of the workflow that it names. Should
        we die right after, it may go there twice; its readers know a record by its id. A parked workflow goes on from
        here."""
        async with self._intake.transaction() as transaction:
            # Committed before the record is back: its owner must not meet it while the workflow still counts as parked.
            await transaction.unpark(caller.tenant, record_id)

        async def work(transaction: Transaction) -> Answer:
            record = await _open(transaction, caller.tenant, record_id)
            if _says_look_again(record):
                await transaction.add(order(caller, record["trace_id"], CommandKind.LOOK, {}))
                await transaction.close_quarantined(caller, record_id, "replayed", request.reason)
                return _answer(record_id, "replayed")
            headers = orjson.loads(record["headers"])
            place = _place(record, headers, self._partitions)
            await self._requeue.put(record["topic"], place, record["key"], record["value"], headers)
            await transaction.close_quarantined(caller, record_id, "replayed", request.reason)
            return _answer(record_id, "replayed")

        return await self._once.run(caller, work)

    async def discard(self, caller: Caller, record_id: int, request: DiscardRequest) -> Answer:
        """`202`: nobody will look at it again; it stays to be read. The workflow that it has parked goes on without it, or is
        given up. What was lost with an agent's answer is found out as if it had never come: by the attempt's lease."""

        async def work(transaction: Transaction) -> Answer:
            record = await _open(transaction, caller.tenant, record_id, workflow_too=True)
            parked = await _parked_by(transaction, caller.tenant, record)
            if request.give_up:
                if parked is None:
                    raise Refusal(
                        "action-not-allowed",
                        "Expected a record that keeps its workflow parked, but this one does not. Discard it without give_up,"
                        " or cancel the workflow.",
                    )
                await give_up(transaction, caller, parked.trace_id, request.compensate, request.reason)
            elif parked is not None:
                if _says_look_again(record):
                    raise Refusal(
                        "action-not-allowed",
                        "Expected a record that its workflow can go on without, but this one holds nothing: it only says that"
                        " the workflow stands still. Replay it, or give the workflow up (give_up).",
                    )
                await transaction.unpark(caller.tenant, record_id)
                await transaction.add(order(caller, parked.trace_id, CommandKind.LOOK, {}))
            await transaction.close_quarantined(caller, record_id, "discarded", request.reason)
            return _answer(record_id, "discarded")

        return await self._once.run(caller, work)


async def give_up(transaction: Transaction, caller: Caller, trace_id: str, compensate: bool, why: str | None) -> None:
    """Orders the end of a workflow that is parked."""
    await transaction.add(order(caller, trace_id, CommandKind.GIVE_UP, {"compensate": compensate, "comment": why}))


async def _parked_by(transaction: Transaction, tenant: str, record: Any) -> Summary | None:
    """The workflow that stands still, if this is one of the records that it waits behind."""
    if record["kind"] != "parked":
        return None
    summary = await transaction.summary(tenant, record["trace_id"])
    return summary if summary is not None and summary.parked is not None and not summary.ended else None


def _says_look_again(record: Any) -> bool:
    """True for what stands in place of a record where none has parked the workflow; it never lay on the bus."""
    return record["kind"] == "parked" and record["topic"] == COMMANDS and record["offset"] < 0


def _place(record: Any, headers: list[tuple[str, str]], partitions: int) -> int:
    """Where its owner looks for it: anybody may have put it elsewhere, and there it would only be set aside again. A
    record that names no workflow goes back to where it lay."""
    if record["topic"] in _BY_WORKFLOW:
        try:
            _, message = codec.decode(record["topic"], [(k, v.encode()) for k, v in headers], record["value"])
        except codec.Undecodable:
            return record["partition"]
        about = message if isinstance(message, dict) else message.model_dump(include={"tenant", "trace_id"})
        tenant, trace_id = about.get("tenant"), about.get("trace_id")
        if isinstance(tenant, str) and isinstance(trace_id, str):
            return ids.partition(tenant, trace_id, partitions)
    return record["partition"]


async def _open(transaction: Transaction, tenant: str, record_id: int, *, workflow_too: bool = False) -> Any:
    record = await transaction.quarantined(tenant, record_id, workflow_too=workflow_too)
    if record is None:
        raise not_found(str(record_id))
    if record["state"] != "open":
        raise Refusal(
            "already-resolved",
            f"Expected an open record, but it is {record['state']}.",
            state=record["state"],
        )
    return record


def _answer(record_id: int, state: str) -> Answer:
    return Answer(202, orjson.dumps({"id": record_id, "status": state.upper()}))
