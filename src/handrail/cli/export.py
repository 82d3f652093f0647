"""`handrail export …`: data as JSON lines, for other programs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handrail.cli.options import DEFAULT_URL, TraceId, Url
from handrail.cli.session import call, dump, err
from handrail.cli.text import to_json_line

if TYPE_CHECKING:
    from handrail_sdk.client import Client

export = typer.Typer(no_args_is_help=True, help="Write data as JSON lines: journals, decisions.")

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write into this file.", show_default="standard output")
]


@export.command()
def journal(trace_id: TraceId, output: Output = None, url: Url = DEFAULT_URL) -> None:
    """Write every event of a workflow, oldest first."""
    _write(url, output, lambda client: client.history(trace_id))


@export.command()
def feedback(
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only decisions since then, as 2026-01-31T00:00:00Z.",
            show_default="the first",
        ),
    ] = None,
    output: Output = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write every decision with what was proposed, what was done, and what became of it."""

    async def rows(client: Client) -> AsyncIterator[dict[str, Any]]:
        async for row in client.feedback(since=since):
            yield dump(row)

    _write(url, output, rows)


def _write(url: str, output: Path | None, rows: Callable[[Client], AsyncIterator[dict[str, Any]]]) -> None:
    async def work(client: Client) -> int:
        count = 0
        with ExitStack() as stack:
            file = sys.stdout if output is None else stack.enter_context(output.open("w", encoding="utf-8"))
            async for row in rows(client):
                file.write(to_json_line(row) + "\n")
                count += 1
        return count

    try:
        count = call(url, None, work)
    except OSError as e:
        raise typer.BadParameter(f"Expected to write {output}, but that failed: {e.strerror}.") from e
    if output is not None:
        err().print(f"{count} lines in {output}")
