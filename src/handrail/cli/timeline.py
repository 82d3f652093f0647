"""`handrail trace`: everything that is known of one workflow, in one timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from handrail.cli import looks
from handrail.cli.options import DEFAULT_URL, AsJson, TraceId, Url
from handrail.cli.sentences import what
from handrail.cli.session import call, dump, out, print_json
from handrail.cli.text import clock_time, duration, safe, seconds_of

if TYPE_CHECKING:
    from handrail_sdk.client import Client


_MARKS = {"ledger": "◆", "dead letter": "⚠"}


def trace(trace_id: TraceId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Print the merged timeline of a workflow: events, attempts and decisions from its journal, what really happened from
    the simulators' ledger where they run, and effects that came to light after its end."""

    async def work(client: Client) -> list[dict[str, Any]]:
        found = [{"source": "journal", **event} async for event in client.history(trace_id)]
        found.extend({"source": "ledger", **entry} for entry in await client.ledger(trace_id))
        letters = await client.dead_letters(trace_id=trace_id)
        found.extend({"source": "dead letter", **dump(d)} for d in letters.items if d.kind == "late_effect")
        # sorted() keeps the order of the journal where times are equal
        return sorted(found, key=lambda entry: seconds_of(entry["at"]) or 0.0)

    entries = call(url, None, work)
    if as_json:
        print_json(entries)
        return
    console = out()
    before = began = seconds_of(entries[0]["at"]) if entries else None
    for entry in entries:
        at = seconds_of(entry["at"])
        since = "" if at is None or before is None else f"+{duration(at - before)}"
        place = f"#{entry['seq']:<4} " if entry["source"] == "journal" else f"{_MARKS[entry['source']]:<6}"
        text = Text(f"{clock_time(entry['at'])}  ", style="dim").append(f"{since:>10}  ", style="dim")
        console.print(text.append(place, style="dim").append(_told(entry), style=_style(entry)))
        before = at
    if entries and began is not None and before is not None:
        events = sum(entry["source"] == "journal" for entry in entries)
        console.print(Text(f"{events} events in {duration(before - began)}", style="dim"))


def _told(entry: Mapping[str, Any]) -> str:
    match entry["source"]:
        case "ledger":
            again = f", asked {entry['repeats']} more times under this key" if entry["repeats"] else ""
            happened = "happened" if entry["kind"] == "do" else "was undone"
            return f"{safe(entry['node_id'])} {happened}, attempt {entry['attempt']}, key {safe(entry['effect_key'])}{again}"
        case "dead letter":
            return f"{safe(entry['node_id'])}: an effect came to light late ({safe(entry['dead_letter_id'])}, {safe(entry['state'])})"
        case _:
            return what(entry)


def _style(entry: Mapping[str, Any]) -> str:
    match entry.get("event_type"):
        case None:
            return "magenta" if entry["source"] == "ledger" else "bold yellow"
        case "NODE_STATE_CHANGED":
            return looks.node(entry["to"]).style
        case "WORKFLOW_PAUSED_HITL":
            return "bold yellow"
        case _:
            return looks.workflow(entry["status"]).style if "status" in entry else "default"
