"""The ring: whatever way it was started and fed, a cursor sees every `seq` once, rising, or is told to reset.

Mutants planted by hand and killed here: a gap taken; a duplicate kept twice; pieces not forgotten when the head moves;
`base` off by one; the window `>=`; frames kept beyond the window; a piece's cursor off by one; a piece longer than it
may be; frames not dropped by `fold`; the byte bound ignored; the ring emptied by one frame larger than the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handrail_contracts.view import WorkflowView
from handrail_notifier.domain import ring as ring_module
from handrail_notifier.domain.position import WINDOW, GoOn, Over, Reset, opening
from handrail_notifier.domain.ring import Lost, Offered, Ring
from handrail_notifier.domain.window import MAX_PIECE_BYTES, Cold, Piece


def event(seq: int, *, last: int | None = None) -> dict[str, Any]:
    kind = "WORKFLOW_COMPLETED" if seq == last else "RESULT_IGNORED"
    end = {"status": "COMPLETED", "output": None, "reason": None} if seq == last else {}
    return {"event_type": kind, "trace_id": "t", "seq": seq, "at": f"{seq}", **end}


def frame(seq: int, size: int = 0) -> bytes:
    return b"[%d]" % seq + b"." * size


def seqs(body: bytes) -> list[int]:
    return [int(part.rstrip(b"].")) for part in body.split(b"[") if part]


def ring_at(
    head: int, *, frames: int | None = None, size: int = 0, max_bytes: int = ring_module.MAX_RING_BYTES
) -> Ring:
    view = WorkflowView("t").apply_all(event(seq) for seq in range(1, head + 1))
    kept = head if frames is None else frames
    return Ring(view, [frame(seq, size) for seq in range(head - kept + 1, head + 1)], max_bytes=max_bytes)


def test_the_next_event_is_taken_a_known_one_dropped_and_a_later_one_refused() -> None:
    ring = ring_at(3)
    assert ring.take(event(3), frame(3)) is Offered.DUPLICATE
    assert ring.take(event(5), frame(5)) is Offered.GAP
    assert ring.take(event(4), frame(4)) is Offered.TAKEN
    assert (ring.head, ring.base, ring.ended) == (4, 0, False)
    assert ring.after(0) == Piece(b"[1][2][3][4]", 4)


def test_a_client_at_the_head_waits_and_then_gets_what_came() -> None:
    ring = ring_at(3)
    assert ring.after(3) is None
    ring.take(event(4), frame(4))
    assert ring.after(3) == Piece(b"[4]", 4)
    ring.take(event(5), frame(5))
    assert ring.after(3) == Piece(b"[4][5]", 5)
    assert ring.after(4) == Piece(b"[5]", 5)


def test_clients_at_the_same_cursor_share_one_piece() -> None:
    ring = ring_at(10)
    assert ring.after(3) is ring.after(3)


def test_a_cursor_behind_the_window_is_lost_and_one_at_its_edge_is_not() -> None:
    ring = ring_at(WINDOW + 5)
    assert isinstance(ring.after(4), Lost)
    assert isinstance(ring.after(5), Piece)
    assert ring.base == 5


def test_frames_that_were_not_loaded_are_to_be_had_from_the_journal() -> None:
    ring = ring_at(20, frames=5)
    assert isinstance(ring.after(14), Cold)
    assert ring.after(15) == Piece(b"[16][17][18][19][20]", 20)


def test_large_frames_leave_the_ring_but_stay_within_reach() -> None:
    ring = ring_at(0, max_bytes=1000)
    for seq in range(1, 11):
        ring.take(event(seq), frame(seq, 300))
    assert (ring.head, ring.base) == (10, 7)
    assert ring.size_bytes <= 1000
    assert isinstance(ring.after(6), Cold)


def test_one_frame_larger_than_the_bound_is_kept() -> None:
    ring = ring_at(0, max_bytes=100)
    ring.take(event(1), frame(1, 500))
    assert ring.after(0) == Piece(frame(1, 500), 1)


def test_a_piece_is_bounded_and_one_large_frame_is_a_piece_of_its_own() -> None:
    ring = ring_at(4, size=MAX_PIECE_BYTES // 2)
    ring.take(event(5), frame(5, 2 * MAX_PIECE_BYTES))
    cursor, pieces = 0, []
    while (piece := ring.after(cursor)) is not None:
        assert isinstance(piece, Piece)
        pieces.append(piece.body)
        cursor = piece.cursor
    assert [seqs(body) for body in pieces] == [[1], [2], [3], [4], [5]]


def test_old_events_are_folded_without_frames() -> None:
    ring = Ring(WorkflowView("t"))
    for seq in (1, 2, 3):
        assert ring.fold(event(seq)) is Offered.TAKEN
    ring.take(event(4), frame(4))
    assert (ring.head, ring.base) == (4, 3)
    assert isinstance(ring.after(2), Cold)
    assert ring.fold(event(5)) is Offered.TAKEN
    assert (ring.base, ring.size_bytes) == (5, 0)
    assert isinstance(ring.after(4), Cold)


def test_an_event_that_is_not_one_of_ours_leaves_no_frame_behind() -> None:
    ring = ring_at(1)
    with pytest.raises(KeyError):
        ring.take({"event_type": "NODE_STATE_CHANGED", "seq": 2, "at": ""}, frame(2))
    assert (ring.head, ring.after(1)) == (1, None)


@dataclass
class Client:
    """What one client saw, and the cursor that it holds."""

    cursor: int
    seen: list[int] = field(default_factory=list[int])
    over: bool = False


def follow(ring: Ring, journal: int, client: Client) -> None:
    """One step of a client: what `entrypoints` does with it."""
    match ring.after(client.cursor):
        case None:
            return
        case Piece(body, cursor):
            got = seqs(body)
            assert got == list(range(client.cursor + 1, cursor + 1))
            client.seen += got
            client.cursor = cursor
        case Cold():
            upto = min(client.cursor + 100, ring.head)
            client.seen += range(client.cursor + 1, upto + 1)
            client.cursor = upto
        case Lost():
            assert ring.head - client.cursor > WINDOW
            client.seen = [-ring.head]
            client.cursor = ring.head


steps = st.lists(
    st.one_of(
        st.tuples(st.just("live"), st.integers(0, 40)),
        st.tuples(st.just("late"), st.integers(1, 1200)),
        st.tuples(st.just("skip"), st.integers(1, 1200)),
        st.tuples(st.just("fill"), st.integers(1, 1200)),
        st.tuples(st.just("open"), st.integers(-2, 1300)),
        st.tuples(st.just("pump"), st.integers(0, 7)),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(
    length=st.integers(0, 2500),
    snapshot=st.integers(0, 2500),
    frames=st.integers(0, 1000),
    ends=st.booleans(),
    size=st.sampled_from([0, 500]),
    script=steps,
)
def test_any_interleaving_gives_each_client_every_seq_once_or_a_reset(
    length: int, snapshot: int, frames: int, ends: bool, size: int, script: list[tuple[str, int]]
) -> None:
    last = length if ends else None
    snapshot = min(snapshot, length)
    view = WorkflowView("t").apply_all(event(seq, last=last) for seq in range(1, snapshot + 1))
    kept = min(frames, snapshot)
    ring = Ring(view, [frame(s, size) for s in range(snapshot - kept + 1, snapshot + 1)], max_bytes=100_000)
    clients: list[Client] = []

    def offer(seq: int) -> None:
        if 1 <= seq <= length:
            before = ring.head
            verdict = ring.take(event(seq, last=last), frame(seq, size))
            assert (verdict is Offered.TAKEN) == (seq == before + 1)
            assert ring.head == before + (verdict is Offered.TAKEN)

    for what, n in script:
        match what:
            case "live":
                for seq in range(ring.head + 1, ring.head + 1 + n):
                    offer(seq)
            case "late":
                offer(ring.head + 1 - n)
            case "skip":
                offer(ring.head + 1 + n)
            case "fill":
                for seq in range(ring.head + 1, min(ring.head + n, length) + 1):
                    offer(seq)
            case "open":
                match opening(str(ring.head - n), ring.head, ended=ring.ended):
                    case GoOn(cursor):
                        clients.append(Client(cursor))
                    case Reset():
                        clients.append(Client(ring.head, [-ring.head]))
                    case Over():
                        assert ring.ended
            case _:
                if clients:
                    follow(ring, length, clients[n % len(clients)])
    opened = [client.cursor - len([s for s in client.seen if s > 0]) for client in clients]
    for seq in range(ring.head + 1, length + 1):
        offer(seq)
    for client, start in zip(clients, opened, strict=True):
        while ring.after(client.cursor) is not None:
            follow(ring, length, client)
        assert client.cursor == length
        begin = -client.seen.pop(0) if client.seen and client.seen[0] <= 0 else start
        assert client.seen == list(range(begin + 1, length + 1))
    assert ring.ended == (ends and length > 0)
