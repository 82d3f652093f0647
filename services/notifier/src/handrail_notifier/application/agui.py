"""Events of a workflow in the words of AG-UI (https://docs.ag-ui.com, protocol 1.0): a run lasts until the next pause or
the end, a node at work is a step, the state of CONTRACT section 3 travels as a snapshot and RFC 6902 patches, a pause is
an interrupt that names its buttons.

Pure: what an event becomes depends on the events before it and on nothing else, so it is encoded once for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    Interrupt,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)

from handrail_contracts.events import EventType, NodeStatus, WorkflowStatus
from handrail_contracts.pauses import SHORTHANDS
from handrail_contracts.view import WorkflowView

_AT_WORK = frozenset({NodeStatus.IN_PROGRESS, NodeStatus.COMPENSATING})
_AT_ONCE = frozenset({NodeStatus.COMPLETE, NodeStatus.COMPENSATED, NodeStatus.COMPENSATION_FAILED})
"""A node that gets here without having been seen at work was at work for less than 50 ms."""
_TOLD_AS_IS = frozenset({EventType.TASK_DEAD_LETTERED, EventType.GATE_EVALUATED, EventType.RESULT_IGNORED})
_SCALARS = ("status", "blueprint", "intent", "input", "labels", "output", "reason", "created_at")
_FAILED = frozenset({WorkflowStatus.FAILED, WorkflowStatus.COMPENSATION_INCOMPLETE})
_UNDONE = frozenset({WorkflowStatus.CANCELLED, WorkflowStatus.COMPENSATED})
_SHOWN_OF_A_PAUSE = (
    "available_resolutions",
    "kind",
    "node_id",
    "failed_agent",
    "context_snapshot",
    "raw_evidence",
    "evidence_digest",
    "proposed_action",
    "transcript",
)


@dataclass(frozen=True, slots=True)
class Told:
    """One event, told: what opens a run, the news, what ends the steps, and how the run ends (None: it goes on)."""

    seq: int
    opening: list[BaseEvent] = field(default_factory=list[BaseEvent])
    news: list[BaseEvent] = field(default_factory=list[BaseEvent])
    ending: list[BaseEvent] = field(default_factory=list[BaseEvent])
    last: RunFinishedEvent | RunErrorEvent | None = None

    def all(self) -> list[BaseEvent]:
        """In order."""
        return [*self.opening, *self.news, *self.ending, *([self.last] if self.last is not None else [])]


class Translator:
    """Tells the events of one workflow, from the first on, in order."""

    def __init__(self, trace_id: str) -> None:
        self.view = WorkflowView(trace_id)
        self.run_id = f"{trace_id}:1"
        self._steps: dict[str, str] = {}
        self._places: dict[str, int] = {}

    @property
    def running(self) -> bool:
        """A run is open: it has begun, has not ended, and waits for nobody."""
        view = self.view
        return view.cursor > 0 and not view.ended and not waits(view)

    def fold(self, event: Mapping[str, Any]) -> None:
        """As `tell` for an event that nobody will want to hear. Raises as `WorkflowView.apply`."""
        if not self.running:
            self.run_id = f"{self.view.trace_id}:{event['seq']}"
        self.view.apply(event)
        self._find_places()
        if event["event_type"] == EventType.NODE_STATE_CHANGED:
            self._step(event)

    def tell(self, event: Mapping[str, Any]) -> Told:
        """Folds the next event in and tells it. Raises as `WorkflowView.apply`."""
        view, was_running = self.view, self.running
        opening: list[BaseEvent] = []
        if not was_running:
            self.run_id = f"{view.trace_id}:{event['seq']}"
            opening = [
                RunStartedEvent(thread_id=view.trace_id, run_id=self.run_id),
                *([StateSnapshotEvent(snapshot=view.state())] if view.cursor == 0 else []),
                *self.steps_started(),
            ]
            # What is encoded later must not see what is folded now.
            opening = [_frozen(event) for event in opening]
        before = {name: getattr(view, name) for name in _SCALARS}
        pauses, known = dict(view.pauses), len(view.nodes)
        view.apply(event)
        self._find_places()
        news = self._news(event, before, pauses != view.pauses or _touches_pauses(event), known)
        if self.running:
            return Told(event["seq"], opening, news)
        return Told(event["seq"], opening, news, self.ending(), last(view, self.run_id))

    def steps_started(self) -> list[BaseEvent]:
        """The steps that are at work."""
        return [StepStartedEvent(step_name=name) for name in self._steps.values()]

    def ending(self) -> list[BaseEvent]:
        """What comes before the end of a run: steps end with it, and an interrupt is preceded by the state."""
        ended: list[BaseEvent] = [StepFinishedEvent(step_name=name) for name in self._steps.values()]
        return [*ended, *([_frozen(StateSnapshotEvent(snapshot=self.view.state()))] if waits(self.view) else [])]

    def _news(self, event: Mapping[str, Any], before: Mapping[str, Any], pauses: bool, known: int) -> list[BaseEvent]:
        kind = event["event_type"]
        started, finished = self._step(event) if kind == EventType.NODE_STATE_CHANGED else ([], [])
        patch: Any = list(
            self._patch(event, before, pauses, known)
        )  # dicts: the models of the operations have no public name
        delta = _frozen(StateDeltaEvent(delta=patch))
        news: list[BaseEvent] = [*started, delta, *finished]
        if kind == EventType.MESSAGE_ADDED:
            news += _message(event)
        elif kind in _TOLD_AS_IS:
            news.append(CustomEvent(name=f"handrail:{kind}", value=dict(event)))
        return news

    def _patch(
        self, event: Mapping[str, Any], before: Mapping[str, Any], pauses: bool, known: int
    ) -> Iterable[dict[str, Any]]:
        view = self.view
        yield _replace("cursor", str(view.cursor))
        yield _replace("updated_at", view.updated_at)
        for name, was in before.items():
            if getattr(view, name) is not was:
                yield _replace(name, getattr(view, name))
        for node in list(view.nodes.values())[known:] if len(view.nodes) > known else ():
            yield {"op": "add", "path": "/nodes/-", "value": node}
        place = self._places.get(event["node_id"]) if event["event_type"] == EventType.NODE_STATE_CHANGED else None
        if place is not None:
            yield {"op": "replace", "path": f"/nodes/{place}", "value": view.nodes[event["node_id"]]}
        if pauses:
            yield _replace("pauses", list(view.pauses.values()))

    def _step(self, event: Mapping[str, Any]) -> tuple[list[BaseEvent], list[BaseEvent]]:
        node_id, to = event["node_id"], event["to"]
        started: list[BaseEvent] = []
        finished: list[BaseEvent] = []
        undo = to in (NodeStatus.COMPENSATING, NodeStatus.COMPENSATED, NodeStatus.COMPENSATION_FAILED)
        name = f"undo {node_id}" if undo else node_id
        old = self._steps.get(node_id)
        if old is not None and (to not in _AT_WORK or old != name):
            finished.append(StepFinishedEvent(step_name=old))
            del self._steps[node_id]
        if to in _AT_WORK and node_id not in self._steps:
            started.append(StepStartedEvent(step_name=name))
            self._steps[node_id] = name
        elif to in _AT_ONCE and old is None:
            started.append(StepStartedEvent(step_name=name))
            finished.append(StepFinishedEvent(step_name=name))
        return (started, finished) if not (finished and to in _AT_WORK) else ([*finished, *started], [])

    def _find_places(self) -> None:
        if len(self._places) != len(self.view.nodes):
            self._places = {node_id: place for place, node_id in enumerate(self.view.nodes)}


def waits(view: WorkflowView) -> bool:
    """Whether it stands still until a person decides."""
    return view.status == WorkflowStatus.PAUSED_HITL and bool(view.pauses)


def last(view: WorkflowView, run_id: str) -> RunFinishedEvent | RunErrorEvent:
    """How a run ends that does not go on, under the name that its reader knows it by."""
    ids: dict[str, Any] = {"thread_id": view.trace_id, "run_id": run_id}
    if not view.ended:
        asked = [interrupt(pause) for pause in view.pauses.values()]
        return RunFinishedEvent(**ids, outcome=RunFinishedInterruptOutcome(interrupts=asked))
    if view.status in _FAILED:
        return RunErrorEvent(message=view.reason or f"The workflow ended {view.status}.", code=view.status)
    if view.status in _UNDONE:
        return RunFinishedEvent(**ids, outcome=RunFinishedCancelledOutcome())
    return RunFinishedEvent(**ids, result=view.output, outcome=RunFinishedSuccessOutcome())


def interrupt(pause: Mapping[str, Any]) -> Interrupt:
    """A pause as AG-UI asks a person: `payload` of the answer is `{action_id, input?, comment?}`."""
    return Interrupt(
        id=pause["pause_id"],
        reason=f"handrail:{pause['kind']}",
        message=pause["failure_reason"],
        response_schema=answer_schema(pause["available_resolutions"]),
        expires_at=pause.get("expires_at"),
        metadata={name: pause[name] for name in _SHOWN_OF_A_PAUSE if pause.get(name) is not None},
    )


def answer_schema(resolutions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """JSON Schema 2020-12 of the answer: one branch per button."""
    branches: list[dict[str, Any]] = []
    for button in resolutions:
        properties: dict[str, Any] = {"action_id": {"const": button["action_id"], "title": button["display_text"]}}
        asked = button.get("input_schema")
        if button["requires_input"]:
            properties["input"] = SHORTHANDS.get(asked, {}) if isinstance(asked, str) else (asked or {})
        required = ["action_id", *(["input"] if button["requires_input"] else [])]
        properties["comment"] = {"type": "string"}
        branches.append({"type": "object", "properties": properties, "required": required})
    return {"type": "object", "required": ["action_id"], "oneOf": branches}


def _message(event: Mapping[str, Any]) -> list[BaseEvent]:
    message_id = f"{event['trace_id']}:{event['seq']}"
    if not event["text"]:
        return []
    role = "user" if event["role"] == "user" else "assistant"
    return [
        TextMessageStartEvent(message_id=message_id, role=role, name=event["role"]),
        TextMessageContentEvent(message_id=message_id, delta=event["text"]),
        TextMessageEndEvent(message_id=message_id),
    ]


def _touches_pauses(event: Mapping[str, Any]) -> bool:
    return event["event_type"] in (EventType.PAUSE_UPDATED, EventType.MESSAGE_ADDED)


def _replace(name: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": f"/{name}", "value": value}


class _Frozen(BaseEvent):
    """An event that was encoded when it was told."""

    body: bytes = b""


def _frozen(event: BaseEvent) -> BaseEvent:
    return _Frozen(type=event.type, body=encoded(event))


def encoded(event: BaseEvent) -> bytes:
    """An AG-UI event as JSON."""
    return event.body if isinstance(event, _Frozen) else event.model_dump_json(by_alias=True).encode()
