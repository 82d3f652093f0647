"""A conversation that a person takes over: who may speak when, what is written down, and how it is given back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail_contracts.events import MAX_EVENT_BYTES
from handrail_contracts.tasks import Escalation, Outcome
from handrail_engine.decide import decide
from handrail_engine.explain import explain
from handrail_engine.inputs import Now, Outside, Rejection, Say, Start
from handrail_engine.state import WorkflowState
from handrail_engine.talk import newest
from unit.engine.saga import T0, Saga, node

ASKED = Escalation(
    reason="Charged twice.",
    summary="Two charges on one order.",
    transcript=[{"role": "user", "content": "I was charged twice"}],
    metadata={"order_id": "12345"},
    handover_message="A colleague takes over.",
)


def outside(callback_url: str | None = None) -> Saga:
    return Saga(outside=Outside(ASKED, "p-given-out", callback_url))


def talk(s: Saga) -> list[tuple[str, str]]:
    return [(line["role"], line["text"]) for line in s.pause["transcript"]]


def messages(s: Saga) -> list[dict[str, Any]]:
    return [r.data for r in s.rows if r.type == "MESSAGE_ADDED"]


# opening


def test_the_pause_shows_reason_summary_metadata_transcript_and_the_handover_sentence() -> None:
    s = Saga(node("a"))
    s.escalates("a", summary="it is about order 1", metadata={"order": 1}, handover_message="A colleague takes over.")
    assert (s.pause["failure_reason"], s.pause["summary"]) == ("out of depth", "it is about order 1")
    assert s.pause["context_snapshot"] == {"order": 1}
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL", "MESSAGE_ADDED"]
    assert talk(s) == [("user", "a person, please"), ("system", "A colleague takes over.")]


def test_without_a_handover_sentence_nothing_is_said() -> None:
    assert Saga(node("a")).escalates("a", handover_message="  ").told()[-1] == "WORKFLOW_PAUSED_HITL"


def test_lines_are_read_however_the_agent_wrote_them() -> None:
    line = outside().pause["transcript"][0]
    assert (line["role"], line["text"]) == ("user", "I was charged twice") and line["at"].endswith("Z")


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_an_escalation_with_an_empty_reason_is_a_failure(reason: str) -> None:
    s = Saga(node("a", retry={"max_attempts": 1}))
    s.answer("a", "escalated", escalation=Escalation(reason=reason))  # type: ignore[arg-type]
    assert s["a"].state == "DEAD_LETTERED"


def test_no_event_grows_beyond_its_limit_however_long_they_talked() -> None:
    transcript = [{"role": "user", "text": "ü" * 30_000, "at": "x"} for _ in range(200)]
    s = Saga(outside=Outside(Escalation(reason="r", transcript=transcript), "p1"))
    assert all(len(json.dumps(r.data, ensure_ascii=False).encode()) <= MAX_EVENT_BYTES for r in s.rows)
    assert talk(s)[0][1].endswith("earlier lines are not shown here.")


def test_not_even_with_all_the_evidence_of_earlier_attempts() -> None:
    s = Saga(node("a", retry={"max_attempts": 9, "backoff": "fixed", "initial_delay_s": 0, "jitter": "none"}))
    for _ in range(4):
        s.fails("a", evidence="x" * 47_000)
    talk = [{"role": "user", "text": "ü" * 19_000} for _ in range(20)]
    s.answer(
        "a", Outcome.ESCALATED, escalation=Escalation(reason="r" * 9_000, transcript=talk, metadata={"m": "y" * 47_000})
    )
    assert all(len(json.dumps(r.data, ensure_ascii=False).encode()) <= MAX_EVENT_BYTES for r in s.rows)
    s.press("RES_HAND_BACK")
    assert (s.sent()[-1].conversation or [])[-1]["role"] == "user"


@given(st.lists(st.integers(0, 60_000), max_size=12))
def test_the_newest_lines_are_kept_and_the_others_counted(sizes: list[int]) -> None:
    lines = [{"role": "user", "text": f"{i}" + "x" * size, "at": "t"} for i, size in enumerate(sizes)]
    kept = newest(lines)
    own = [line for line in kept if line["role"] == "user"]
    assert own == lines[len(lines) - len(own) :]
    assert len(own) == len(lines) or kept[0]["text"].startswith(f"{len(lines) - len(own)} earlier")


# answering


def test_a_reply_is_said_before_the_pause_closes() -> None:
    s = Saga(node("a")).escalates("a")
    s.press("RES_RESPOND", "The second charge is undone.")
    assert s.told()[:2] == ["MESSAGE_ADDED", "HITL_RESOLVED decided"]
    assert (messages(s)[-1]["role"], messages(s)[-1]["actor"]) == ("operator", "ada")
    assert s["a"].output == {"response": "The second charge is undone."}


def test_closing_completes_the_node_without_a_text() -> None:
    s = Saga(node("a")).escalates("a")
    s.press("RES_CLOSE")
    assert (s["a"].output, s.status, messages(s)) == ({"response": None}, "COMPLETED", [])


def test_handing_back_dispatches_again_with_all_that_was_said() -> None:
    s = Saga(node("a")).escalates("a")
    s.do(Say(s.pause["pause_id"], "operator", "One moment."))
    s.do(Say(s.pause["pause_id"], "user", "Thank you."))
    s.press("RES_HAND_BACK")
    sent = s.sent()[-1]
    assert sent.attempt == 2 and sent.conversation is not None
    assert [line["text"] for line in sent.conversation] == ["a person, please", "One moment.", "Thank you."]


# who has the word


def test_after_handing_back_the_agent_speaks_in_the_same_conversation() -> None:
    s = Saga(node("a")).escalates("a")
    pause_id = s.pause["pause_id"]
    s.press("RES_HAND_BACK")
    s.do(Say(pause_id, "agent", "I go on."))
    assert "withheld" not in messages(s)[-1]


def test_an_agent_that_speaks_while_a_person_has_the_conversation_is_withheld_and_written_down() -> None:
    s = Saga(node("a")).escalates("a")
    first = s.pause["pause_id"]
    s.press("RES_HAND_BACK")
    s.escalates("a")
    s.do(Say(first, "agent", "wait, I know"))
    assert messages(s)[-1]["withheld"] is True
    s.do(Say(s.pause["pause_id"], "agent", "really"))
    s.press("RES_HAND_BACK")
    sent = s.sent()[-1].conversation or []
    assert "really" not in [line["text"] for line in sent]


def test_what_was_accepted_before_a_pause_closed_is_written_down_after_it() -> None:
    s = Saga(node("a"), node("b")).escalates("a")
    pause_id = s.pause["pause_id"]
    s.press("RES_CLOSE")
    assert not isinstance(s.do(Say(pause_id, "operator", "bye")), Rejection)
    assert isinstance(s.do(Say("p-unknown", "operator", "bye")), Rejection)


@given(st.lists(st.sampled_from(["agent", "operator", "user", "escalate", "back", "owner"]), max_size=14))
def test_no_agent_message_passes_while_a_person_holds_the_conversation(steps: list[str]) -> None:
    """Kills: no check in `say`; a check of the named pause only, not of the node's; `talks` not folded."""
    s = Saga(node("a"))
    known: list[str] = []
    held = False
    for step in steps:
        if step == "escalate" and not held:
            s.escalates("a")
            known.append(s.pause["pause_id"])
            held = True
        elif step == "back" and held:
            s.press("RES_HAND_BACK")
            held = False
        elif step == "owner":
            s.owner_changes()
        elif step in ("agent", "operator", "user"):
            for pause_id in known:
                s.do(Say(pause_id, step, "words"))
                said = messages(s)[-1]
                assert (said["role"], said.get("withheld", False)) == (step, step == "agent" and held)


