"""The effect ledger as attempts use it: who may start, what is already done, what must never start. DESIGN section 8.

A row of the ledger is one effect key:

    (none) ──claim──▶ INTENT ──done──▶ DONE            a later attempt takes INTENT or FAILED over by a higher number
                        │  ╰──failed─▶ FAILED          DONE keeps the answer; it is answered again, never run again
                        ╰──buried────▶ TOMBSTONE       nothing starts under this key any more

An attempt that ends in doubt leaves INTENT behind: nobody knows. `Row.ran` tells a tombstone over something that may
have happened from one over nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """What the ledger says of an effect key."""

    INTENT = "INTENT"
    DONE = "DONE"
    FAILED = "FAILED"
    TOMBSTONE = "TOMBSTONE"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the ledger. `worker` is who claimed it last, None where nothing ever ran; `result` the encoded answer of a
    DONE or FAILED one."""

    attempt: int
    state: State
    worker: str | None
    claimed_ms: int
    result: bytes | None

    @property
    def ran(self) -> bool:
        """Whether the effect may have happened."""
        return self.state in (State.INTENT, State.DONE) or (self.state is State.TOMBSTONE and self.worker is not None)


TAKEN = True
Claim = bool | Row | None
"""TAKEN: run it. A Row: somebody else's, as it stands. None: too late to start, and the ledger knows nothing."""


class LedgerClosed(Exception):
    """The ledger was closed before the write went through; the caller must say nothing of it."""


class Ledger(Protocol):
    """Writes of attempts that run at the same time share statements; each call returns when its write is durable.

    A database that is away is waited for. Raises LedgerClosed after `close`, and whatever the database says of a value
    that it refuses."""

    async def claim(self, key: str, attempt: int, start_before_ms: int) -> Claim:
        """Takes the effect key for this attempt, if it may start. TAKEN once for an attempt: whoever asks again gets its Row."""
        ...

    async def done(self, key: str, attempt: int, result: bytes) -> None:
        """The effect happened and this is its answer. The first answer stays. Idempotent."""
        ...

    async def failed(self, key: str, attempt: int, result: bytes | None, *, certain: bool = False) -> None:
        """Nothing happened in this attempt, and this is its answer. Where an earlier attempt is in doubt the doubt stays, unless `certain` (a
        look-up found nothing). Idempotent."""
        ...

    async def bury(self, key: str, attempt: int, *, running_too: bool) -> Row:
        """Lets nothing start under this key any more; answers how it stands now. DONE stays; INTENT stays too, unless
        `running_too`: then it becomes a TOMBSTONE that says who may have run. Idempotent."""
        ...

    async def run(self) -> None:
        """Writes until `close`."""
        ...

    async def close(self) -> None:
        """Lets go; what waits fails with LedgerClosed. Idempotent."""
        ...
