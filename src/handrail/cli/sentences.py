"""Events in words: one line each, for pipes, logs and timelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handrail.cli import looks
from handrail.cli.session import program
from handrail.cli.text import clock_time, compact, safe, short


def line(event: Mapping[str, Any]) -> str:
    """`12:04:31.250  #17  what happened`, one line of safe text."""
    seq = event.get("seq")
    number = f"#{seq}" if seq is not None else ""
    return f"{clock_time(event.get('at'))}  {number:<5} {what(event)}"


def what(event: Mapping[str, Any]) -> str:
    """What an event says."""
    kind = str(event.get("event_type"))
    tell = _WORDS.get(kind)
    try:
        if tell is not None:
            return tell(event)
        if kind.startswith("WORKFLOW_") and "status" in event:
            return _ended(event)
    except (KeyError, TypeError, AttributeError):
        pass  # an event of a newer Handrail: shown raw below
    rest = {k: v for k, v in event.items() if k not in ("event_type", "trace_id", "seq", "at")}
    return f"{safe(kind)} {short(compact(rest), 200)}"


def _node(e: Mapping[str, Any]) -> str:
    was, now = looks.node(e["from"]).word, looks.node(e["to"])
    # An undo that is tried again goes from rolling back to rolling back.
    text = f"{safe(e['node_id'])}: " + ("" if was == now.word else f"{was} → ") + f"{now.icon} {now.word}"
    undo = e["to"] in ("COMPENSATING", "COMPENSATED", "COMPENSATION_FAILED")
    if e.get("attempt"):
        text += f", {'undo attempt' if undo else 'attempt'} {e['attempt']}"
    if e.get("worker"):
        text += f" by {safe(e['worker'])}"
    if e.get("error"):
        text += f", {safe(e['error']['code'])}: {short(e['error']['message'], 160).rstrip('.')}"
    if e.get("retry_at"):
        text += f", again at {clock_time(e['retry_at'])}"
    if e.get("output") is not None:
        text += f", output {short(compact(e['output']), 120)}"
    if e.get("reason"):
        text += f" ({short(e['reason'], 120)})"
    return text + spent(e.get("usage"))


def spent(usage: Mapping[str, Any] | None) -> str:
    """What an attempt has spent on models, as `, 812 tokens, $0.0031`; nothing where it used none."""
    if not usage:
        return ""
    tokens = int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)
    cost = float(usage.get("cost_usd") or 0.0)
    return f", {tokens:,} tokens" + (f", ${cost:.4f}" if cost else "")


def _paused(e: Mapping[str, Any]) -> str:
    where = f" at {safe(e['node_id'])}" if e.get("node_id") else ""
    options = " ".join(safe(r["action_id"]) for r in e["available_resolutions"])
    return (
        f"⚑ Needs you{where} ({safe(e['kind'])}): {short(e['failure_reason'], 200)}"
        f" | {options} | {program()} resolve {safe(e['pause_id'])} ACTION"
    )


def _resolved(e: Mapping[str, Any]) -> str:
    by = f" by {safe(e['actor'])} over {safe(e['channel'])}"
    chose = f": {safe(e['action_id'])}" if e.get("action_id") else ""
    given = f" with {short(compact(e['input']), 120)}" if e.get("input") is not None else ""
    comment = f" ({short(e['comment'], 120)})" if e.get("comment") else ""
    return f"Pause {safe(e['outcome'])}{by}{chose}{given}{comment}"


def _claim(e: Mapping[str, Any]) -> str:
    if e.get("claimed_by"):
        return f"Claimed by {safe(e['claimed_by'])} until {clock_time(e.get('claimed_until'))}"
    return "Reminded" if e.get("reminded_at") else "Claim given back"


def _undo(e: Mapping[str, Any]) -> str:
    names = short(", ".join(safe(n["node_id"]) for n in e["nodes"]), 200)
    why = f" because {short(e['reason'], 160)}" if e.get("reason") else ""
    return f"↶ Rolling back{why}: {names or 'nothing to undo'}"


def _ended(e: Mapping[str, Any]) -> str:
    look = looks.workflow(e["status"])
    why = f": {short(e['reason'], 200)}" if e.get("reason") else ""
    output = f", output {short(compact(e['output']), 200)}" if e.get("output") is not None else ""
    return f"{look.icon} {look.word}{why}{output}"


def _begin(e: Mapping[str, Any]) -> str:
    name = safe(e["blueprint"]) if e.get("blueprint") else "workflow"
    return f"Accepted {name}" + (f": {short(e['intent'], 200)}" if e.get("intent") else "")


def _gate(e: Mapping[str, Any]) -> str:
    return (
        f"{safe(e['node_id'])}: policy {safe(e['policy_version'])} says {safe(e['decide'])} (rule {safe(e['rule_id'])})"
    )


_WORDS = {
    "WORKFLOW_ACCEPTED": _begin,
    "WORKFLOW_PLANNED": lambda e: f"Planned: {e['node_count']} nodes, {e['edge_count']} edges",
    "NODES_ADDED": lambda e: f"{len(e['nodes'])} more nodes" + (f" by {safe(e['by'])}" if e.get("by") else ""),
    "NODE_STATE_CHANGED": _node,
    "RESULT_IGNORED": lambda e: (
        f"{safe(e['node_id'])}: an answer of attempt {e['attempt']} was ignored, {safe(e['reason'])}"
    ),
    "TASK_DEAD_LETTERED": lambda e: (
        f"{safe(e['node_id'])}: dead letter {safe(e['dead_letter_id'])} after {len(e['attempts'])} attempts"
    ),
    "GATE_EVALUATED": _gate,
    "WORKFLOW_PAUSED_HITL": _paused,
    "PAUSE_UPDATED": _claim,
    "MESSAGE_ADDED": lambda e: (
        f"{safe(e['role'])} says{' (withheld)' if e.get('withheld') else ''}: {short(e['text'], 200)}"
    ),
    "HITL_RESOLVED": _resolved,
    "WORKFLOW_RESUMED": lambda e: "Goes on",
    "WORKFLOW_COMPENSATING": _undo,
    "snapshot": lambda e: f"State as of event {e['seq']}",
    "progress": lambda e: f"{safe(e.get('node_id'))}: {e.get('percent') or ''} {short(e.get('message') or '', 160)}",
}
