"""The read side on PostgreSQL: each question is one statement on a connection of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import orjson

from handrail_contracts.model import iso
from handrail_gateway.adapters.intake import summary
from handrail_gateway.adapters.postgres import Database
from handrail_gateway.application.ports import Page, PauseFilter, Row, Summary, WorkflowFilter
from handrail_store import clock, desk, policies, views

_PORTION_PATIENCE_S = 30.0
"""For a portion of an export, which looks through far more than a page does."""


class PostgresViews:
    """The `Views` port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, tenant: str, trace_id: str) -> Summary | None:
        """See the port."""
        async with self._database.connection() as c:
            return summary(await views.workflow(c, tenant, trace_id))

    async def started(self, tenant: str, trace_id: str) -> tuple[dict[str, Any], str] | None:
        """See the port."""
        async with self._database.connection() as c:
            row = await views.started(c, tenant, trace_id)
        return None if row is None else (orjson.loads(row["body"]), iso(int(row["at"].timestamp() * 1000)))

    async def events_after(
        self, tenant: str, trace_id: str, after: int, limit: int, born: int | None = None
    ) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.events_after(c, tenant, trace_id, after, limit, born)

    async def newest_events(self, tenant: str, trace_id: str, limit: int) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.newest_events(c, tenant, trace_id, limit)

    async def journal(self, tenant: str, trace_id: str) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.journal_rows(c, tenant, trace_id)

    async def workflows(self, tenant: str, wanted: WorkflowFilter, page: Page) -> list[Row]:
        """See the port."""
        narrowed = views.WorkflowFilter(wanted.status, wanted.blueprint, wanted.labels, wanted.q)
        async with self._database.connection() as c:
            return await views.workflows(c, tenant, narrowed, _page(page))

    async def inbox(self, tenant: str, wanted: PauseFilter, page: Page, *, total_up_to: int) -> tuple[list[Row], int]:
        """See the port."""
        narrowed = desk.PauseFilter(
            wanted.state,
            wanted.actor,
            wanted.kind,
            wanted.agent,
            wanted.error_code,
            wanted.blueprint,
            wanted.trace_id,
            wanted.q,
        )
        async with self._database.connection() as c:
            return await desk.inbox(c, tenant, narrowed, _page(page), total_up_to=total_up_to)

    async def pause(self, tenant: str, pause_id: str) -> Row | None:
        """See the port."""
        async with self._database.connection() as c:
            return await desk.pause(c, tenant, pause_id)

    async def opening(self, tenant: str, pause_id: str) -> tuple[str, dict[str, Any], str] | None:
        """See the port."""
        async with self._database.connection() as c:
            row = await views.opening(c, tenant, pause_id)
        return (
            None
            if row is None
            else (row["trace_id"], orjson.loads(row["body"]), iso(int(row["at"].timestamp() * 1000)))
        )

    async def messages(self, tenant: str, trace_id: str, pause_id: str) -> list[dict[str, Any]]:
        """See the port."""
        async with self._database.connection() as c:
            said = [orjson.loads(event) for event in await views.messages(c, tenant, trace_id, pause_id)]
            late = await views.said_after_the_end(c, tenant, trace_id, pause_id)
        said += [
            {**orjson.loads(r["body"]), "actor": r["actor"], "at": iso(int(r["at"].timestamp() * 1000))} for r in late
        ]
        return [{k: m[k] for k in ("role", "text", "at", "actor", "withheld") if k in m} for m in said]

    async def dead_letters(
        self, tenant: str, page: Page, *, state: str | None, agent: str | None, trace_id: str | None
    ) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await desk.dead_letters(c, tenant, _page(page), state=state, agent=agent, trace_id=trace_id)

    async def dead_letter(self, tenant: str, dead_letter_id: str) -> Row | None:
        """See the port."""
        async with self._database.connection() as c:
            return await desk.dead_letter(c, tenant, dead_letter_id)

    async def quarantined(
        self, tenant: str, limit: int, before: int | None, *, state: str | None, topic: str | None
    ) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await desk.quarantined(c, tenant, limit, before, state=state, topic=topic)

    async def quarantined_record(self, tenant: str, record_id: int) -> Row | None:
        """See the port."""
        async with self._database.connection() as c:
            return await desk.quarantined_record(c, tenant, record_id)

    async def agents(self, tenant: str) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.agents(c, tenant)

    async def parked_by(self, tenant: str, trace_id: str) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.parked_by(c, tenant, trace_id)

    async def surroundings(self, tenant: str, trace_id: str) -> Row | None:
        """See the port."""
        async with self._database.connection() as c:
            return await views.surroundings(c, tenant, trace_id)

    async def places(self, tenant: str) -> dict[str, int]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.places(c, tenant)

    async def blueprints(self, tenant: str) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await views.blueprints(c, tenant)

    async def policies(self, tenant: str) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await policies.in_force(c, tenant)

    async def policy_versions(self, tenant: str, name: str) -> list[Row]:
        """See the port."""
        async with self._database.connection() as c:
            return await policies.versions(c, tenant, name)

    async def policy_serial(self, tenant: str) -> int:
        """See the port."""
        async with self._database.connection() as c:
            return await policies.serial(c, tenant)

    async def blob(self, tenant: str, trace_id: str, digest: str) -> tuple[str, bytes] | None:
        """See the port."""
        async with self._database.connection() as c:
            row = await views.blob(c, tenant, trace_id, digest)
        return None if row is None else (row["content_type"], row["body"])

    async def now_ms(self) -> int:
        """See the port."""
        async with self._database.connection() as c:
            return await clock.now_ms(c)

    async def backlog(self) -> int:
        """See the port."""
        async with self._database.connection() as c:
            return await views.backlog(c)

    async def decisions(
        self, tenant: str, since: datetime | None, blueprint: str | None = None, kinds: Sequence[str] = ()
    ) -> AsyncIterator[Row]:
        """See the port. Holds no connection between two portions."""

        def connect() -> AbstractAsyncContextManager[Any]:
            return self._database.connection(_PORTION_PATIENCE_S)

        async for row in desk.decisions(connect, tenant, since, blueprint, kinds):
            yield row


def _page(page: Page) -> views.Page:
    return views.Page(page.limit, page.at, page.id)
