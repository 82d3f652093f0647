"""`handrail ls`, `show`, `explain`, `blueprints`, `agents`: looking, without changing anything."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from handrail.cli import looks, tables
from handrail.cli.options import DEFAULT_URL, AsJson, Cursor, Limit, TraceId, Url, pair
from handrail.cli.pause_card import card
from handrail.cli.picture import Frame, picture
from handrail.cli.sentences import line, what
from handrail.cli.session import block, call, dump, out, print_json, program, url_option
from handrail.cli.text import pretty, safe, seconds_of, short, to_json_line
from handrail.cli.which import pause_of
from handrail_contracts.view import WorkflowView

if TYPE_CHECKING:
    from handrail_contracts.answers import AgentAction, InboxPause
    from handrail_sdk.client import Client


def ls(
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", "-s", help="Only this status, as RUNNING or PAUSED_HITL; again for more.", show_default="any"
        ),
    ] = None,
    blueprint: Annotated[
        str | None, typer.Option("--blueprint", "-b", help="Only this blueprint.", show_default="any")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", metavar="KEY=VALUE", help="Only with this label; again for more.", show_default="any"
        ),
    ] = None,
    q: Annotated[
        str | None,
        typer.Option(
            "--search",
            "-q",
            help="Text of the intent, from the beginning of a word on, or how a trace id begins.",
            show_default="none",
        ),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List workflows, newest first."""
    found = call(
        url,
        None,
        lambda client: client.list(
            status=tuple(s.upper() for s in status) if status else None,
            blueprint=blueprint,
            labels=dict(pair(text) for text in labels or []),
            q=q,
            limit=limit,
            cursor=cursor,
        ),
    )
    if as_json:
        print_json({"items": [dump(item) for item in found.items], "next_cursor": found.next_cursor})
        return
    rows: list[list[tables.Cell]] = []
    for w in found.items:
        look = looks.workflow(w.status)
        done = sum(count for state, count in w.counts.items() if state in looks.DONE)
        rows.append(
            [
                Text(safe(w.trace_id), style="cyan"),
                Text("! Parked", style="red")
                if w.parked_reason
                else Text(f"{look.icon} {look.word}", style=look.style),
                f"{done}/{sum(w.counts.values())}",
                tables.ago(w.created_at),
                safe(w.blueprint or ""),
                short(w.intent or "", 200),
            ]
        )
    tables.show(
        ("TRACE ID", "STATUS", "DONE", "AGE", "BLUEPRINT", "INTENT"),
        rows,
        wide=("INTENT",),
        optional=("BLUEPRINT", "DONE"),
        empty=f"No workflows here. Start one: {program()} run --blueprint employee-onboarding --watch",
    )
    tables.more(found.next_cursor)


def show(
    id: Annotated[str, typer.Argument(metavar="TRACE_ID|PAUSE_ID", help="What to look at.", show_default=False)],
    history: Annotated[bool, typer.Option("--history", help="Also every event so far.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show one workflow: its DAG, what it waits for, its output. Or one pause, with all of its evidence."""

    async def work(client: Client) -> InboxPause | tuple[dict[str, Any], list[dict[str, Any]]]:
        pause = await pause_of(client, id)
        if pause is not None:
            return pause
        state = dump(await client.state(id, history=history and as_json))
        return state, [event async for event in client.history(id)] if history and not as_json else []

    found = call(url, None, work)
    if not isinstance(found, tuple):
        _show_pause(found, as_json, url)
        return
    state, events = found
    if as_json:
        print_json(state)
        return
    console = out()
    view, now = WorkflowView.from_state(state), _server_now(state)
    block(picture(view, Frame(console.width, now)))
    for pause in view.pauses.values():
        console.print()
        block(card(pause, now, evidence_lines=40, url_option=url_option(url)))
    if view.reason:
        console.print(Text("reason ", style="dim").append(safe(view.reason), style="default"))
    if view.output is not None:
        console.print(Text("output", style="dim"))
        for text in pretty(view.output):
            console.print(Text(f"  {text}"))
    if events:
        console.print(Text("history", style="dim"))
    for event in events:
        console.print(Text(line(event)))


def explain(trace_id: TraceId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Say in one sentence why a workflow is not moving, and list the facts."""
    answer = call(url, None, lambda client: client.explain(trace_id))
    if as_json:
        print_json(answer)
        return
    console = out()
    console.print(Text(safe(answer["sentence"]), style="bold"))
    for fact in answer.get("facts") or []:
        rest = ", ".join(f"{safe(k)} {short(to_json_line(v), 120)}" for k, v in fact.items() if v not in (None, []))
        console.print(Text(f"  {rest}", style="dim"))


def blueprints(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List what can run, with the inputs that it takes."""
    found = call(url, None, lambda client: client.blueprints())
    if as_json:
        print_json({"items": [dump(item) for item in found.items], "next_cursor": found.next_cursor})
        return
    rows: list[list[tables.Cell]] = []
    for b in found.items:
        required = b.input_schema.get("required") or []
        names = [n if n in required else f"[{n}]" for n in b.input_schema.get("properties") or {}]
        text = b.title or b.description
        rows.append(
            [
                Text(safe(b.name), style="cyan"),
                str(b.version),
                str(len(b.nodes)),
                safe(" ".join(names)),
                short(text, 200),
            ]
        )
    tables.show(
        ("BLUEPRINT", "VERSION", "NODES", "INPUTS", "WHAT IT DOES"),
        rows,
        wide=("WHAT IT DOES",),
        optional=("VERSION", "NODES", "INPUTS"),
        empty="No blueprints are loaded. Put YAML files where HANDRAIL_ORCHESTRATOR__BLUEPRINTS_DIR points.",
    )


def agents(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List who can work, and who is alive."""
    found = call(url, None, lambda client: client.agents())
    if as_json:
        print_json({"items": [dump(item) for item in found.items], "next_cursor": found.next_cursor})
        return
    rows: list[list[tables.Cell]] = []
    for a in found.items:
        state = Text("● alive", style="green") if a.alive else Text("○ silent", style="yellow")
        names = ", ".join(map(_action, a.actions))
        rows.append([Text(safe(a.name), style="cyan"), state, tables.ago(a.last_seen), names])
    tables.show(
        ("AGENT", "STATE", "LAST SEEN", "ACTIONS"),
        rows,
        wide=("ACTIONS",),
        optional=("LAST SEEN",),
        empty="No agent has ever registered. Start the agents: make demo, or python -m handrail_agents",
    )


def _action(action: AgentAction) -> str:
    rate = action.success_rate
    return safe(action.action) + ("" if rate is None else f" ({min(rate, 0.999 if rate < 1 else 1):.1%} succeed)")


def _show_pause(pause: InboxPause, as_json: bool, url: str) -> None:
    shown = dump(pause)
    if as_json:
        print_json(shown)
        return
    console = out()
    look = looks.workflow(str(shown["workflow"].get("status", "")))
    console.print(Text(safe(pause.trace_id), style="cyan").append(f"  {look.icon} {look.word}", style=look.style))
    block(card(shown, time.time(), evidence_lines=10_000, url_option=url_option(url)))
    decision: Mapping[str, Any] | None = shown.get("decision")
    if decision:
        console.print(Text(f"decided: {what({'event_type': 'HITL_RESOLVED', **decision})}", style="green"))


def _server_now(state: Mapping[str, Any]) -> float:
    # A server whose clock is ahead of ours (a development stack may be days ahead) has written the newest time.
    newest = seconds_of(state.get("updated_at"))
    return max(time.time(), newest or 0.0)
