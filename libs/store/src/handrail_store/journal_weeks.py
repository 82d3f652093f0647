"""The journal's range partitions: one per ISO week of acceptance, made ahead, and a default one that nothing falls out of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection

WEEKS_AHEAD = 8
_COLUMNS = ("born", "tenant", "trace_id", "seq", "p", "pseq", "type", "data", "meta", "causation", "at")
_SMALL_SAMPLE = ", ".join(f"ALTER {column} SET STATISTICS 10" for column in _COLUMNS)  # see revision 0013


def born(day: date) -> int:
    """The partition key of a workflow accepted on `day` (UTC): ISO year * 100 + ISO week."""
    year, week, _ = day.isocalendar()
    return year * 100 + week


def born_at(at_ms: int) -> int:
    """`born` of an instant in milliseconds since 1970 UTC."""
    return born(datetime.fromtimestamp(at_ms / 1000, UTC).date())


def weeks_from(day: date, ahead: int = WEEKS_AHEAD) -> list[tuple[int, int]]:
    """The week of `day` and the next `ahead` ones, as [from, to) bounds of partitions."""
    keys = [born(day + timedelta(weeks=i)) for i in range(ahead + 2)]
    return list(pairwise(keys))


async def ensure_journal_weeks(connection: AnyConnection, ahead: int = WEEKS_AHEAD) -> list[str]:
    """Makes the partitions of this week and the next `ahead` ones; answers the names of those it made. Idempotent.

    A week whose rows already stand in the default partition is left there: moving rows under a running owner is worse
    than a partition less.
    """
    today: date = await connection.fetchval("SELECT (handrail.clock() AT TIME ZONE 'UTC')::date")
    wanted = weeks_from(today, ahead)
    there = await existing_weeks(connection)
    made: list[str] = []
    for low, high in wanted:
        name = f"journal_{low}"
        if name in there or await connection.fetchval(
            "SELECT EXISTS (SELECT FROM handrail.journal_default WHERE born = $1)", low
        ):
            continue
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS handrail.{name} PARTITION OF handrail.journal FOR VALUES FROM ({low}) TO ({high})"
        )
        await connection.execute(f"ALTER TABLE handrail.{name} {_SMALL_SAMPLE}")
        made.append(name)
    return made


async def existing_weeks(connection: AnyConnection) -> set[str]:
    """The names of the journal's partitions."""
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'handrail.journal'::regclass"
    )
    return {row["relname"] for row in rows}
