"""Every topic of Handrail: name, what it carries, key rule, partitions, retention. Nothing else names a topic.

`commands`, `results`, `heartbeats`, `dead-letters` and `events` are co-partitioned: all of them put a workflow into
`partition(tenant, trace_id)`, explicitly, so that one owner sees everything of a workflow (DESIGN section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DAY_MS = 24 * 3600 * 1000

COMMANDS = "handrail.commands"
RESULTS = "handrail.results"
HEARTBEATS = "handrail.heartbeats"
PROGRESS = "handrail.progress"
EVENTS = "handrail.events"
DEAD_LETTERS = "handrail.dead-letters"
QUARANTINE = "handrail.quarantine"
TASKS_PREFIX = "handrail.tasks."


class KeyRule(StrEnum):
    """What the record key is, and so what stays in order."""

    WORKFLOW = "tenant/trace_id, partition by partition(tenant, trace_id)"
    TASK = "tenant/trace_id/node_id, partition by the key"
    SOURCE = "topic/partition/offset of the record that was set aside"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `payload` names the model(s) of contracts that it carries; `co_partitioned` ones have P partitions."""

    name: str
    payload: tuple[str, ...]
    key: KeyRule
    co_partitioned: bool
    retention_ms: int
    why: str


TOPICS: tuple[Topic, ...] = (
    Topic(
        COMMANDS, ("Nudge",), KeyRule.WORKFLOW, True, 7 * DAY_MS, "gateway to owner: there is a command row to apply"
    ),
    Topic(RESULTS, ("Result",), KeyRule.WORKFLOW, True, 7 * DAY_MS, "agents to owner: how an attempt went"),
    Topic(
        HEARTBEATS, ("Heartbeat",), KeyRule.WORKFLOW, True, DAY_MS, "agents to owner: still at it; no offset is kept"
    ),
    Topic(
        PROGRESS,
        ("Progress",),
        KeyRule.WORKFLOW,
        True,
        DAY_MS,
        "agents to notifier: percent and log lines, never journaled",
    ),
    Topic(
        EVENTS, ("Event",), KeyRule.WORKFLOW, True, 14 * DAY_MS, "owner to everybody: the journal, in order, dense seq"
    ),
    Topic(
        DEAD_LETTERS,
        ("DeadLetter",),
        KeyRule.WORKFLOW,
        True,
        30 * DAY_MS,
        "owner to itself, or anyone: this task needs a person",
    ),
    Topic(QUARANTINE, ("Quarantined",), KeyRule.SOURCE, False, 30 * DAY_MS, "copies of records that could not be read"),
)
OWNER_INPUTS: tuple[str, ...] = (COMMANDS, RESULTS, DEAD_LETTERS)
"""Topics whose offsets the owner keeps in PostgreSQL. Heartbeats are read from the end, without an offset."""


def task_topic(agent: str) -> str:
    """The topic of an agent's tasks."""
    return TASKS_PREFIX + agent


def tasks(agent: str) -> Topic:
    """The description of an agent's task topic; made by the agents process before it registers."""
    return Topic(
        task_topic(agent), ("Task",), KeyRule.TASK, True, 7 * DAY_MS, f"owner to {agent}: do, undo, look up, cancel"
    )
