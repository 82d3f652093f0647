"""What only an owner knows: leases, sends, wake-ups; and what a new owner, or a new bus, makes of it."""

from __future__ import annotations

from handrail_contracts.tasks import DeadLetter, Heartbeat, Outcome, TaskKind
from handrail_engine.decide import adopt, decide, heard
from handrail_engine.inputs import Now, Rejection, Wake
from unit.engine.saga import T0, Saga, node

EFFECT = {"effect_class": "idempotent"}


def test_a_wake_with_nothing_due_changes_nothing() -> None:
    s = Saga(node("a"))
    assert s.do(Wake()) == Rejection("nothing-due", "")


def test_a_new_owner_starts_every_lease_afresh() -> None:
    s = Saga(node("a", **EFFECT)).started("a").wait(4).owner_changes().wait(4.9)
    assert s.states["a"] == "IN_PROGRESS"
    s.wait(0.2)
    assert s.states["a"] == "RETRYING"


def test_start_to_close_is_not_started_afresh() -> None:
    s = Saga(node("a", timeouts={"start_to_close_s": 10}, **EFFECT)).started("a").wait(4).owner_changes()
    for _ in range(4):
        s.heartbeat("a")
        s.wait(2)
    assert s["a"].error and s["a"].error["code"] == "start-to-close"


def test_a_new_owner_does_not_give_up_what_the_old_one_may_have_sent_again() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 5}))
    s.last_claim["bot"] = T0 + 1
    s.wait(5)  # others are being claimed: it is sent once more, with a window of half a minute and more
    window = s.sent()[-1].start_before
    s.owner_changes()
    s.last_claim.clear()
    s.wait(60)
    assert s.pause["kind"] == "failure"
    given_up = next(r for r in s.rows if r.type == "NODE_STATE_CHANGED" and r.data["to"] == "AWAITING_HUMAN")
    assert given_up.data["at"] > window


def test_an_attempt_is_asked_for_once_more_shortly_before_it_is_given_up() -> None:
    """Its words may all be lost, and a new owner's send moves the next one: whoever has done it must be asked again."""
    s = Saga(node("a", timeouts={"schedule_to_start_s": 40}, **EFFECT)).wait(17)
    s.owner_changes(bus_lost=True)
    sent = len(s.sent())
    s.wait(22)
    assert len(s.sent()) == sent + 1 and s["a"].attempt == 1
    s.wait(4)
    assert s.pause["failure_reason"] == "no agent of type bot for 40 s"


def test_on_a_lost_bus_unclaimed_attempts_and_unreturned_dead_letters_are_sent_again() -> None:
    s = Saga(node("a"), node("b"), node("c"), node("d")).started("b").ok("c").fails("d", retryable=False)
    sent = len(s.messages)
    s.owner_changes(bus_lost=True)
    again = s.messages[sent:]
    assert [(m.node_id, getattr(m, "attempt", None)) for m in again] == [("a", 1), ("d", None)]
    letter = again[1]
    assert isinstance(letter, DeadLetter) and letter.dead_letter_id == s["d"].dead_letter[0]  # type: ignore[index]
    s.letter("d", letter.dead_letter_id)
    assert s.pause["node_id"] == "d"


def test_what_waits_for_room_keeps_its_place_under_the_next_owner() -> None:
    s = Saga(node("x"), node("later", "x") | {"agent": "ann"}, node("sooner") | {"agent": "ann"}, room={"ann": 0})
    s.ok("x")
    assert list(s.state.crowded["ann/act"]) == ["sooner", "later"]
    s.owner_changes()
    assert list(s.state.crowded["ann/act"]) == ["sooner", "later"]


def test_a_lost_bus_adds_no_row_and_can_be_adopted_twice() -> None:
    s = Saga(node("a"))
    before = s.state.facts()
    first = adopt(s.state, Now(s.now_ms + 1))
    assert len(adopt(s.state, Now(s.now_ms + 2))) == len(first) == 1
    assert s.state.facts() == before


def test_heartbeats_of_others_move_no_lease() -> None:
    s = Saga(node("a")).started("a").wait(1)
    lease = s["a"].live.lease_until  # type: ignore[union-attr]
    for attempt, key, name in ((2, "t/w/a/1", "a"), (1, "t/w/a/2", "a"), (1, "t/w/a/1", "nobody")):
        beat = Heartbeat(trace_id="w", node_id=name, attempt=attempt, effect_key=key)
        assert not heard(s.state, beat, Now(s.now_ms))
    assert s["a"].live.lease_until == lease  # type: ignore[union-attr]
    assert s.heartbeat("a")
    s.ok("a")
    assert not s.heartbeat("a")


def test_heartbeats_keep_an_undo_alive() -> None:
    s = Saga(node("a", **EFFECT), node("z")).ok("a").cancel().started("a")
    for _ in range(4):
        s.wait(4)
        assert s.heartbeat("a")
    assert s.states["a"] == "COMPENSATING" and s["a"].undo.attempt == 1


def test_a_late_wake_does_everything_that_is_due() -> None:
    s = Saga(node("a", **EFFECT), node("b"), node("c", expiry={"after_s": 5, "action_id": "RES_SKIP"}))
    s.started("a").fails("b").fails("c", retryable=False)
    s.now_ms += 3_600_000
    s.do(Wake())
    assert s.state_of("a", "b", "c") == ["RETRYING", "SCHEDULED", "AWAITING_HUMAN"]
    s.wait(100)
    assert s.states["c"] == "SKIPPED"


def test_decide_touches_nothing_when_it_rejects_an_unknown_kind_of_answer() -> None:
    s = Saga(node("a"))
    assert isinstance(s.answer("a", Outcome.OK, undo=True, key="t/w/a/1/undo/0", attempt=0), Rejection)
    assert s.sent(TaskKind.COMPENSATE) == []
    assert isinstance(decide(s.state, Wake(), Now(0)), Rejection)
