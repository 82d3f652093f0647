"""`handrail dead-letters …` and `handrail quarantine …`: tasks that gave up, records that could not be read."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from handrail.cli import form, tables
from handrail.cli.options import DEFAULT_URL, Actor, AsJson, Cursor, Limit, Url
from handrail.cli.session import call, dump, out, print_json, program
from handrail.cli.text import pretty, safe, short

if TYPE_CHECKING:
    from handrail_sdk.client import Client

dead_letters = typer.Typer(no_args_is_help=True, help="Tasks that used up their attempts: look, replay, discard.")
quarantine = typer.Typer(
    no_args_is_help=True, help="Records that could not be read, or that parked a workflow: look, replay, discard."
)

LetterId = Annotated[str, typer.Argument(metavar="DEAD_LETTER_ID", help="Which one.", show_default=False)]
RecordId = Annotated[int, typer.Argument(metavar="ID", help="Which record.", show_default=False)]
State = Annotated[
    str | None, typer.Option("--state", help="Only in this state: open, replayed, discarded …", show_default="any")
]
Reason = Annotated[str | None, typer.Option("--reason", "-r", help="Why; kept.", show_default="none")]


@dead_letters.command("list")
def list_letters(
    state: State = None, limit: Limit = 20, cursor: Cursor = None, as_json: AsJson = False, url: Url = DEFAULT_URL
) -> None:
    """List dead letters, newest first."""
    found = call(url, None, lambda client: client.dead_letters(state=state, limit=limit, cursor=cursor))
    if as_json:
        print_json({"items": [dump(item) for item in found.items], "next_cursor": found.next_cursor})
        return
    rows: list[list[tables.Cell]] = [
        [
            Text(safe(d.dead_letter_id), style="cyan"), tables.ago(d.at), safe(d.state), safe(d.agent or ""),
            safe(d.node_id or ""), safe(d.error_code or ""), short(d.reason or "", 200),
        ]
        for d in found.items
    ]  # fmt: skip
    columns = ("DEAD LETTER ID", "AGE", "STATE", "AGENT", "NODE", "ERROR", "REASON")
    tables.show(columns, rows, wide=("ERROR",), optional=("REASON", "AGENT"), empty="No dead letters.")
    tables.more(found.next_cursor)


@dead_letters.command("show")
def show_letter(dead_letter_id: LetterId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one dead letter and the pause that it opened."""

    async def work(client: Client) -> tuple[dict[str, Any], dict[str, Any] | None]:
        letter = await client.get_dead_letter(dead_letter_id)
        pause = dump(await client.get_pause(letter.pause_id)) if letter.pause_id else None
        return dump(letter), pause

    letter, pause = call(url, None, work)
    if as_json:
        print_json({**letter, "pause": pause})
        return
    _fields(letter)
    if pause is not None:
        out().print(Text(f"It opened this pause: {program()} show {safe(pause['pause_id'])}", style="dim"))


@dead_letters.command("replay")
def replay_letter(
    dead_letter_id: LetterId,
    given: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="VALUE",
            help="What the retry asks for; JSON values are read as such.",
            show_default="none",
        ),
    ] = None,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Try the task again: presses the retry of its pause. A late effect is undone, in a workflow of its own."""
    more: dict[str, Any] = {} if given is None else {"input": form.loose(given)}
    _told(call(url, actor, lambda client: client.replay_dead_letter(dead_letter_id, reason=reason, **more)), as_json)


@dead_letters.command("discard")
def discard_letter(
    dead_letter_id: LetterId,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Give the task up: presses the skip of its pause. A late effect is left standing."""
    _told(call(url, actor, lambda client: client.discard_dead_letter(dead_letter_id, reason=reason)), as_json)


@quarantine.command("list")
def list_records(
    state: State = None, limit: Limit = 20, cursor: Cursor = None, as_json: AsJson = False, url: Url = DEFAULT_URL
) -> None:
    """List records that were set aside, newest first."""
    found = call(url, None, lambda client: client.quarantine(state=state, limit=limit, cursor=cursor))
    if as_json:
        print_json({"items": [dump(item) for item in found.items], "next_cursor": found.next_cursor})
        return
    rows: list[list[tables.Cell]] = [
        [
            Text(str(r.id), style="cyan"), tables.ago(r.at), safe(r.state), safe(r.kind),
            f"{safe(r.topic)}/{r.partition}@{r.offset}", short(r.reason, 300),
        ]
        for r in found.items
    ]  # fmt: skip
    columns = ("ID", "AGE", "STATE", "KIND", "FROM", "REASON")
    tables.show(columns, rows, wide=("REASON",), optional=("KIND",), empty="Nothing is in quarantine.")
    tables.more(found.next_cursor)


@quarantine.command("show")
def show_record(id: RecordId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one record with its bytes."""

    record = call(url, None, lambda client: client.get_quarantined(id))
    if as_json:
        print_json(dump(record))
        return
    shown = dump(record)
    value = shown.pop("value", None)
    _fields(shown)
    if value:
        out().print(Text("value", style="dim"))
        for text in pretty(base64.b64decode(value).decode("utf-8", "backslashreplace"))[:200]:
            out().print(Text(f"  {text}"))


@quarantine.command("replay")
def replay_record(id: RecordId, as_json: AsJson = False, url: Url = DEFAULT_URL, actor: Actor = None) -> None:
    """Feed a record in again, once its cause is repaired; the workflow that it has parked goes on with it."""
    _told(call(url, actor, lambda client: client.replay_quarantined(id)), as_json)


@quarantine.command("discard")
def discard_record(
    id: RecordId,
    reason: Reason = None,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="End the workflow that it has parked, as a cancel would.")
    ] = False,
    compensate: Annotated[
        bool,
        typer.Option(
            "--undo/--no-undo", help="With --give-up: undo what was done, as far as the rules can still follow."
        ),
    ] = True,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Let a record go; the workflow that it has parked goes on without it, or (--give-up) ends."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.discard_quarantined(id, reason=reason, give_up=give_up, compensate=compensate)

    _told(call(url, actor, work), as_json)


def _fields(shown: dict[str, Any]) -> None:
    for name, value in shown.items():
        if value is not None:
            out().print(Text(f"{safe(name):<16}", style="dim").append(short(value, 400), style="default"))


def _told(answer: Any, as_json: bool) -> None:
    body = answer if isinstance(answer, dict) or answer is None else dump(answer)
    if as_json:
        print_json(body)
        return
    said = "It is stored and will be applied."
    if isinstance(body, dict) and body.get("replay_trace_id"):
        undo = safe(str(body["replay_trace_id"]))
        said = f"Its effect is undone in a workflow of its own: {program()} watch {undo}"
    out().print(Text("✓ ", style="green").append(said, style="default"))
