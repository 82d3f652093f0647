"""How long is waited, and when no longer, on a running system: what an agent asks for, what a plan says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.e2e.strange import Strange

ONCE = {"max_attempts": 1}


def script(*outcomes: str, retry: dict[str, Any], duration_ms: int = 0, **fields: Any) -> dict[str, Any]:
    inputs = {"outcomes": list(outcomes), "duration_ms": duration_ms, "output": {"done": True}}
    node = {"id": "a", "agent": "simulator", "action": "script", "inputs": inputs, "retry": retry, **fields}
    return {"nodes": [node]}


def waits(handrail: Strange, trace_id: str) -> list[tuple[float, float]]:
    """Of each retry: the wait that was announced, and the one that was kept, in seconds."""
    found: list[tuple[float, float]] = []
    told: dict[str, Any] | None = None
    for event in handrail.state(trace_id, history=True)["history"]:
        if event["event_type"] == "NODE_STATE_CHANGED" and event["to"] == "RETRYING":
            told = event
        elif event["event_type"] == "NODE_STATE_CHANGED" and event["to"] == "SCHEDULED" and told is not None:
            failed = instant(told["at"])
            found.append((instant(told["retry_at"]) - failed, instant(event["at"]) - failed))
            told = None
    return found


def instant(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def test_a_linear_backoff_grows_by_its_first_delay(handrail: Strange) -> None:
    retry = {"max_attempts": 4, "backoff": "linear", "initial_delay_s": 0.2, "jitter": "none"}
    name = handrail.start(plan=script("error:AGAIN", "error:AGAIN", "error:AGAIN", "ok", retry=retry))
    assert handrail.ended(name)["status"] == "COMPLETED"
    found = waits(handrail, name)
    assert [round(told, 3) for told, _ in found] == [0.2, 0.4, 0.6]
    assert all(kept >= told for told, kept in found)


def test_an_agent_is_asked_again_when_it_said(handrail: Strange) -> None:
    retry = {"max_attempts": 2, "backoff": "fixed", "initial_delay_s": 3600, "jitter": "none"}
    name = handrail.start(plan=script("busy:700", "ok", retry=retry))
    assert handrail.ended(name)["status"] == "COMPLETED"
    [(told, kept)] = waits(handrail, name)
    assert round(told, 3) == 0.7 and kept >= told


def test_an_attempt_that_lives_and_never_comes_to_an_end_is_ended(handrail: Strange) -> None:
    limits = {"start_to_close_s": 8, "lease_s": 4}
    name = handrail.start(plan=script("ok", retry=ONCE, duration_ms=600_000, timeouts=limits))
    pause = handrail.paused(name)
    assert (pause["kind"], pause["node_id"]) == ("failure", "a")
    assert "start-to-close" in pause["failure_reason"], pause["failure_reason"]
    [attempt] = pause["attempts"]
    assert instant(attempt["finished_at"]) - instant(attempt["started_at"]) > 4  # eight seconds, by the worker's clock
    assert handrail.resume(name, "RES_SKIP").status_code == 202
    assert handrail.ended(name)["status"] == "COMPLETED_WITH_SKIPS"
