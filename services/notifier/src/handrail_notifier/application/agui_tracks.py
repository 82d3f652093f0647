"""The AG-UI streams of watched workflows. A `Track` is the stream of one workflow, told once for all that follow it; a
`Run` is the answer to one `POST /ag-ui`: from the state of now to the next pause or the end, under the caller's run id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    RunErrorEvent,
    RunFinishedEvent,
    RunStartedEvent,
    StateSnapshotEvent,
)

from handrail_contracts.codec import Undecodable
from handrail_contracts.view import Gap
from handrail_notifier.application.agui import Told, Translator, encoded, last, waits
from handrail_notifier.application.ports import Signals, Unavailable
from handrail_notifier.application.records import parse_event
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.position import WINDOW
from handrail_notifier.domain.ring import MAX_RING_BYTES
from handrail_notifier.domain.window import MAX_PIECE_BYTES, Cold, Piece, Window

_log = structlog.get_logger(__name__)

PAGE = 250
_UNTELLABLE = (Undecodable, Gap, KeyError, TypeError, AttributeError, ValueError)


class BareFrames(Signals, Protocol):
    """Frames of a stream whose every `data` line is a message of its own protocol: the rest goes into comments."""

    def bare(self, data: bytes, seq: int | None = None) -> bytes:
        """One message; with `seq` it carries the position."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """One event as frames: what a run takes of it, how its run ended, and which pauses were open after it."""

    seq: int
    news: bytes
    ending: bytes
    last: RunFinishedEvent | RunErrorEvent | None
    open_pauses: frozenset[str]


class Track:
    """A feed of one workflow in AG-UI frames, shared. Made by `Tracks.hold`."""

    def __init__(self, watched: Watched, frames: BareFrames) -> None:
        self.watched = watched
        self.frames = frames
        self.broken = False
        self.holders = 0
        self.runs: dict[Run, None] = {}
        self.loading: asyncio.Task[None] | None = None
        self.translator = Translator(watched.key[1])
        self._window = Window(0, [], max_frames=WINDOW, max_bytes=MAX_RING_BYTES)
        self._entries: deque[_Entry] = deque()

    @property
    def head(self) -> int:
        """The `seq` of the newest event that was told."""
        return self.translator.view.cursor

    @property
    def ended(self) -> bool:
        """The terminal event was told."""
        return self.translator.view.ended

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor; the state of now where the cursor is too old."""
        found = self._window.after(cursor)
        return self.reset("too-far-behind") if isinstance(found, Cold) else found

    def reset(self, reason: str) -> Piece:
        """The run of now from its beginning, with the state: for whoever cannot go on where he was."""
        translator = self.translator
        begun: list[BaseEvent] = [
            *beginning(translator, translator.run_id),
            CustomEvent(name="handrail:reset", value=reason),
        ]
        if not translator.running and self.head:
            begun += [*translator.ending(), last(translator.view, translator.run_id)]
        return Piece(self._joined(begun, self.head), self.head)

    def entries_after(self, cursor: int) -> list[_Entry] | None:
        """Each event that follows a cursor; None where they are not all here."""
        behind = self.head - cursor
        if behind > len(self._entries):
            return None
        return [self._entries[i] for i in range(len(self._entries) - behind, len(self._entries))]

    def take(self, events: Iterable[tuple[int, Any]], *, target: int) -> None:
        """Tells events, in order; those that are more than the window behind `target` are only folded."""
        for seq, event in events:
            if seq <= target - WINDOW:
                self.translator.fold(event)
                self._window.skip()
                continue
            told = self.translator.tell(event)
            self._window.push(self._joined(told.all(), seq))
            self._entries.append(self._entry(told))
            # The window is bounded by bytes, too; what it has no longer, runs need not have.
            while len(self._entries) > self._window.head - self._window.base:
                self._entries.popleft()

    def pull(self) -> bool:
        """Tells what the workflow has new; False when that has to be read from the journal."""
        frames = self.watched.frames_after(self.head)
        if frames is None:
            return False
        events = ((self.head + 1, parse_event(data_of(frame))) for frame in frames)
        self.take(events, target=self.head)
        return True

    def farewell(self) -> bytes:
        """The end of a run says it all."""
        return b""

    def take_news(self) -> bytes:
        """What agents say while they work has no place in AG-UI."""
        return b""

    def take_published_ms(self) -> int:
        """Measured at the workflow's own stream."""
        return 0

    def _entry(self, told: Told) -> _Entry:
        pauses = frozenset(self.translator.view.pauses)
        return _Entry(told.seq, self._joined(told.news), self._joined(told.ending), told.last, pauses)

    def _joined(self, events: list[BaseEvent], seq: int | None = None) -> bytes:
        final = len(events) - 1
        return b"".join(self.frames.bare(encoded(e), seq if i == final else None) for i, e in enumerate(events))


