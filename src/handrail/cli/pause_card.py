"""A pause for a terminal: the fault, what the outside said, the context, and while it is open the buttons."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.box import Box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from handrail.cli.session import program
from handrail.cli.text import clock_time, compact, duration, pretty, safe, seconds_of, short

_BAR = Box("┃   \n┃   \n┃   \n┃   \n┃   \n┃   \n┃   \n┃   \n")
_TITLES = {
    "failure": "Failed",
    "gate": "Asks for approval",
    "escalation": "Asks for a person",
    "compensation_failure": "Cannot be undone by itself",
    "ambiguous": "Unknown whether it happened",
    "manual": "Paused by a person",
}
_STYLES = {"primary": "bold", "danger": "red", "neutral": ""}


def card(pause: Mapping[str, Any], now_s: float, *, evidence_lines: int = 12, url_option: str = "") -> RenderableType:
    """Everything that is needed to decide; of a closed pause what was to decide. `evidence_lines` bounds the evidence;
    `url_option` goes into the commands."""
    parts: list[RenderableType] = [Text(safe(pause["failure_reason"], lines=True), style="bold")]
    if pause.get("summary"):
        parts.append(Text(short(pause["summary"], 400)))
    parts += _facts(pause, now_s)
    parts += _proposal(pause)
    parts += _evidence(pause, evidence_lines)
    parts += _transcript(pause)
    title = _TITLES.get(pause["kind"], safe(pause["kind"]))
    where = f" · {safe(pause['node_id'])}" if pause.get("node_id") else ""
    panel = Panel(
        Group(*parts),
        box=_BAR,
        border_style="yellow" if is_open(pause) else "dim",
        title=Text(f"⚑ {title}{where}", style="bold yellow" if is_open(pause) else "bold"),
        title_align="left",
        padding=(0, 1),
    )
    return Group(panel, buttons(pause, url_option=url_option)) if is_open(pause) else panel


def is_open(pause: Mapping[str, Any]) -> bool:
    """Whether a button may be pressed. A pause in a workflow's state is open and does not say so; one by itself does."""
    return pause.get("state", "open") == "open"


def closing(pause: Mapping[str, Any]) -> Text:
    """How a closed pause ended: who decided what, or what else closed it."""
    decision: Mapping[str, Any] = pause.get("decision") or {}
    at = clock_time(decision.get("decided_at") or pause.get("closed_at"))
    if decision.get("outcome", "") != "decided":
        return Text(f"Closed at {at} without a person: {safe(decision.get('outcome') or pause['state'])}")
    by = f"Decided by {safe(decision['actor'])} over {safe(decision['channel'])} at {at}: "
    line = Text(by).append(safe(decision["action_id"]), style="bold")
    return line.append(f" ({short(decision['comment'], 200)})" if decision.get("comment") else "")


def buttons(pause: Mapping[str, Any], *, url_option: str = "") -> RenderableType:
    """The offered resolutions, numbered, each with the command that presses it."""
    lines: list[Text] = []
    for number, offered in enumerate(pause["available_resolutions"], start=1):
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"  {number}  ", style="bold cyan")
        line.append(safe(offered["display_text"]), style=_STYLES.get(offered.get("style", ""), ""))
        if offered.get("requires_input"):
            line.append(f"  asks for {wanted(offered.get('input_schema'))}", style="dim")
        lines += [line, Text(f"     {command(pause, offered, url_option)}", style="dim cyan", overflow="fold")]
    return Group(*lines)


def command(pause: Mapping[str, Any], offered: Mapping[str, Any], url_option: str = "") -> str:
    """The command that presses a button."""
    line = shlex.join([program(), "resolve", safe(pause["pause_id"]), safe(offered["action_id"])])
    if offered.get("kind") == "edit" and (args := (pause.get("proposed_action") or {}).get("args")):
        line += f" --set {safe(next(iter(args)))}=…"
    elif offered.get("requires_input"):
        line += f" --input {_placeholder(offered.get('input_schema'))}"
    return line + url_option


def wanted(schema: Any) -> str:
    """What an input schema asks for, in a word or two."""
    if isinstance(schema, str):
        words = {"url": "a URL", "email": "an e-mail address", "text": "a text", "integer": "a whole number"}
        return words.get(schema, f"a {safe(schema)}" if schema != "json" else "a JSON value")
    if isinstance(schema, Mapping) and schema.get("type") in ("integer", "number"):
        return "a number" if schema["type"] == "number" else "a whole number"
    if isinstance(schema, Mapping) and isinstance(schema.get("properties"), Mapping):
        return short(", ".join(schema["properties"]), 60)
    return "an input"


