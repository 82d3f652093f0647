"""When to look at which workflow again: the owner's exact heap. The stored `wake_at` is only its floor, for the next owner."""

from __future__ import annotations

import heapq


class Wakeups:
    """A heap of (due in ms, trace_id). Setting an earlier time wins; a later one waits until the earlier has rung."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._armed: dict[str, int] = {}

    def set(self, trace_id: str, due_ms: int | None) -> None:
        """Wakes the workflow at `due_ms`, or earlier if that was set before."""
        if due_ms is None:
            return
        armed = self._armed.get(trace_id)
        if armed is None or due_ms < armed:
            self._armed[trace_id] = due_ms
            heapq.heappush(self._heap, (due_ms, trace_id))

    def forget(self, trace_id: str) -> None:
        """Never wakes this workflow (until set again)."""
        self._armed.pop(trace_id, None)

    def due(self, now_ms: int, most: int) -> list[str]:
        """Workflows that are due, at most so many; each rings once."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms and len(found) < most:
            at, trace_id = heapq.heappop(self._heap)
            if self._armed.get(trace_id) == at:
                del self._armed[trace_id]
                found.append(trace_id)
        return found

    def next_ms(self) -> int | None:
        """When the next one is due; None when nothing waits."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # forgotten, or an earlier one has taken its place
        return self._heap[0][0] if self._heap else None
