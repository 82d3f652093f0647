"""Lists for people: the same plain table everywhere, and what to do when it is empty."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from handrail.cli.session import out
from handrail.cli.text import duration, seconds_of

Cell = str | Text


def show(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, empty: str, wide: Sequence[str] = ()) -> None:
    """Prints a table, or `empty` where there are no rows. Columns in `wide` take the rest of the line. In a pipe it is
    tab-separated."""
    console = out()
    if not rows:
        console.print(Text(empty, style="dim"))
        return
    if not console.is_terminal:
        # For grep and less: one line per row, whatever its length.
        for row in (columns, *rows):
            print("\t".join(cell.plain if isinstance(cell, Text) else cell for cell in row))  # noqa: T201  # a pipe
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim", show_edge=False, expand=bool(wide))
    for name in columns:
        if name in wide:
            table.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console.print(table)


def more(next_cursor: str | None) -> None:
    """Says how to see the next page, on a terminal."""
    console = out()
    if next_cursor and console.is_terminal:
        console.print(Text(f"There are more: --cursor {next_cursor}", style="dim"))


def ago(at: str | None) -> str:
    """How long ago a time was."""
    seconds = seconds_of(at)
    return "" if seconds is None else duration(time.time() - seconds)