def _placeholder(schema: Any) -> str:
    if isinstance(schema, Mapping) and schema.get("type") in ("integer", "number"):
        return "NUMBER"
    return schema.upper() if isinstance(schema, str) and schema.isalpha() else "'{…}'"


def _facts(pause: Mapping[str, Any], now_s: float) -> list[RenderableType]:
    facts: list[tuple[str, str]] = []
    codes = Counter(a["error"]["code"] for a in pause.get("attempts") or [] if a.get("error"))
    if codes:
        told = ", ".join(f"{safe(code)} × {count}" for code, count in codes.items())
        facts.append(("attempts", told))
    if pause.get("failed_agent"):
        facts.append(("agent", safe(pause["failed_agent"])))
    facts += [(short(k, 24), short(compact(v), 200)) for k, v in (pause.get("context_snapshot") or {}).items()]
    since, until = seconds_of(pause.get("at")), seconds_of(pause.get("closed_at"))
    if since is not None and is_open(pause):
        facts.append(("waiting", duration(now_s - since)))
    elif since is not None and until is not None:
        facts.append(("waited", duration(until - since)))
    if pause.get("claimed_by"):
        facts.append(("claimed by", short(pause["claimed_by"], 60)))
    expires = seconds_of(pause.get("expires_at"))
    if expires is not None and is_open(pause):
        then = f", then {safe(pause['on_expiry'])}" if pause.get("on_expiry") else ""
        facts.append(("deadline", f"in {duration(expires - now_s)}{then}"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    return [table] if facts else []


def _evidence(pause: Mapping[str, Any], most: int) -> list[RenderableType]:
    evidence = pause.get("raw_evidence")
    if not evidence or evidence.get("body") is None:
        return []
    lines = pretty(evidence["body"])
    shown = [Text(line, no_wrap=True, overflow="ellipsis", style="yellow") for line in lines[:most]]
    note = safe(evidence.get("content_type", ""))
    note += ", truncated by the server" if evidence.get("truncated") else ""
    if len(lines) > most:
        note += f", {len(lines) - most} more lines: {program()} show {safe(pause['pause_id'])}"
    return [Text(f"evidence ({note})", style="dim"), Padding(Group(*shown), (0, 0, 0, 2))]


def _proposal(pause: Mapping[str, Any]) -> list[RenderableType]:
    proposed, risk = pause.get("proposed_action"), pause.get("risk")
    lines: list[RenderableType] = []
    if proposed:
        summary = str(proposed.get("summary") or proposed.get("action"))
        if summary not in str(pause["failure_reason"]):
            lines.append(Text(short(summary, 400), style="bold"))
        for name, value in (proposed.get("args") or {}).items():
            lines.append(Text(f"  {safe(name)}: ", style="dim").append(short(compact(value), 200), style="default"))
        diff = proposed.get("diff") or {}
        before, after = diff.get("before") or {}, diff.get("after") or {}
        for name in dict.fromkeys((*before, *after)):
            line = Text(f"  {safe(name)}  ")
            line.append(f"{compact(before.get(name))}", style="red").append("  →  ", style="dim")
            lines.append(line.append(f"{compact(after.get(name))}", style="green"))
        if proposed.get("affected") is not None:
            lines.append(Text(f"It affects {compact(proposed['affected'])}.", style="yellow"))
        if proposed.get("reversible") is False:
            lines.append(Text("It cannot be undone.", style="red"))
    if risk and risk.get("untrusted"):
        lines.append(Text("It follows from content that came from outside.", style="red"))
    if risk and risk.get("four_eyes"):
        who = short(risk.get("requested_by") or "whoever started it", 60)
        lines.append(Text(f"It asks for four eyes: {who} may reject it, not approve it.", style="yellow"))
    if risk:
        policy = f"{risk['policy']} " if risk.get("policy") else ""
        version = f", policy {safe(policy)}v{safe(risk.get('policy_version'))}" if risk.get("policy_version") else ""
        rule = f"rule {safe(risk.get('rule_id'))}{version}"
        sure = f", confidence {pause['confidence']:.0%}" if isinstance(pause.get("confidence"), float) else ""
        lines.append(Text(f"stopped by {rule}{sure}", style="dim"))
    return lines


def _transcript(pause: Mapping[str, Any], most: int = 6) -> list[RenderableType]:
    said = pause.get("conversation") or pause.get("transcript") or []
    lines: list[RenderableType] = []
    if len(said) > most:
        lines.append(Text(f"… {len(said) - most} messages before", style="dim"))
    for message in said[-most:]:
        line = Text()
        line.append(f"{short(message.get('role', '?'), 12)}: ", style="cyan")
        line.append(safe(str(message.get("text", "")), lines=True))
        if message.get("withheld"):
            line.append("  (withheld: a person has the conversation)", style="dim")
        lines.append(line)
    return lines
