"""Connections for one piece of work, never for longer than the gateway may keep a client waiting; faults by their kind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from handrail_gateway.application.faults import Busy, StorageFull, StoreFault, Unavailable

if TYPE_CHECKING:
    from handrail_store.connect import Pool

PATIENCE_S = 2.6
"""Longer than lock_timeout (2 s), so that a held key is told from a database that does not answer."""
HANGS_S = 0.5
"""After a wait in vain nobody waits for so long, unless somebody who still does gets an answer."""
_RELEASE_S = 0.4
_DISK_FULL, _LOCK_NOT_AVAILABLE = "53100", "55P03"
# connection, resources, operator intervention, system, serialization: the same call may work in a moment
_PASSING = ("08", "53", "57", "58", "40", "25P")

_log = structlog.get_logger(__name__)


class Database:
    """The pool, for `PATIENCE_S` at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._hangs_until = 0.0

    @contextlib.asynccontextmanager
    async def connection(self, patience_s: float | None = None) -> AsyncGenerator[Any]:
        """A connection for the block, for `patience_s` (`PATIENCE_S`). Raises StoreFault for what the database did not do."""
        held: Any = None
        if time.monotonic() < self._hangs_until:
            # Somebody has just waited in vain: nobody else needs to.
            raise Unavailable("The database does not answer.")
        try:
            async with asyncio.timeout(PATIENCE_S if patience_s is None else patience_s):
                held = await self._pool.acquire()
                yield held
            self._hangs_until = 0.0
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as e:
            if isinstance(e, TimeoutError):
                self._hangs_until = time.monotonic() + HANGS_S
                if held is not None:
                    held.terminate()  # its statement hangs; asking politely would hang as well
            raise as_fault(e) from e
        finally:
            if held is not None:
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                    await self._pool.release(held, timeout=_RELEASE_S)

    @contextlib.asynccontextmanager
    async def transaction(self, before_commit: Callable[[], None] | None = None) -> AsyncGenerator[Any]:
        """As `connection`, in a transaction that commits when the block ends."""
        async with self.connection() as held:
            await held.execute("BEGIN")
            try:
                yield held
            except asyncio.CancelledError:
                held.terminate()
                raise
            except BaseException:
                if not held.is_closed():
                    await held.execute("ROLLBACK")
                raise
            if before_commit is not None:
                before_commit()
            await held.execute("COMMIT")


def as_fault(error: BaseException) -> BaseException:
    """What the failure means for the request; an error that is a bug of ours stays what it is."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and state is not None and not state.startswith("08"):
        if state == _DISK_FULL:
            fault: StoreFault = StorageFull("The database is out of space.")
        elif state == _LOCK_NOT_AVAILABLE:
            return Busy("A lock was not to be had in time.")
        elif state.startswith(_PASSING):
            fault = Unavailable("The database could not do it now.")
        else:
            return error
    else:
        fault = Unavailable("The database does not answer.")
    _log.warning("database_failed", kind=type(error).__name__, sqlstate=state)
    return fault