class Run:
    """A feed of one client: the answer to `POST /ag-ui`. `awaited` are the pauses that were just decided: while one of
    them still shows as open the run goes on."""

    broken = False

    def __init__(self, track: Track, run_id: str, awaited: Iterable[str]) -> None:
        self.frames = track.frames
        self._track, self._run_id, self._awaited = track, run_id, frozenset(awaited)
        self._over = False

    @property
    def ended(self) -> bool:
        """It has come to a pause or to the end."""
        return self._over

    def opening(self) -> bytes:
        """How it begins, and where nothing is under way also how it ends."""
        translator = self._track.translator
        begun = beginning(translator, self._run_id)
        view = translator.view
        if view.ended or (waits(view) and not self._awaited & set(view.pauses)):
            self._over = True
            begun += [*translator.ending(), last(view, self._run_id)]
        return self._bare(begun)

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor, up to the end of this run."""
        if self._over:
            return None
        entries = self._track.entries_after(cursor)
        if entries is None:
            self._over = True
            lost = RunErrorEvent(message="The reader fell too far behind. Ask again.", code="too-far-behind")
            return Piece(self._bare([lost]), self._track.head)
        parts: list[bytes] = []
        for entry in entries:
            parts.append(entry.news)
            cursor = entry.seq
            if entry.last is not None and not self._awaited & entry.open_pauses:
                self._over = True
                parts += [entry.ending, self._bare([self._own(entry.last)])]
            if self._over or sum(map(len, parts)) > MAX_PIECE_BYTES:
                break
        return Piece(b"".join(parts), cursor) if parts else None

    def farewell(self) -> bytes:
        """The end of the run says it all."""
        return b""

    def take_news(self) -> bytes:
        """As `Track.take_news`."""
        return b""

    def take_published_ms(self) -> int:
        """As `Track.take_published_ms`."""
        return 0

    def _own(self, event: RunFinishedEvent | RunErrorEvent) -> BaseEvent:
        return event.model_copy(update={"run_id": self._run_id}) if isinstance(event, RunFinishedEvent) else event

    def _bare(self, events: Iterable[BaseEvent]) -> bytes:
        return b"".join(self.frames.bare(encoded(event)) for event in events)


class Tracks:
    """All tracks of this replica. `changed` wakes the clients of a feed."""

    def __init__(self, rings: Rings, frames: BareFrames, *, changed: Callable[[Track | Run], None]) -> None:
        self._rings, self._frames, self._wake = rings, frames, changed
        self._tracks: dict[Watched, Track] = {}

    async def hold(self, watched: Watched) -> Track:
        """The track of a workflow that the caller holds, told up to its head; give it back with `release`. Raises
        Unavailable."""
        track = self._tracks.get(watched)
        if track is None:
            track = self._tracks[watched] = Track(watched, self._frames)
            self._load(track)
        track.holders += 1
        try:
            if track.loading is not None:
                await asyncio.shield(track.loading)
            if track.broken:
                raise Unavailable("Expected a workflow that can be told, but it cannot be.")
        except BaseException:
            self.release(track)
            raise
        return track

    def release(self, track: Track) -> None:
        """One fewer; with the last it is forgotten."""
        track.holders -= 1
        if track.holders == 0 and self._tracks.get(track.watched) is track:
            del self._tracks[track.watched]

    def changed(self, watched: Watched) -> None:
        """A watched workflow has something new."""
        track = self._tracks.get(watched)
        if track is None or track.loading is not None:
            return
        try:
            if not track.pull():
                self._load(track)
                return
        except _UNTELLABLE as e:
            self._break(track, e)
        self._tell(track)

    def _load(self, track: Track) -> None:
        track.loading = asyncio.create_task(self._read(track), name="agui.load")
        track.loading.add_done_callback(lambda done: self._loaded(track, done))

    def _loaded(self, track: Track, done: asyncio.Task[None]) -> None:
        track.loading = None
        if done.cancelled() or done.exception() is not None:
            track.broken = True
            if self._tracks.get(track.watched) is track:
                del self._tracks[track.watched]
        self._tell(track)
        if not track.broken:
            self.changed(track.watched)

    async def _read(self, track: Track) -> None:
        watched = track.watched
        try:
            while track.head < watched.head:
                rows = await self._rings.page(watched, track.head, PAGE)
                if not rows:
                    raise Unavailable("Expected the events of the workflow in the journal, but some are missing.")
                track.take([(row.seq, parse_event(row.data)) for row in rows], target=watched.head)
        except _UNTELLABLE as e:
            self._break(track, e)

    def _break(self, track: Track, e: Exception) -> None:
        _log.error("workflow_not_tellable", trace_id=track.watched.key[1], kind=type(e).__name__)
        track.broken = True

    def _tell(self, track: Track) -> None:
        self._wake(track)
        for run in list(track.runs):
            run.broken = track.broken
            self._wake(run)


def beginning(translator: Translator, run_id: str) -> list[BaseEvent]:
    """A run that begins with the state of now."""
    view = translator.view
    return [
        RunStartedEvent(thread_id=view.trace_id, run_id=run_id),
        StateSnapshotEvent(snapshot=view.state()),
        *translator.steps_started(),
    ]


def data_of(frame: bytes) -> bytes:
    """The data of a frame of ours."""
    return b"\n".join(line[6:] for line in frame.split(b"\n") if line.startswith(b"data: "))
