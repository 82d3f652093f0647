"""`handrail inbox`: what waits for a person, over all workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from handrail.cli import tables
from handrail.cli.options import DEFAULT_URL, Actor, AsJson, Cursor, Limit, Url
from handrail.cli.session import call, dump, out, print_json, program, url_option
from handrail.cli.text import safe, short

if TYPE_CHECKING:
    from handrail_sdk.client import Client
    from handrail_sdk.pages import Page

State = Literal["open", "mine", "resolved"]


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
        typer.Option("--search", "-q", help="Text of the intent, the reason or the node.", show_default="none"),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """List what waits for a person, newest first."""
    wanted = _state(state)

    async def work(client: Client) -> Page[Any]:
        return await client.inbox(
            wanted, kind=kind, agent=agent, error_code=error, blueprint=blueprint, q=q, limit=limit, cursor=cursor
        )

    found = call(url, actor, work)
    if as_json:
        items = [dump(item) for item in found.items]
        print_json({"items": items, "next_cursor": found.next_cursor, **found.more})
        return
    rows: list[list[tables.Cell]] = []
    for p in found.items:
        decided = f"{p.decision.action_id or p.decision.outcome} by {p.decision.actor}" if p.decision else ""
        who = Text(short(decided, 40), style="green") if decided else Text(short(p.claimed_by or "", 24))
        rows.append(
            [
                Text(safe(p.pause_id), style="cyan"),
                tables.ago(p.at),
                safe(p.kind),
                safe(p.node_id or ""),
                who,
                short(p.failure_reason, 300),
            ]
        )
    last = "DECIDED" if wanted == "resolved" else "CLAIMED BY"
    tables.show(
        ("PAUSE ID", "AGE", "KIND", "NODE", last, "REASON"),
        rows,
        wide=("REASON",),
        empty="Nothing needs you." if wanted == "open" else "Nothing here.",
    )
    tables.more(found.next_cursor)
    console = out()
    if rows and wanted != "resolved" and console.is_terminal:
        console.print(Text(f"Decide one: {program()} resolve PAUSE_ID{url_option(url)}", style="dim"))


def _state(text: str) -> State:
    match text:
        case "open" | "mine" | "resolved":
            return text
        case _:
            raise typer.BadParameter(f"Expected --state open, mine or resolved, but found {text[:20]!r}.")
