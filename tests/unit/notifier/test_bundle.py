"""Several workflows on one stream: what a client is told that fell behind, and how frames lose their ids."""

from __future__ import annotations

from tests.journals import Story, wire

from handrail_contracts.view import WorkflowView
from handrail_notifier.application import bundle as bundle_module
from handrail_notifier.application.bundle import Bundle, without_id
from handrail_notifier.application.ports import Row
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.ring import Ring
from handrail_notifier.domain.window import Piece
from handrail_notifier.entrypoints.frames import SseFrames


def watched(trace_id: str) -> tuple[Watched, Story]:
    found = Watched(("t", trace_id), SseFrames())
    found.ring = Ring(WorkflowView(trace_id))
    return found, Story(trace_id)


def live(bundle: Bundle, workflow: Watched, story: Story, events: int = 1) -> None:
    for _ in range(events):
        event = story.add("X")
        workflow.offer(Row(event["seq"], "X", wire(event)), event, 0)
        bundle.pull(workflow)


async def test_frames_of_all_members_follow_in_the_order_in_which_they_came() -> None:
    bundle = Bundle(SseFrames(), None)
    (one, first), (two, second) = watched("one"), watched("two")
    bundle.add(one, None)
    bundle.add(two, None)
    live(bundle, one, first)
    live(bundle, two, second)
    live(bundle, one, first)
    piece = bundle.after(0)
    assert isinstance(piece, Piece)
    assert b"id:" not in piece.body
    assert [line for line in piece.body.split(b"\n") if line.startswith(b"data")] == [
        b"data: " + wire(event) for event in (first.events[0], second.events[0], first.events[1])
    ]
    assert bundle.after(piece.cursor) is None


async def test_a_client_that_cannot_keep_up_gets_reset_and_all_snapshots() -> None:
    bundle = Bundle(SseFrames(), None)
    (one, first), (two, second) = watched("one"), watched("two")
    bundle.add(one, None)
    bundle.add(two, None)
    live(bundle, two, second)
    live(bundle, one, first, bundle_module.FRAMES)
    piece = bundle.after(0)
    assert isinstance(piece, Piece)
    assert piece.body.startswith(b"event: reset\n")
    assert piece.body.count(b"event: snapshot\n") == 2
    assert piece.cursor == bundle.head
    live(bundle, two, second)
    follows = bundle.after(piece.cursor)
    assert isinstance(follows, Piece)
    assert wire(second.events[-1]) in follows.body


async def test_a_member_that_joined_with_more_behind_it_than_memory_holds_begins_with_a_snapshot() -> None:
    bundle = Bundle(SseFrames(), "a:b")
    story = Story("one")
    for _ in range(5):
        story.add("X")
    one = Watched(("t", "one"), SseFrames())
    one.ring = Ring(WorkflowView("one").apply_all(story.events))
    bundle.add(one, 0)
    piece = bundle.after(0)
    assert isinstance(piece, Piece)
    assert piece.body.startswith(b"event: reset\n")
    assert b'"cursor":"5"' in piece.body


async def test_it_ends_when_all_have_ended_unless_more_can_join() -> None:
    named, by_label = Bundle(SseFrames(), None), Bundle(SseFrames(), "a:b")
    one, story = watched("one")
    for bundle in (named, by_label):
        bundle.add(one, None)
    assert (named.ended, by_label.ended) == (False, False)
    event = story.ended()
    one.offer(Row(1, "WORKFLOW_COMPLETED", wire(event)), event, 0)
    assert (named.ended, by_label.ended) == (True, False)


def test_only_the_id_of_a_frame_is_left_out() -> None:
    frames = SseFrames()
    assert without_id(frames.event(7, "X", b"{}")) == frames.event(None, "X", b"{}") == b"event: X\ndata: {}\n\n"
    assert without_id(frames.end("FAILED")) == frames.end("FAILED")
