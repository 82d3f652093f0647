"""`handrail doctor`: what is there, what is wrong, what to do about it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from handrail.cli.machine import Finding, State, the_server, this_machine
from handrail.cli.options import DEFAULT_URL, AsJson, Url
from handrail.cli.session import PROBLEM, block, out, print_json
from handrail.cli.text import safe

if TYPE_CHECKING:
    pass

_MARKS: dict[State, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "wrong": ("✗", "red"),
    "absent": ("–", "bright_black"),
}


def doctor(
    data: Annotated[
        Path, typer.Option("--data", envvar="HANDRAIL_DATA", help="Where embedded mode keeps its data.")
    ] = Path(".handrail"),
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Look at this machine and at the Handrail on it: what is wrong, and what to do. Exit code 1 if something is."""
    server, why_not = _ask(url)
    named = url != DEFAULT_URL or bool(os.environ.get("HANDRAIL_URL"))
    if server is None:
        # On the default address nothing has been started yet; an address that was named should answer.
        hint = "Start it: make demo, or handrail up." if not named else "Is it started, and is --url right?"
        server = [Finding("Handrail", "wrong" if named else "absent", why_not, hint)]
        machine = list(this_machine(data, url, answers=False))
    else:
        machine = list(this_machine(data, url, answers=True))
    if as_json:
        print_json({"machine": [asdict(f) for f in machine], "server": [asdict(f) for f in server], "url": url})
    else:
        _print("This machine", machine)
        _print(f"Handrail at {url}", server)
    if any(f.state == "wrong" for f in (*machine, *server)):
        raise typer.Exit(PROBLEM)


def _ask(url: str) -> tuple[list[Finding] | None, str]:
    import asyncio

    from handrail_sdk.client import Client
    from handrail_sdk.client_errors import ClientError, Unreachable

    async def work() -> list[Finding]:
        async with Client(url, channel="cli", retries=0, timeout_s=10) as client:
            return await the_server(client)

    try:
        return asyncio.run(work()), ""
    except Unreachable as e:
        return None, f"does not answer ({e.reason})"
    except ClientError as e:
        return None, str(e)


def _print(title: str, findings: list[Finding]) -> None:
    console = out()
    console.print(Text(title, style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        icon, style = _MARKS[finding.state]
        told = Text(safe(finding.detail))
        if finding.hint:
            told.append(f"\n→ {finding.hint}", style="yellow" if finding.state in ("wrong", "warning") else "dim")
        table.add_row(Text(f" {icon}", style=style), Text(safe(finding.what)), told)
    block(table)
