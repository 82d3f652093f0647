"""Records that could not be read, or that parked their workflow: put back onto their topic, or let go."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts import codec, ids
from handrail_contracts.commands import ReasonRequest
from handrail_contracts.topics import TOPICS, KeyRule
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.idempotency import Once
from handrail_gateway.application.ports import Answer, Caller, Intake, Requeue, Transaction

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
            headers = orjson.loads(record["headers"])
            place = _place(record, headers, self._partitions)
            await self._requeue.put(record["topic"], place, record["key"], record["value"], headers)
            await transaction.close_quarantined(record_id, "replayed", request.reason)
            return _answer(record_id, "replayed")

        return await self._once.run(caller, work)

    async def discard(self, caller: Caller, record_id: int, request: ReasonRequest) -> Answer:
        """`202`: nobody will look at it again; it stays to be read."""

        async def work(transaction: Transaction) -> Answer:
            await _open(transaction, caller.tenant, record_id)
            await transaction.close_quarantined(record_id, "discarded", request.reason)
            return _answer(record_id, "discarded")

        return await self._once.run(caller, work)


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


async def _open(transaction: Transaction, tenant: str, record_id: int) -> Any:
    record = await transaction.quarantined(tenant, record_id)
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
