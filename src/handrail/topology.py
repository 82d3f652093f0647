"""Which service listens to which topic, and who writes it. Asserted against the sources in tests/architecture."""

from __future__ import annotations

from dataclasses import dataclass

from handrail_contracts import topics

TASKS = topics.TASKS_PREFIX + "*"


@dataclass(frozen=True, slots=True)
class Lines:
    """One service's connections to the bus."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


TOPOLOGY: dict[str, Lines] = {
    "gateway": Lines(reads=(), writes=(topics.COMMANDS,)),
    "orchestrator": Lines(
        reads=(topics.COMMANDS, topics.RESULTS, topics.DEAD_LETTERS, topics.HEARTBEATS),
        writes=(TASKS, topics.EVENTS, topics.DEAD_LETTERS, topics.QUARANTINE),
    ),
    "agents": Lines(reads=(TASKS,), writes=(topics.RESULTS, topics.HEARTBEATS, topics.PROGRESS, topics.QUARANTINE)),
    "notifier": Lines(reads=(topics.EVENTS, topics.PROGRESS), writes=()),
}


def drawing() -> str:
    """The topology as a Mermaid graph, for the documentation."""
    lines = ["graph LR"]
    for service, of in TOPOLOGY.items():
        lines.extend(f"  {service} --> {topic.replace('*', 'agent')}([{topic}])" for topic in of.writes)
        lines.extend(f"  {topic.replace('*', 'agent')}([{topic}]) --> {service}" for topic in of.reads)
    return "\n".join(lines)
