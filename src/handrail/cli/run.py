"""`handrail run` and `handrail watch`: start a workflow, and see what it does."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from handrail.cli import form, looks
from handrail.cli.live import Until, follow
from handrail.cli.options import DEFAULT_URL, Actor, AsJson, TraceId, Url, pair, seconds
from handrail.cli.session import NOT_COMPLETE, call, dump, out, print_json, program, url_option

if TYPE_CHECKING:
    from handrail_contracts.view import WorkflowView
    from handrail_sdk.client import Client

RUN_EPILOG = (
    "Examples:\n\n"
    "handrail run --blueprint employee-onboarding --input employee=Ada --input sku=MBP-16 --watch\n\n"
    'handrail run "Please onboard our new engineer and get her a laptop" --watch\n\n'
    "handrail run --plan plan.json --wait --json\n\n"
    "Exit codes: 0 started (with --watch or --wait: completed), 1 refused or not reachable, 2 wrong usage,"
    " 3 it ended otherwise or needs a person."
)
WATCH_EPILOG = (
    "On a terminal it is a live picture with buttons; in a pipe it is a line per event, with --json an event per line.\n\n"
    "Exit codes: 0 completed, 1 not reachable, 3 it ended otherwise or needs a person."
)


def run(
    intent: Annotated[str | None, typer.Argument(help="What is to be done, in words.", show_default=False)] = None,
    blueprint: Annotated[
        str | None, typer.Option("--blueprint", "-b", help="Run this blueprint.", show_default="found by the intent")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="KEY=VALUE",
            help="One input; again for more. JSON values are read as such.",
            show_default="none",
        ),
    ] = None,
    input_json: Annotated[
        str | None, typer.Option("--input-json", metavar="JSON", help="All inputs as one object.", show_default="none")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input-file", help="All inputs from a JSON file; - reads standard input.", show_default="none"),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="An explicit plan from a JSON file; - reads standard input.", show_default="none"),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; again for more.", show_default="none"),
    ] = None,
    trace_id: Annotated[
        str | None,
        typer.Option(
            "--trace-id", help="An id of your own, 1 to 64 of A-Z a-z 0-9 _ -.", show_default="drawn by the server"
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            help="Ask a person when it takes longer: 90s, 15m, 24h, 7d.",
            show_default="none",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", help="Start once under this key, however often it is run.", show_default="drawn"
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", "-w", help="Stay and watch it live.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay silently until it has ended or needs a person.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Start a workflow: by intent, by blueprint, or by an explicit plan."""
    if intent is None and blueprint is None and plan is None:
        raise typer.BadParameter("Expected an INTENT, --blueprint or --plan, but found none of them.")
    if plan is not None and str(plan) == str(input_file) == "-":
        raise typer.BadParameter("Expected one of --plan and --input-file to be -, but both are.")
    whole = _whole_input(input_json, input_file)
    single = [pair(text) for text in inputs or []]
    planned = _object(_read(plan), "--plan") if plan is not None else None

    async def work(client: Client) -> WorkflowView | None:
        accepted = await client.start(
            intent,
            blueprint=blueprint,
            input=await _merged(client, blueprint, whole, single),
            plan=planned,
            trace_id=trace_id,
            labels=dict(pair(text) for text in labels or []) or None,
            deadline_s=None if deadline is None else seconds(deadline),
            idempotency_key=key,
        )
        if wait:
            view = await client.wait(accepted.trace_id, until="paused")
            _print_waited(view, as_json)
            return view
        if not as_json and not (watch and out().is_terminal):
            _print_started(accepted.trace_id, url, brief=watch)
        if not watch:
            if as_json:
                print_json(dump(accepted))
            return None
        return await follow(client, accepted.trace_id, until="ended", as_json=as_json)

    _leave(call(url, actor, work))


def watch(
    trace_id: TraceId,
    until: Annotated[str, typer.Option("--until", metavar="ended|paused", help="Stay so long.")] = "ended",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Watch a workflow live; reconnects by itself, without a gap."""
    if until not in ("ended", "paused"):
        raise typer.BadParameter(f"Expected --until ended or paused, but found {until[:20]!r}.")
    stay: Until = "paused" if until == "paused" else "ended"

    async def work(client: Client) -> WorkflowView:
        return await follow(client, trace_id, until=stay, as_json=as_json)

    _leave(call(url, actor, work))


def _leave(view: WorkflowView | None) -> None:
    if view is not None and (view.pauses or (view.ended and view.status not in looks.GOOD_ENDS)):
        raise typer.Exit(NOT_COMPLETE)


def _print_started(trace_id: str, url: str, *, brief: bool) -> None:
    console = out()
    console.print(Text("Started ").append(trace_id, style="cyan"))
    if brief:
        return
    more = url_option(url)
    console.print(f"  watch it     {program()} watch {trace_id}{more}")
    console.print(f"  look at it   {program()} show {trace_id}{more}")
    console.print(f"  in a browser {url.rstrip('/')}/console/workflows/{trace_id}")


def _print_waited(view: WorkflowView, as_json: bool) -> None:
    if as_json:
        print_json(view.state())
        return
    look = looks.workflow(view.status)
    out().print(Text(view.trace_id, style="cyan").append(f"  {look.icon} {look.word}", style=look.style))


async def _merged(
    client: Client, blueprint: str | None, whole: dict[str, Any] | None, single: list[tuple[str, str]]
) -> dict[str, Any] | None:
    if not single:
        return whole
    properties: Mapping[str, Any] = {}
    if blueprint is not None:
        known = {b.name: b.input_schema for b in (await client.blueprints()).items}
        properties = known.get(blueprint, {}).get("properties") or {}
    typed = {
        name: form.parse(properties[name], text) if name in properties else form.loose(text) for name, text in single
    }
    return {**(whole or {}), **typed}


def _whole_input(text: str | None, file: Path | None) -> dict[str, Any] | None:
    if text is not None and file is not None:
        raise typer.BadParameter("Expected --input-json or --input-file, but found both.")
    if file is not None:
        return _object(_read(file), "--input-file")
    return None if text is None else _object(text, "--input-json")


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise typer.BadParameter(f"Expected a readable file, but {file} cannot be read: {type(e).__name__}.") from e


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as e:
        raise typer.BadParameter(f"Expected JSON in {where}, but it is not: {e}.") from e
    if not isinstance(value, dict):
        raise typer.BadParameter(f"Expected a JSON object in {where}, but found {text[:40]!r}.")
    return value
