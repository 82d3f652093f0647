"""How a status looks in a terminal: an icon, a word and a colour, each telling enough without the others.

The colours are the terminal's own (so that they fit its background): pending grey, in progress blue, complete green,
failed red, needs a person amber, rolling back violet, rolled back teal. A status that we do not know is shown by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus as W

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass(frozen=True, slots=True)
class Look:
    """`icon` is one cell wide; `style` is a rich style."""

    icon: str
    word: str
    style: str


NODE: dict[str, Look] = {
    N.PENDING: Look("○", "Pending", "bright_black"),
    N.SCHEDULED: Look("◌", "Scheduled", "blue"),
    N.IN_PROGRESS: Look("●", "In progress", "blue"),
    N.RETRYING: Look("↻", "Retrying", "blue"),
    N.AWAITING_HUMAN: Look("⚑", "Needs you", "bold yellow"),
    N.COMPLETE: Look("✓", "Complete", "green"),
    N.DEAD_LETTERED: Look("✗", "Failed", "red"),
    N.SKIPPED: Look("»", "Skipped", "bright_black"),
    N.CANCELLED: Look("⊘", "Cancelled", "bright_black"),
    N.COMPENSATING: Look("↶", "Rolling back", "magenta"),
    N.COMPENSATED: Look("⊖", "Rolled back", "cyan"),
    N.COMPENSATION_FAILED: Look("⊗", "Undo failed", "red"),
    N.NOT_REVERSIBLE: Look("⊠", "Not reversible", "bright_black"),
    N.NOTHING_TO_UNDO: Look("∅", "Nothing to undo", "bright_black"),
}

WORKFLOW: dict[str, Look] = {
    W.ACCEPTED: Look("○", "Accepted", "bright_black"),
    W.PLANNING: Look("◌", "Planning", "blue"),
    W.RUNNING: Look("●", "Running", "blue"),
    W.PAUSED_HITL: Look("⚑", "Needs you", "bold yellow"),
    W.COMPENSATING: Look("↶", "Rolling back", "magenta"),
    W.COMPLETED: Look("✓", "Completed", "green"),
    W.COMPLETED_WITH_SKIPS: Look("»", "Completed with skips", "green"),
    W.COMPENSATED: Look("⊖", "Rolled back", "cyan"),
    W.COMPENSATION_INCOMPLETE: Look("⊗", "Rolled back in part", "red"),
    W.FAILED: Look("✗", "Failed", "red"),
    W.CANCELLED: Look("⊘", "Cancelled", "bright_black"),
}

GOOD_ENDS: frozenset[str] = frozenset({W.COMPLETED, W.COMPLETED_WITH_SKIPS})
"""Ends that count as success: exit code 0."""
ACTIVE: frozenset[str] = frozenset({N.SCHEDULED, N.IN_PROGRESS, N.RETRYING, N.COMPENSATING})
ATTENTION: frozenset[str] = frozenset({N.AWAITING_HUMAN, N.DEAD_LETTERED, N.COMPENSATION_FAILED})
UNDONE: frozenset[str] = frozenset({N.COMPENSATED, N.NOT_REVERSIBLE, N.NOTHING_TO_UNDO})
DONE: frozenset[str] = frozenset({N.COMPLETE, N.SKIPPED, N.CANCELLED}) | UNDONE
"""Node states that nothing more is waited for in."""


def node(status: str) -> Look:
    """The look of a node state."""
    return NODE.get(status) or Look("?", f"Unknown ({status[:20]})", "bright_black")


def workflow(status: str) -> Look:
    """The look of a workflow status."""
    return WORKFLOW.get(status) or Look("?", f"Unknown ({status[:20]})", "bright_black")
