"""`handrail escalate` and `handrail say`: ask for a person from outside of any workflow, and speak in a conversation."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from handrail.cli.options import DEFAULT_URL, Actor, AsJson, PauseId, Url, pair
from handrail.cli.session import call, dump, out, print_json, program, url_option
from handrail.cli.text import safe
from handrail.cli.which import pause_id_of

if TYPE_CHECKING:
    from handrail_contracts.answers import Ordered
    from handrail_sdk.client import Client

ESCALATE_EPILOG = (
    "The transcript is a JSON list of {role, text}, oldest first.\n\n"
    "Example:\n\n"
    "handrail escalate 'Charged twice, asks for a person' -m order_id=12345 --handover 'A colleague takes over.'"
)


class Role(StrEnum):
    """Who speaks."""

    OPERATOR = "operator"
    USER = "user"
    AGENT = "agent"


def escalate(
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why a person is needed.", show_default=False)],
    summary: Annotated[
        str, typer.Option("--summary", help="What it is about, for the operator.", show_default="none")
    ] = "",
    transcript: Annotated[
        Path | None,
        typer.Option(
            "--transcript", help="What was said so far, a JSON file; - reads standard input.", show_default="none"
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata",
            "-m",
            metavar="KEY=VALUE",
            help="What the operator should know; again for more. JSON values are read as such.",
            show_default="none",
        ),
    ] = None,
    handover: Annotated[
        str | None, typer.Option("--handover", help="What the end user is told meanwhile.", show_default="nothing")
    ] = None,
    callback: Annotated[
        str | None,
        typer.Option("--callback", metavar="URL", help="An https address that hears of replies.", show_default="none"),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Ask for a person, with no workflow behind it; print the pause that a person will answer."""
    lines = _lines(transcript)
    told = dict(pair(text) for text in metadata or [])
    answer: dict[str, Any] = call(
        url,
        actor,
        lambda client: client.escalate(
            reason,
            summary=summary,
            transcript=lines,
            metadata=told,
            handover_message=handover,
            callback_url=callback,
        ),
    )
    if as_json:
        print_json(answer)
        return
    pause_id = safe(answer["pause_id"])
    out().print(Text(f"A person is asked: {pause_id} (workflow {safe(answer['trace_id'])})"))
    out().print(Text(f"See what is said: {program()} show {pause_id}{url_option(url)}", style="dim"))


def say(
    pause_id: PauseId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What you say.", show_default=False)],
    role: Annotated[
        Role, typer.Option("--as", help="Who speaks. An agent is refused until handed back to.")
    ] = Role.OPERATOR,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Say something in the conversation of an escalation, without deciding it yet."""

    async def work(client: Client) -> Ordered:
        return await client.say(await pause_id_of(client, pause_id), text, role=role.value)

    answer = call(url, actor, work)
    if as_json:
        print_json(dump(answer))
        return
    out().print("Said.")


def _lines(path: Path | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    try:
        text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text("utf-8")
        found: Any = json.loads(text)
    except (OSError, ValueError) as e:
        raise typer.BadParameter(f"Expected a JSON file, but: {e}.", param_hint="--transcript") from e
    if not isinstance(found, list) or not all(isinstance(line, dict) for line in found):
        raise typer.BadParameter("Expected a list of {role, text}, but found another value.", param_hint="--transcript")
    return found
