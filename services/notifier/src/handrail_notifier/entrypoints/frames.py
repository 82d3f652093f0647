"""The frames of our streams (CONTRACT section 4), made by sse-starlette, lines ending in LF."""

from __future__ import annotations

from pydantic_core import to_json
from sse_starlette.event import ServerSentEvent

RETRY_MS = 2000
# Some proxies hold the first kilobyte back whatever the headers ask for.
_PADDING = " " * 1024


class SseFrames:
    """Implements `application.ports.Frames`."""

    def event(self, seq: int | None, kind: str, data: bytes) -> bytes:
        """As the port says."""
        return _frame(kind, data, None if seq is None else str(seq))

    def reset(self, reason: str, state: str) -> bytes:
        """As the port says."""
        return _frame("reset", to_json({"reason": reason, "state": state}))

    def snapshot(self, cursor: int | None, state: bytes) -> bytes:
        """As the port says."""
        return _frame("snapshot", state, None if cursor is None else str(cursor))

    def end(self, status: str) -> bytes:
        """As the port says."""
        return _frame("end", to_json({"status": status}))

    def progress(self, data: bytes) -> bytes:
        """As the port says."""
        return _frame("progress", data)

    def ping(self, at: str) -> bytes:
        """As the port says."""
        return _frame("ping", to_json({"at": at}))

    def hello(self) -> bytes:
        """As the port says."""
        return ServerSentEvent(retry=RETRY_MS, comment=_PADDING, sep="\n").encode()

    def bye(self, retry_ms: int) -> bytes:
        """As the port says."""
        return ServerSentEvent("{}", event="bye", retry=retry_ms, sep="\n").encode()


class AguiFrames:
    """Implements `application.agui_tracks.BareFrames`: AG-UI's readers take every `data` for one of their events."""

    def bare(self, data: bytes, seq: int | None = None) -> bytes:
        """As the port says."""
        return ServerSentEvent(data.decode(), id=None if seq is None else str(seq), sep="\n").encode()

    def ping(self, at: str) -> bytes:
        """As the port says."""
        return ServerSentEvent(comment=f"ping {at}", sep="\n").encode()

    def bye(self, retry_ms: int) -> bytes:
        """As the port says."""
        return ServerSentEvent(retry=retry_ms, comment="bye", sep="\n").encode()


def _frame(kind: str, data: bytes, id_: str | None = None) -> bytes:
    return ServerSentEvent(data.decode(), event=kind, id=id_, sep="\n").encode()
