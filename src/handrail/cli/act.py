"""`handrail pause`, `cancel`, `resolve`, `claim`, `release`: what changes a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from handrail.cli.live import follow
from handrail.cli.options import DEFAULT_URL, Actor, AsJson, Comment, PauseId, TraceId, Url, Yes, pair, seconds
from handrail.cli.pause_card import buttons, card, closing, is_open
from handrail.cli.press import done, find, outcome, press
from handrail.cli.session import (
    PROBLEM,
    USAGE,
    block,
    call,
    dump,
    err,
    failed,
    interactive,
    out,
    print_json,
    program,
    url_option,
)
from handrail.cli.text import clock_time, safe
from handrail.cli.which import open_pause, pause_id_of

if TYPE_CHECKING:
    from handrail_contracts.answers import Claimed, Preview
    from handrail_sdk.client import Client

RESOLVE_EPILOG = (
    "ACTION is the action_id (RES_SKIP), its short form (skip) or its number. Without it you are asked; of a pause that is"
    " decided already you are told by whom.\n\n"
    "Examples:\n\n"
    "handrail resolve 0199… skip --comment 'she has a laptop'\n\n"
    "handrail resolve p12ab… RES_MANUAL_SKU --input https://vendor.example/mbp16\n\n"
    "handrail resolve 0199… edit --set amount=120 --comment 'as agreed'\n\n"
    "Exit codes: 0 stored, 1 refused (somebody was first, the deadline passed …), 2 wrong usage."
)


LookFirst = Annotated[bool, typer.Option("--preview", help="Only say what it would do; nothing is ordered.")]


def pause(
    trace_id: TraceId,
    comment: Comment = None,
    preview: LookFirst = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Press the panic button: nothing new is begun until a person lets it go on, or aborts."""
    if preview:
        _foreseen(call(url, actor, lambda client: client.preview_pause(trace_id)), as_json=as_json)
        return
    answer = call(url, actor, lambda client: client.pause(trace_id, comment=comment))
    if as_json:
        print_json(dump(answer))
        return
    out().print(Text(f"Pausing. Let it go on: {program()} resolve {safe(answer.trace_id)} resume{url_option(url)}"))


def cancel(
    trace_id: TraceId,
    compensate: Annotated[
        bool, typer.Option("--undo/--no-undo", help="Undo what was done, latest first, or leave it standing.")
    ] = True,
    comment: Comment = None,
    preview: LookFirst = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Cancel a workflow, undoing what it did unless told not to, after a look at what that means."""
    if preview or (interactive() and not yes):
        seen = call(url, actor, lambda client: client.preview_cancel(trace_id, compensate=compensate))
        _foreseen(seen, as_json=as_json and preview)
        if preview:
            return
        effect = "everything that it did is undone" if compensate else "nothing that it did is undone"
        typer.confirm(f"Cancel {safe(trace_id)}: {effect}?", abort=True)
    answer = call(url, actor, lambda client: client.cancel(trace_id, compensate=compensate, comment=comment))
    if as_json:
        print_json(dump(answer))
        return
    out().print(Text(f"Cancelling. Watch it: {program()} watch {safe(answer.trace_id)}{url_option(url)}"))


def _foreseen(seen: Preview, *, as_json: bool) -> None:
    if as_json:
        print_json(dump(seen))
        return
    out().print(Text(f"What {seen.action_id} does:"))
    for line in outcome(seen):
        out().print(line)


def resolve(
    id: Annotated[str, typer.Argument(metavar="TRACE_ID|PAUSE_ID", help="What waits.", show_default=False)],
    action: Annotated[
        str | None, typer.Argument(metavar="[ACTION]", help="The button.", show_default="you are asked")
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", metavar="VALUE", help="The input that the button asks for.", show_default="you are asked"
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Approve with this argument changed; repeatable.",
            show_default="none",
        ),
    ] = None,
    comment: Comment = None,
    override_claim: Annotated[
        bool, typer.Option("--override-claim", help="Decide although somebody else has claimed it.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay and watch what follows.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Decide an open pause: press one of the offered buttons, after a look at what it will do."""
    asking = interactive() and not as_json

    async def work(client: Client) -> None:
        pause = await open_pause(client, id)
        console = out()
        if action is None and not is_open(pause):
            if as_json:
                print_json(pause)
            else:
                console.print(closing(pause))
            raise typer.Exit(PROBLEM)
        if asking:
            block(card(pause, _now(pause), url_option=url_option(url)))
        word = action
        if word is None:
            if not asking:
                err().print(buttons(pause, url_option=url_option(url)))
                raise failed("Expected an ACTION, one of the above, but found none.", USAGE)
            word = typer.prompt(f"Which one, 1–{len(pause['available_resolutions'])}?")
        offered = find(pause, word)
        if offered is None:
            err().print(buttons(pause, url_option=url_option(url)))
            raise failed(f"Expected one of the offered buttons, but {word[:40]!r} is none of them.", USAGE)
        answer = await press(
            client,
            pause,
            offered,
            console=console,
            given=given,
            sets=dict(map(pair, sets or ())),
            comment=comment,
            override_claim=override_claim,
            asking=asking,
            yes=yes,
        )
        if answer is None:
            console.print("Nothing was decided.")
        elif as_json:
            print_json(dump(answer))
        else:
            console.print(done(answer))
        if watch and answer is not None:
            await follow(client, pause["trace_id"], until="ended", as_json=as_json)

    call(url, actor, work)


def claim(
    pause_id: PauseId,
    for_: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90s, 5m, 2h; at most a day.")] = "5m",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Take a pause for a while, so that nobody else decides it meanwhile."""
    length = max(1, round(seconds(for_)))

    async def work(client: Client) -> Claimed:
        return await client.claim(await pause_id_of(client, pause_id), seconds=length)

    answer = call(url, actor, work)
    if as_json:
        print_json(dump(answer))
        return
    out().print(f"Yours until {clock_time(answer.claimed_until)}.")


def release(pause_id: PauseId, as_json: AsJson = False, url: Url = DEFAULT_URL, actor: Actor = None) -> None:
    """Give a claim back."""

    async def work(client: Client) -> Claimed:
        return await client.release(await pause_id_of(client, pause_id))

    answer = call(url, actor, work)
    if as_json:
        print_json(dump(answer))
        return
    out().print("Given back.")


def _now(pause: Mapping[str, Any]) -> float:
    import time

    from handrail.cli.text import seconds_of

    return max(time.time(), seconds_of(pause.get("at")) or 0.0)
