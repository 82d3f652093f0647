"""Options and arguments that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import re
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"
_CONNECTION = "Connection"
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

Url = Annotated[
    str,
    typer.Option("--url", envvar="HANDRAIL_URL", help="Where Handrail answers.", rich_help_panel=_CONNECTION),
]
Actor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="HANDRAIL_ACTOR",
        help="Who acts; recorded with every decision.",
        show_default="the user of this machine",
        rich_help_panel=_CONNECTION,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON as the API answered it, for programs.")]
TraceId = Annotated[str, typer.Argument(metavar="TRACE_ID", help="The workflow.", show_default=False)]
PauseId = Annotated[
    str,
    typer.Argument(
        metavar="PAUSE_ID|TRACE_ID",
        help="The pause, as the inbox names it, or the workflow that waits at one.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="At most so many, newest first.")]
Cursor = Annotated[
    str | None,
    typer.Option("--cursor", help="Go on where the page before ended (its next_cursor).", show_default="the newest"),
]
Comment = Annotated[
    str | None, typer.Option("--comment", "-c", help="Why; kept with the decision.", show_default="none")
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask whether you are sure. Without a terminal nothing is asked anyway."),
]


def seconds(text: str) -> float:
    """`90`, `90s`, `15m`, `24h`, `7d`, `2w`, `500ms`, `1h30m` as seconds. Raises typer.BadParameter."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdw]?)", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise typer.BadParameter(f"Expected a length of time as 90s, 15m, 24h or 7d, but found {text[:40]!r}.")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def pair(text: str) -> tuple[str, str]:
    """`key=value`. Raises typer.BadParameter."""
    key, found, value = text.partition("=")
    if not found or not key:
        raise typer.BadParameter(f"Expected KEY=VALUE, but found {text[:40]!r}.")
    return key, value
