"""Once per key: the first 2xx answer to a key is kept in the transaction of the work, and repeated.

Within this process a second request waits for its turn without a database connection; across processes the row of the
key itself is the lock. Either way for at most 2 s. Errors are not kept, so a failed request may be tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from handrail_gateway.application.faults import Busy, Refusal
from handrail_gateway.application.ports import Answer, Caller, Intake, Transaction

WAIT_S = 2.0
REPLAYED = {"Idempotent-Replayed": "true"}

Work = Callable[[Transaction], Awaitable[Answer]]
_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Turn:
    over: asyncio.Event
    waited_in_vain: bool = False


class Turns:
    """One request at a time per key, within this process."""

    def __init__(self) -> None:
        self._held: dict[_Key, _Turn] = {}

    def turn(self, caller: Caller) -> AbstractAsyncContextManager[None]:
        """Waits for the caller's turn; without a key it is always its turn. Raises Refusal request-in-progress."""
        if caller.key is None:
            return contextlib.nullcontext()
        return self._turn((caller.tenant, caller.method, caller.path, caller.key))

    @contextlib.asynccontextmanager
    async def _turn(self, key: _Key) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(WAIT_S):
                while (turn := self._held.get(key)) is not None:
                    await turn.over.wait()
                    if turn.waited_in_vain:
                        raise in_progress()
        except TimeoutError:
            raise in_progress() from None
        mine = self._held[key] = _Turn(asyncio.Event())
        try:
            yield
        except Refusal as refusal:
            # Another process holds the key: whoever has waited behind us has waited long enough.
            mine.waited_in_vain = refusal.code == "request-in-progress"
            raise
        finally:
            del self._held[key]
            mine.over.set()


class Once:
    """Runs work once per idempotency key."""

    def __init__(self, intake: Intake, turns: Turns) -> None:
        self._intake, self._turns = intake, turns

    async def run(self, caller: Caller, work: Work) -> Answer:
        """The answer of `work`, or of the first request with the same key. Raises Refusal idempotency-key-reused,
        request-in-progress, and whatever `work` raises (then nothing is stored)."""
        async with self._turns.turn(caller), self._intake.transaction() as transaction:
            if caller.key is None:
                return await work(transaction)
            try:
                kept = await transaction.recall(caller)
            except Busy:
                raise in_progress() from None
            if kept is not None:
                return replayed(caller, *kept)
            answer = await work(transaction)
            await transaction.keep(caller, answer)
            return answer


def replayed(caller: Caller, digest: str, answer: Answer) -> Answer:
    """The kept answer, marked as repeated. Raises Refusal where the body was another one."""
    if digest != caller.digest:
        raise Refusal(
            "idempotency-key-reused",
            "Expected the body of the first request with this idempotency key, but it is another. Use a new key.",
        )
    return Answer(answer.status, answer.body, {**answer.headers, **REPLAYED})


def in_progress() -> Refusal:
    """What a second request is told that has waited long enough."""
    return Refusal(
        "request-in-progress",
        f"Expected the first request with this idempotency key to end within {WAIT_S:g} s, but it is still under way."
        " Try again.",
        retry_after=1,
    )
