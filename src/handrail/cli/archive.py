"""`handrail db archive`: old weeks of the journal to files, so that the database does not grow for ever."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from handrail.cli import tables
from handrail.cli.engines import DATA, Data, Postgres, db, with_data
from handrail.cli.options import AsJson, seconds
from handrail.cli.session import failed, out, print_json


@db.command("archive")
def archive(
    to: Annotated[
        Path, typer.Option("--to", help="Folder for the files; made if it is missing.", show_default="handrail-archive")
    ] = Path("handrail-archive"),
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="Weeks younger than this stay; 14d at least.")
    ] = "30d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go, and what stays and why.")
    ] = False,
    postgres: Postgres = None,
    data: Data = DATA,
    as_json: AsJson = False,
) -> None:
    """Write old weeks of the journal to files and drop them from the database.

    A week goes when all workflows accepted in it have ended. Its journal, and the workflows with their inputs, leave the
    database: they are no longer found by their trace_id. Pauses, decisions and dead letters stay. The files are gzipped JSON
    lines, one event or workflow each, flushed to disk before anything is dropped; run it again after a crash.
    """
    from handrail_store import archive as store

    days = int(seconds(keep) // 86_400)
    if days < store.LEAST_DAYS:
        raise failed(
            f"Expected --keep of at least {store.LEAST_DAYS}d, as long as Kafka keeps events, but it is {keep}.", 2
        )

    async def work(connection: Any) -> tuple[list[store.Week], list[store.Archived]]:
        found = await store.weeks(connection, days)
        if dry_run:
            return found, []
        done: list[store.Archived] = []
        for week in found:
            if week.stays is None:
                done.append(await store.archive(connection, week, to))
                if not as_json:
                    out().print(
                        f"{week.name}: {done[-1].rows} events of {done[-1].workflows} workflows in {done[-1].journal}"
                    )
        return found, done

    try:
        found, done = with_data(postgres, data, work)
    except store.WeekChanged as e:
        raise failed(str(e)) from None
    if as_json:
        archived = [{**asdict(a), "journal": str(a.journal), "summaries": str(a.summaries)} for a in done]
        print_json({"weeks": [asdict(week) for week in found], "archived": archived})
        return
    _shown(found, dry_run)


def _shown(found: list[Any], dry_run: bool) -> None:
    left = found if dry_run else [week for week in found if week.stays is not None]
    rows: list[list[tables.Cell]] = [
        [week.name, str(week.workflows), str(week.rows), f"{week.bytes / 2**20:.1f} MiB", week.stays or "goes"]
        for week in left
    ]
    if rows or not found:
        empty = "No week of the journal is old enough."
        tables.show(
            ("WEEK", "WORKFLOWS", "EVENTS", "SIZE", "WHAT BECOMES OF IT"),
            rows,
            wide=("WHAT BECOMES OF IT",),
            empty=empty,
        )
