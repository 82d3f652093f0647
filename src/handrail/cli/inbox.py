"""`handrail inbox`: what waits for a person, over all workflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from handrail.cli import tables
from handrail.cli.options import DEFAULT_URL, Actor, AsJson, Cursor, Limit, Url
from handrail.cli.sentences import line
from handrail.cli.session import call, dump, out, print_json, program, url_option
from handrail.cli.text import safe, short, to_json_line

if TYPE_CHECKING:
    from handrail_sdk.client import Client
    from handrail_sdk.pages import Page

State = Literal["open", "mine", "resolved"]
_COLUMNS = ("PAUSE ID", "AGE", "KIND", "NODE", "CLAIMED BY", "REASON")
_OPTIONAL = ("CLAIMED BY", "KIND", "NODE")


def inbox(
    state: Annotated[str, typer.Option("--state", metavar="open|mine|resolved", help="Which pauses.")] = "open",
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only of this kind: failure, gate, escalation …", show_default="any")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only of this agent.", show_default="any")] = None,
    error: Annotated[str | None, typer.Option("--error", help="Only with this error code.", show_default="any")] = None,
    blueprint: Annotated[
        str | None, typer.Option("--blueprint", "-b", help="Only of this blueprint.", show_default="any")
    ] = None,
    q: Annotated[
        str | None,
        typer.Option(
            "--search",
            "-q",
            help="Text of the intent, the reason or the node, from the beginning of a word on.",
            show_default="none",
        ),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay and follow the open pauses live; filters do not apply.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """List what waits for a person, newest first."""
    wanted = _state(state)
    if watch:
        call(url, actor, lambda client: _follow(client, as_json, url))
        return

    async def work(client: Client) -> Page[Any]:
        return await client.inbox(
            wanted, kind=kind, agent=agent, error_code=error, blueprint=blueprint, q=q, limit=limit, cursor=cursor
        )

    found = call(url, actor, work)
    if as_json:
        items = [dump(item) for item in found.items]
        print_json({"items": items, "next_cursor": found.next_cursor, **found.more})
        return
    rows = [_row(dump(item)) for item in found.items]
    last = "DECIDED" if wanted == "resolved" else "CLAIMED BY"
    tables.show(
        (*_COLUMNS[:4], last, _COLUMNS[5]),
        rows,
        wide=("REASON",),
        optional=("KIND", "NODE") if wanted == "resolved" else _OPTIONAL,
        empty="Nothing needs you." if wanted == "open" else "Nothing here.",
    )
    tables.more(found.next_cursor)
    console = out()
    if rows and wanted != "resolved" and console.is_terminal:
        console.print(Text(f"Decide one: {program()} resolve PAUSE_ID{url_option(url)}", style="dim"))


async def _follow(client: Client, as_json: bool, url: str) -> None:
    console = out()
    if as_json or not console.is_terminal:
        async for event, pauses, _ in client.watch_inbox():
            if as_json:
                print(to_json_line(event), flush=True)  # noqa: T201  # for pipes
            elif event["event_type"] == "snapshot":
                print(f"{len(pauses)} wait for a person", flush=True)  # noqa: T201  # for pipes
            else:
                print(f"{safe(event['trace_id'])}  {line(event)}", flush=True)  # noqa: T201  # for pipes
        return
    # Ages tick, so the table is drawn anew every second.
    shown: list[dict[str, Any]] = []
    with Live(console=console, refresh_per_second=1, get_renderable=lambda: _live(shown, url)):
        async for _, pauses, _ in client.watch_inbox():
            shown = pauses


def _live(pauses: list[dict[str, Any]], url: str) -> Group:
    rows = [_row(pause) for pause in pauses[: max(1, out().height - 4)]]
    head = Text(f"{len(pauses)} wait for a person" if pauses else "Nothing needs you.", style="bold")
    hint = Text(f"Decide one: {program()} resolve PAUSE_ID{url_option(url)} · Ctrl-C leaves", style="dim")
    return Group(head, *([tables.table_of(_COLUMNS, rows, wide=("REASON",), optional=_OPTIONAL)] if rows else []), hint)


def _row(pause: Mapping[str, Any]) -> list[tables.Cell]:
    decision = pause.get("decision")
    if decision:
        told = f"{decision.get('action_id') or decision['outcome']} by {decision['actor']}"
        who = Text(short(told, 40), style="green")
    else:
        who = Text(short(pause.get("claimed_by") or "", 24))
    return [
        Text(safe(pause["pause_id"]), style="cyan"),
        tables.ago(pause["at"]),
        safe(pause["kind"]),
        safe(pause.get("node_id") or ""),
        who,
        short(pause["failure_reason"], 300),
    ]


def _state(text: str) -> State:
    match text:
        case "open" | "mine" | "resolved":
            return text
        case _:
            raise typer.BadParameter(f"Expected --state open, mine or resolved, but found {text[:20]!r}.")
