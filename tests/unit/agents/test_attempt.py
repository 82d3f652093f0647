"""The end of an attempt in words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.agents.attempts import attempt, task

from handrail_agents.runtime.attempt import again, fitting, plain_result, plainly, raised, succeeded
from handrail_contracts import codec
from handrail_contracts.tasks import MAX_RESULT_BYTES, Escalation, Outcome, ProposedAction, Result, TaskKind
from handrail_sdk.failures import INVALID_RESULT, SECOND_PROPOSAL, Escalated, Fail, Proposed


@pytest.mark.parametrize(
    ("error", "effect_class", "outcome", "code"),
    [
        (Fail("NO"), "unsafe", Outcome.FAILED, "NO"),
        (Fail(INVALID_RESULT), "pure", Outcome.FAILED, INVALID_RESULT),
        (Fail(INVALID_RESULT), "idempotent", Outcome.IN_DOUBT, INVALID_RESULT),
        (Fail(SECOND_PROPOSAL), "unsafe", Outcome.IN_DOUBT, SECOND_PROPOSAL),
        (ValueError("x"), "pure", Outcome.IN_DOUBT, "ValueError"),
        (KeyboardInterrupt(), "idempotent", Outcome.IN_DOUBT, "KeyboardInterrupt"),
        (asyncio.CancelledError(), "pure", Outcome.IN_DOUBT, "CancelledError"),
        (asyncio.CancelledError(), "idempotent", Outcome.IN_DOUBT, "CancelledError"),
    ],
)
def test_only_a_failure_that_is_vouched_for_is_definite(
    error: BaseException, effect_class: str, outcome: Outcome, code: str
) -> None:
    r = raised(attempt(effect_class=effect_class), error)
    assert (r.outcome, r.error and r.error.code) == (outcome, code)


@pytest.mark.parametrize(
    ("why", "effect_class", "outcome"),
    [
        ("cancelled", "pure", Outcome.CANCELLED),
        ("cancelled", "idempotent", Outcome.IN_DOUBT),
        ("start-to-close", "pure", Outcome.IN_DOUBT),
        ("worker-stopped", "pure", Outcome.IN_DOUBT),
    ],
)
def test_what_was_stopped_midway_says_why(why: str, effect_class: str, outcome: Outcome) -> None:
    a = attempt(effect_class=effect_class)
    a.interrupted = why
    r = raised(a, asyncio.CancelledError())
    assert r.outcome is outcome
    if outcome is Outcome.IN_DOUBT:
        assert r.error is not None
        assert r.error.code == why
        assert r.error.message.endswith(".")


def test_escalations_and_proposals_are_carried_whole() -> None:
    asked = Escalation(reason="help", transcript=[{"role": "user", "text": "hi", "at": "now"}], metadata={"a": 1})
    assert raised(attempt(), Escalated(asked)).escalation == asked
    wanted = ProposedAction(action="pay", args={"amount": 5})
    assert raised(attempt(), Proposed(wanted)).proposed == wanted


def test_a_conversation_that_does_not_fit_gets_a_person_with_its_newest_lines() -> None:
    said = [{"role": "user", "text": f"{n} " + "x" * 50_000} for n in range(40)]
    large = Escalation(reason="help", summary="s", transcript=said, metadata={"cart": "y" * 100_000, "order": 7})
    r, value = fitting(attempt(), raised(attempt(), Escalated(large)))
    assert r.outcome is Outcome.ESCALATED and len(value) <= MAX_RESULT_BYTES and r.escalation is not None
    first, *lines = r.escalation.transcript
    assert first["text"] == f"{40 - len(lines)} earlier lines were too much to be sent."
    assert [line["text"][:3] for line in lines] == [f"{n} " for n in range(40 - len(lines), 40)] and len(lines) > 5
    assert r.escalation.metadata == {"omitted": "100021 bytes of metadata"}
    broken = Escalation(reason="a\ud800", transcript=[{"role": "user", "text": "\ud83d"}], metadata={"a": "\ud800"})
    r, _ = fitting(attempt(), raised(attempt(), Escalated(broken)))
    assert r.escalation is not None and (r.escalation.reason, r.escalation.transcript[0]["text"]) == ("a?", "?")


def test_a_value_that_does_not_fit_and_a_group_say_what_was_wrong() -> None:
    with pytest.raises(ValidationError) as invalid:
        Escalation.model_validate({"reason": {"card": "4000"}})
    error = raised(attempt(), invalid.value).error
    assert error is not None and "reason: Input should be a valid string." in error.message
    assert "4000" not in error.message, "and not the value"
    group = BaseExceptionGroup("children failed", [BaseExceptionGroup("more", [Fail("NO", "not there")])])
    error = raised(attempt(), group).error
    assert error is not None and error.message == "children failed (1 sub-exception): Fail: NO: not there"


def test_an_undo_that_asks_for_a_person_has_failed_and_says_why() -> None:
    undo = attempt(kind=TaskKind.COMPENSATE)
    r = raised(undo, Escalated(Escalation(reason="The bank is closed.", summary="Call them.", metadata={"order": 7})))
    assert r.outcome is Outcome.FAILED and r.error is not None
    assert (r.error.code, r.error.message, r.error.retryable) == ("escalated", "The bank is closed.", False)
    assert r.error.evidence == {"summary": "Call them.", "metadata": {"order": 7}}
    r = raised(undo, Proposed(ProposedAction(action="pay")))
    assert r.outcome is Outcome.FAILED and r.error is not None and "proposes pay" in r.error.message


def test_an_exceptions_words_are_one_short_line_whatever_it_does() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    long = raised(attempt(), ValueError("first line\nsecond line" + "x" * 10_000)).error
    assert long is not None
    assert long.message == "first line"
    assert raised(attempt(), ValueError("y" * 10_000)).error.message == "y" * 500  # type: ignore[union-attr]
    assert raised(attempt(), Rude()).error.code == "Rude"  # type: ignore[union-attr]
    lone = raised(attempt(), ValueError("\ud800")).error
    assert lone is not None
    codec.encode(plain_result(task(), Outcome.IN_DOUBT, error=lone))


@pytest.mark.parametrize(
    ("effect_class", "outcome"),
    [("pure", Outcome.FAILED), ("idempotent", Outcome.IN_DOUBT), ("unsafe", Outcome.IN_DOUBT)],
)
@pytest.mark.parametrize("output", ["x" * (MAX_RESULT_BYTES + 1), "\ud800"])
def test_an_answer_that_fits_into_no_record_is_replaced_by_one_that_says_so(
    effect_class: str, outcome: Outcome, output: Any
) -> None:
    a = attempt(effect_class=effect_class)
    told, value = fitting(a, succeeded(a.task, output, worker="w", started_at="s", finished_at="f"))
    assert (told.outcome, told.worker, told.started_at, told.finished_at) == (outcome, "w", "s", "f")
    assert told.error is not None
    assert told.error.code in ("result-too-large", "invalid-result")
    assert len(value) < 2_000
    assert codec.decode("handrail.results", _HEADERS, value)[1] == told


@pytest.mark.parametrize("tenant", ["default", "acme"])
@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize(
    "output",
    [
        None,
        False,
        0,
        "",
        [],
        {},
        {"b": 1, "a": [1.5, None, True, 'é\u2028\x00"\\/'], "nested": {"": {}}},
        [float("nan"), float("inf"), -float("inf"), 0.1 + 0.2, 1e16, 1e-7, -0.0, 1e300],
        [2**53 + 1, 2**64, -(2**70)],
        {1: "a", None: "b", 0.5: "d"},
    ],
    ids=repr,
)
def test_an_answer_that_is_written_without_its_message_has_the_same_bytes(
    tenant: str, kind: TaskKind, output: Any
) -> None:
    t = task(tenant=tenant, kind=kind, attempt=7)
    made = codec.encode(succeeded(t, output, worker="w", started_at="s", finished_at="f"))
    assert plainly(t, output, "w", "s", "f") == made


@pytest.mark.parametrize("output", ["x" * (MAX_RESULT_BYTES + 1), "\ud800", object()])
def test_an_answer_that_must_be_replaced_is_not_written_without_its_message(output: Any) -> None:
    assert plainly(task(), output, "w", "s", "f") is None
    assert plainly(task(agent="planner", action="plan"), {"nodes": []}, "w", "s", "f") is None


def test_a_failure_with_too_much_evidence_stays_that_failure() -> None:
    a = attempt()
    told, _ = fitting(a, raised(a, Fail("VENDOR", "said no", "x" * (MAX_RESULT_BYTES + 1), retryable=False)))
    assert told.outcome is Outcome.FAILED
    assert told.error is not None
    assert (told.error.code, told.error.retryable) == ("VENDOR", False)
    assert "said no" in told.error.message


def test_a_stored_answer_is_given_to_whoever_asks_under_his_number() -> None:
    stored = codec.encode(succeeded(task(attempt=1), {"po": "1"}, worker="w"))
    for kind, as_kind in ((TaskKind.EXECUTE,) * 2, (TaskKind.LOOK_UP,) * 2, (TaskKind.CANCEL, TaskKind.EXECUTE)):
        r = again(stored, task(attempt=4, kind=kind))
        assert (r.kind, r.attempt, r.outcome, r.output, r.worker) == (as_kind, 4, Outcome.OK, {"po": "1"}, "w")
    with pytest.raises(ValueError, match="JSON"):
        again(b"{", task())


def test_a_plan_stands_apart_from_the_output_only_where_the_planner_gives_it() -> None:
    plan = {"nodes": [{"id": "a"}]}
    assert succeeded(task(agent="planner", action="plan"), plan).nodes == plan["nodes"]
    assert succeeded(task(agent="planner", action="plan", kind=TaskKind.COMPENSATE), plan).nodes is None
    assert succeeded(task(), plan).nodes is None


def test_steps_that_a_task_added_stand_beside_its_output() -> None:
    more = [{"id": "x", "agent": "bot", "action": "act"}]
    stored = codec.encode(succeeded(task(attempt=1), "done", more))
    assert again(stored, task(attempt=1)).nodes == more


_HEADERS = [("ce_specversion", b"1.0"), ("ce_id", b"i"), ("ce_type", b"t"), ("ce_source", b"s")]


def test_results_name_whom_they_answer() -> None:
    t = task(tenant="acme", kind=TaskKind.COMPENSATE, attempt=3)
    r: Result = plain_result(t, Outcome.STARTED)
    assert (r.tenant, r.trace_id, r.node_id, r.effect_key) == ("acme", "t", "n", t.effect_key)
    assert (r.attempt, r.kind) == (3, TaskKind.COMPENSATE)