# from outside


def test_an_escalation_from_outside_is_a_workflow_whose_pause_id_was_given_out_before() -> None:
    s = outside()
    assert (s.status, s.pause["pause_id"], s.pause["kind"]) == ("PAUSED_HITL", "p-given-out", "escalation")
    assert (s.pause["failure_reason"], s.pause["context_snapshot"]) == ("Charged twice.", {"order_id": "12345"})
    assert s.buttons == ["RES_RESPOND", "RES_HAND_BACK", "RES_CLOSE", "RES_ABORT_SAGA"]
    assert s.messages == []


def test_answered_it_completes() -> None:
    s = outside()
    s.press("RES_RESPOND", "It is undone.")
    assert s.status == "COMPLETED"
    assert s.rows[-1].data["output"] == {"conversation": {"response": "It is undone."}}


def test_handed_back_it_stays_with_the_agent_outside_until_it_is_quiet() -> None:
    s = outside()
    s.press("RES_HAND_BACK")
    assert (s.status, s.states, s["conversation"].attempt) == ("RUNNING", {"conversation": "IN_PROGRESS"}, 2)
    assert "outside" in explain(s.state, s.now_ms)["sentence"]
    s.do(Say("p-given-out", "agent", "I go on."))
    assert "withheld" not in messages(s)[-1]
    s.owner_changes(bus_lost=True).wait(86_399)
    assert s.status == "RUNNING"
    s.wait(2)
    assert (s.status, s.messages) == ("COMPLETED", [])


@pytest.mark.parametrize("handed_back", [True, False])
@pytest.mark.parametrize("undo", [True, False])
def test_it_can_be_cancelled_whoever_has_the_conversation(handed_back: bool, undo: bool) -> None:
    s = outside()
    if handed_back:
        s.press("RES_HAND_BACK")
    s.cancel(undo=undo)
    assert (s.status, s.messages) == ("COMPENSATED" if undo else "CANCELLED", [])


def test_it_can_be_aborted() -> None:
    s = outside()
    s.press("RES_ABORT_SAGA")
    assert s.status == "COMPENSATED"


def test_whoever_is_called_back_is_told_what_people_say_and_decide_and_nothing_else() -> None:
    s = outside("https://agents.example/hook")
    pause_id = s.pause["pause_id"]
    for role in ("operator", "user"):
        s.do(Say(pause_id, role, role))
    s.press("RES_RESPOND", "done")
    told = [(r.type, r.data.get("text")) for r in s.rows if (r.meta or {}).get("callback") and "PAUSED" not in r.type]
    assert told == [
        ("MESSAGE_ADDED", "A colleague takes over."),
        ("MESSAGE_ADDED", "operator"),
        ("MESSAGE_ADDED", "done"),
        ("HITL_RESOLVED", None),
    ]


def test_the_address_of_a_callback_is_in_no_event() -> None:
    s = outside("https://agents.example/hook")
    s.press("RES_CLOSE")
    assert all("agents.example" not in json.dumps(r.data) for r in s.rows)


def test_the_same_escalation_twice_is_one() -> None:
    state = WorkflowState("t", "w")
    start = Start("r", None, {}, {}, None, outside=Outside(ASKED, "p1"))
    assert not isinstance(decide(state, start, Now(T0)), Rejection)
    assert isinstance(decide(state, start, Now(T0)), Rejection)
