"""`handrail export …`: data as JSON lines, for other programs."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handrail.cli.options import DEFAULT_URL, TraceId, Url
from handrail.cli.session import call, dump, err
from handrail.cli.text import to_json_line

if TYPE_CHECKING:
    from handrail_contracts.answers import Feedback
    from handrail_sdk.client import Client

export = typer.Typer(no_args_is_help=True, help="Write data as JSON lines: journals, decisions.")


class _Form(StrEnum):
    SFT = "sft"
    PREFERENCE = "preference"
    EVAL = "eval"


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
            help="Only decisions since then, as 2026-01-31T00:00:00Z. Begin some minutes before the last export: one that"
            " was committed late is older than what that showed. Lines are known by their decision_id.",
            show_default="the first",
        ),
    ] = None,
    form: Annotated[
        _Form | None,
        typer.Option(
            "--format",
            "-f",
            help="Examples to learn from: what should be done (sft), what is better than what (preference), what a person"
            " decided (eval). Silence is no example.",
            show_default="one line per decision",
        ),
    ] = None,
    blueprint: Annotated[
        str | None, typer.Option("--blueprint", help="Workflows of this one.", show_default="all")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Kinds of pauses, as gate or failure,gate.", show_default="all")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="Outcomes, as edited,rejected.", show_default="all")
    ] = None,
    output: Output = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write every decision with what was proposed, what was done, and what became of it."""
    narrowed = {"since": since, "blueprint": blueprint, "kind": kind, "outcome": outcome}

    def rows(client: Client) -> AsyncGenerator[dict[str, Any]]:
        return client.training(form.value, **narrowed) if form is not None else _plain(client.feedback(**narrowed))

    _write(url, output, rows)


async def _plain(rows: AsyncGenerator[Feedback]) -> AsyncGenerator[dict[str, Any]]:
    async with aclosing(rows):
        async for row in rows:
            yield dump(row)


def _write(url: str, output: Path | None, rows: Callable[[Client], AsyncGenerator[dict[str, Any]]]) -> None:
    async def work(client: Client) -> int:
        count = 0
        async with AsyncExitStack() as stack:
            file = sys.stdout if output is None else stack.enter_context(output.open("w", encoding="utf-8"))
            lines = await stack.enter_async_context(aclosing(rows(client)))
            async for row in lines:
                file.write(to_json_line(row) + "\n")
                count += 1
            file.flush()
        return count

    try:
        count = call(url, None, work)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
    except OSError as e:
        raise typer.BadParameter(f"Expected to write {output}, but that failed: {e.strerror}.") from e
    if output is not None:
        err().print(f"{count} lines in {output}")
