"""Pressing a button of a pause: the input, what it would do, the question whether to, the decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from handrail.cli import form, looks
from handrail.cli.pause_card import wanted
from handrail.cli.text import compact, safe, short

if TYPE_CHECKING:
    from handrail_contracts.answers import Preview, Resuming
    from handrail_sdk.client import Client

_NOT_GIVEN = object()


def find(pause: Mapping[str, Any], word: str) -> Mapping[str, Any] | None:
    """The offered resolution that `word` means: its number, its action_id in any case, with or without `RES_`."""
    offered = pause["available_resolutions"]
    if word.isdigit() and 1 <= int(word) <= len(offered):
        return offered[int(word) - 1]
    name = word.upper().replace("-", "_")
    for resolution in offered:
        if resolution["action_id"].upper() in (name, f"RES_{name}"):
            return resolution
    return None


def outcome(preview: Preview) -> list[Text]:
    """What a preview says, in lines."""
    lines: list[Text] = []
    for change in preview.nodes[:12]:
        was, now = looks.node(change.from_), looks.node(change.to)
        line = Text(f"  {safe(change.node_id)}: {was.word} → ")
        lines.append(line.append(f"{now.icon} {now.word}", style=now.style))
    if len(preview.nodes) > 12:
        lines.append(Text(f"  and {len(preview.nodes) - 12} more nodes", style="dim"))
    later = [node_id for node_id in preview.skipped if node_id not in {change.node_id for change in preview.nodes}]
    if later:
        lines.append(Text(f"  skipped later, since they need it: {short(', '.join(later), 300)}", style="bright_black"))
    if preview.undo:
        lines.append(Text(f"  undone, in this order: {short(', '.join(preview.undo), 300)}", style="magenta"))
    if preview.standing:
        lines.append(Text(f"  left standing: {short(', '.join(preview.standing), 300)}", style="red"))
    if preview.under_way:
        lines.append(
            Text(f"  still under way until it answers: {short(', '.join(preview.under_way), 300)}", style="blue")
        )
    after = looks.workflow(preview.status_after)
    return [*lines, Text("  then the workflow is ").append(f"{after.icon} {after.word}", style=after.style)]


async def press(
    client: Client,
    pause: Mapping[str, Any],
    resolution: Mapping[str, Any],
    *,
    console: Console,
    given: str | None = None,
    sets: Mapping[str, str] | None = None,
    comment: str | None = None,
    override_claim: bool = False,
    asking: bool,
    yes: bool = False,
) -> Resuming | None:
    """Decides `pause`. `given`: the input as it was typed; `sets`: proposed arguments to change, as they were typed. `asking`: a person is there to be asked for what is missing
    and whether to go ahead. None when they would rather not. Raises ClientError, typer.BadParameter."""
    from handrail_sdk.client_errors import Problem

    schema = resolution.get("input_schema")
    stands: dict[str, Any] = (pause.get("proposed_action") or {}).get("args") or {}
    value: Any = _NOT_GIVEN if given is None else form.parse(schema or "json", given)
    if sets:
        value = _edited(resolution, stands, sets)
    if value is _NOT_GIVEN and resolution.get("requires_input"):
        if not asking:
            how = "--set NAME=VALUE" if resolution.get("kind") == "edit" else "--input"
            raise typer.BadParameter(f"{resolution['action_id']} asks for {wanted(schema)}: give it with {how}.")
        value = form.ask(schema, stands)
    while True:
        if asking and resolution.get("kind") == "edit" and isinstance(value, dict):
            for line in changes(stands, value):
                console.print(line)
        if asking and not yes and not await _agreed(client, pause, resolution, console):
            return None
        try:
            return await client.resume(
                pause["trace_id"],
                resolution["action_id"],
                pause_id=pause["pause_id"],
                comment=comment,
                evidence_digest=pause.get("evidence_digest"),
                override_claim=override_claim,
                **_input(value),
            )
        except Problem as e:
            if e.code != "invalid-input" or not asking or given is not None or sets:
                raise
            console.print(Text(safe(e.detail), style="red"))
            value = form.ask(schema, value if isinstance(value, dict) else stands)


def _input(value: Any) -> dict[str, Any]:
    return {} if value is _NOT_GIVEN else {"input": value}


def _edited(resolution: Mapping[str, Any], stands: Mapping[str, Any], sets: Mapping[str, str]) -> dict[str, Any]:
    """The proposed arguments with some of them changed."""
    if resolution.get("kind") != "edit":
        raise typer.BadParameter(f"{resolution['action_id']} changes no arguments: --set goes with an edit.")
    schema = resolution.get("input_schema")
    fields: Mapping[str, Any] = schema.get("properties") or {} if isinstance(schema, Mapping) else {}
    unknown = [name for name in sets if name not in fields and name not in stands]
    if unknown:
        raise typer.BadParameter(f"Expected one of {', '.join(fields or stands)}, but found {unknown[0][:40]!r}.")
    return {**stands, **{name: form.parse(fields.get(name, "json"), text) for name, text in sets.items()}}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Text]:
    """What an edit changes, a line per argument."""
    lines: list[Text] = []
    for name in dict.fromkeys((*before, *after)):
        if compact(before.get(name)) != compact(after.get(name)):
            line = Text(f"  {safe(name)}: ").append(short(compact(before.get(name)), 100), style="red")
            lines.append(line.append(" → ", style="dim").append(short(compact(after.get(name)), 100), style="green"))
    return lines or [Text("  nothing is changed", style="dim")]


async def _agreed(client: Client, pause: Mapping[str, Any], resolution: Mapping[str, Any], console: Console) -> bool:
    preview = await client.preview(pause["trace_id"], pause["pause_id"], resolution["action_id"])
    danger = resolution.get("style") == "danger"
    console.print(Text(safe(resolution["display_text"]), style="bold red" if danger else "bold"))
    for line in outcome(preview):
        console.print(line)
    return typer.confirm("Do it?", default=not danger)


def done(answer: Resuming) -> Text:
    """What is said after a decision was stored."""
    line = Text("✓ ", style="green")
    line.append(safe(answer.action_id), style="bold")
    if answer.resolved_by:
        return line.append(f" had been decided already, by {safe(answer.resolved_by)}")
    return line.append(" is stored and will be applied.")
