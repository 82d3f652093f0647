"""Frames to the letter of CONTRACT section 4."""

from __future__ import annotations

import pytest

from handrail_notifier.entrypoints.frames import SseFrames

frames = SseFrames()


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (
            frames.event(17, "WORKFLOW_PAUSED_HITL", b'{"seq":17}'),
            'id: 17\nevent: WORKFLOW_PAUSED_HITL\ndata: {"seq":17}\n\n',
        ),
        (frames.event(1, "X", '{"a":"grüße 🚀\u2028"}'.encode()), 'id: 1\nevent: X\ndata: {"a":"grüße 🚀\u2028"}\n\n'),
        (frames.event(1, "X", b'{\n "a": 1\r\n}'), 'id: 1\nevent: X\ndata: {\ndata:  "a": 1\ndata: }\n\n'),
        (frames.event(1, "X\nid: 9", b"{}"), "id: 1\nevent: Xid: 9\ndata: {}\n\n"),
        (frames.snapshot(3, b"{}"), "id: 3\nevent: snapshot\ndata: {}\n\n"),
        (frames.reset("too-far-behind", "/x"), 'event: reset\ndata: {"reason":"too-far-behind","state":"/x"}\n\n'),
        (frames.end("COMPLETED"), 'event: end\ndata: {"status":"COMPLETED"}\n\n'),
        (frames.ping("2026"), 'event: ping\ndata: {"at":"2026"}\n\n'),
        (frames.progress(b"{}"), "event: progress\ndata: {}\n\n"),
        (frames.bye(1234), "event: bye\ndata: {}\nretry: 1234\n\n"),
    ],
)
def test_each_frame_is_as_the_contract_says(frame: bytes, text: str) -> None:
    assert frame.decode() == text


def test_a_stream_begins_with_the_pause_before_a_reconnect_and_fills_a_proxys_first_buffer() -> None:
    lines = frames.hello().decode().split("\n")
    assert "retry: 2000" in lines
    assert all(line == "" or line.startswith((":", "retry:")) for line in lines)
    assert len(frames.hello()) > 1024
