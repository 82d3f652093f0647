"""Lists for people: the same plain table everywhere, and what to do when it is empty."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from handrail.cli.session import out
from handrail.cli.text import duration, seconds_of

Cell = str | Text
_PADDING = 2
_WIDE_CELLS = 24


def show(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    empty: str,
    wide: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Prints a table, or `empty` where there are no rows; in a pipe tab-separated. Columns in `wide` take the rest of
    the line; where that is too little, columns in `optional` are left out, first the first."""
    console = out()
    if not rows:
        console.print(Text(empty, style="dim"))
        return
    if not console.is_terminal:
        # For grep and less: one line per row, whatever its length.
        for row in (columns, *rows):
            print("\t".join(cell.plain if isinstance(cell, Text) else cell for cell in row))  # noqa: T201  # a pipe
        return
    console.print(table_of(columns, rows, wide=wide, optional=optional))


def table_of(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, wide: Sequence[str] = (), optional: Sequence[str] = ()
) -> Table:
    """The table as a terminal of this width shows it."""
    texts = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = {
        name: max(cell_len(name), *(row[i].cell_len for row in texts)) + _PADDING for i, name in enumerate(columns)
    }
    shown = list(columns)
    for name in optional:
        if sum(_WIDE_CELLS if n in wide else widths[n] for n in shown) > out().width:
            shown.remove(name)
    table = Table(
        box=None,
        padding=(0, _PADDING, 0, 0),
        header_style="bold dim",
        show_edge=False,
        expand=bool(set(wide) & set(shown)),
    )
    for name in shown:
        if name in wide:
            table.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(name, no_wrap=True)
    for row in texts:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in shown))
    return table


def more(next_cursor: str | None) -> None:
    """Says how to see the next page, on a terminal."""
    console = out()
    if next_cursor and console.is_terminal:
        console.print(Text(f"There are more: --cursor {next_cursor}", style="dim"))


def ago(at: str | None) -> str:
    """How long ago a time was."""
    seconds = seconds_of(at)
    return "" if seconds is None else duration(time.time() - seconds)
