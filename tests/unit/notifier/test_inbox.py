"""The inbox folded from events. Mutants killed: a repeat folded again; the end of a workflow not closing its pauses;
another workflow's pause closed; a release that keeps the claim; bounds off by one; a reload that old cursors survive."""

from __future__ import annotations

from tests.journals import Event, Story

from handrail_notifier.domain.inbox import FRAMES, OPEN, Inbox
from handrail_notifier.domain.window import Cold, Piece


def paused(trace_id: str, *pause_ids: str) -> Story:
    story = Story(trace_id)
    for pause_id in pause_ids:
        story.paused(pause_id, "a")
    return story


def folded(*events: Event) -> Inbox:
    inbox = Inbox([])
    for event in events:
        inbox.fold(event)
    return inbox


def ids(inbox: Inbox) -> list[str]:
    return [pause["pause_id"] for pause in inbox.pauses]


def test_pauses_open_newest_first_and_close() -> None:
    one, two = paused("one", "p1"), paused("two", "p2")
    inbox = folded(*one.events, *two.events)
    assert ids(inbox) == ["p2", "p1"]
    assert inbox.fold(one.resolved("p1"))
    assert ids(inbox) == ["p2"]


def test_claims_and_messages_show_on_the_pause() -> None:
    story = paused("one", "p1")
    story.add("PAUSE_UPDATED", pause_id="p1", claimed_by="ada", claimed_until="soon")
    said = story.add("MESSAGE_ADDED", pause_id="p1", role="operator", text="hi")
    (pause,) = folded(*story.events).pauses
    assert (pause["claimed_by"], pause["claimed_until"]) == ("ada", "soon")
    assert pause["transcript"] == [{"role": "operator", "text": "hi", "at": said["at"]}]
    story.add("PAUSE_UPDATED", pause_id="p1", claimed_by=None, claimed_until=None)
    assert folded(*story.events).pauses[0]["claimed_by"] is None


def test_what_was_seen_before_is_dropped_by_its_seq() -> None:
    story = paused("one", "p1")
    story.resolved("p1")
    inbox = folded(*story.events)
    assert [inbox.fold(event) for event in story.events] == [False, False]
    assert ids(inbox) == []


def test_a_snapshot_counts_as_seen_up_to_the_event_that_opened_the_pause() -> None:
    story = paused("one", "p1")
    claimed = {**story.events[0], "claimed_by": "ada"}
    inbox = Inbox([claimed])
    assert not inbox.fold(story.events[0])
    assert inbox.pauses[0]["claimed_by"] == "ada"
    assert inbox.fold(story.resolved("p1"))


def test_the_end_of_a_workflow_closes_its_pauses_and_is_news_only_then() -> None:
    one, two = paused("one", "p1", "p2"), paused("two", "p3")
    quiet = Story("quiet")
    inbox = folded(*one.events, *two.events)
    assert not inbox.fold(quiet.ended())
    assert inbox.fold(one.ended())
    assert ids(inbox) == ["p3"]


def test_an_update_of_a_pause_that_is_not_shown_is_still_passed_on() -> None:
    story = Story("one")
    assert folded().fold(story.add("PAUSE_UPDATED", pause_id="elsewhere", claimed_by="ada"))


def test_only_the_newest_are_kept_and_it_says_so() -> None:
    story = paused("one", *(f"p{i}" for i in range(OPEN)))
    inbox = folded(*story.events)
    assert (len(inbox.pauses), inbox.truncated) == (OPEN, False)
    inbox.fold(paused("two", "new").events[0])
    assert (len(inbox.pauses), inbox.truncated) == (OPEN, True)
    assert (ids(inbox)[0], ids(inbox)[-1]) == ("new", "p1")


def test_cursors_take_frames_in_order_until_they_are_too_far_behind() -> None:
    inbox = Inbox([])
    inbox.push(b"a")
    inbox.push(b"b")
    assert inbox.after(0) == Piece(b"ab", 2)
    assert inbox.after(2) is None
    for _ in range(FRAMES - 2):
        inbox.push(b".")
    assert isinstance(inbox.after(0), Piece)
    inbox.push(b"!")
    assert isinstance(inbox.after(0), Cold)


def test_no_cursor_survives_a_new_beginning() -> None:
    old = Inbox([])
    old.push(b"a")
    new = Inbox([], old.head + 1)
    assert isinstance(new.after(old.head), Cold)
    assert new.after(new.head) is None
