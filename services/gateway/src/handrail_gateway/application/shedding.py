"""A door that closes while too much is waiting behind it: starts are refused when the news lags far behind the journal."""

from __future__ import annotations

from collections.abc import Callable

from handrail_gateway.application.faults import Refusal
from handrail_gateway.application.ports import Views

MOST_UNPUBLISHED = 100_000
LOOK_EVERY_S = 1.0


class Shedding:
    """Looks at the backlog at most once a second. `clock` answers seconds, monotonic."""

    def __init__(self, views: Views, clock: Callable[[], float], most: int = MOST_UNPUBLISHED) -> None:
        self._views, self._clock, self._most = views, clock, most
        self._looked_at = float("-inf")
        self._backlog = 0

    async def refuse_when_full(self) -> None:
        """Raises Refusal overloaded, or StoreFault when the database does not say."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._backlog = await self._views.backlog()
        if self._backlog > self._most:
            raise Refusal(
                "overloaded",
                f"Expected at most {self._most} events waiting to be published, but {self._backlog} are. Try again later.",
                retry_after=5,
            )
