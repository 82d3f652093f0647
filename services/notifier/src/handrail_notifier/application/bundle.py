"""Several workflows on one stream, for dashboards: `/events?trace_id=a&trace_id=b` or `?label=team:it`.

Each workflow begins with a snapshot, then its events follow as they are on a stream of its own, without ids (each names
its `trace_id` and `seq`). With a label, workflows that are accepted later join with their first event, and those that
have ended make room: at most `MEMBERS` are followed at once, who finds no room joins when there is some and it still
runs, and who cannot be read at first is tried again. After an interruption of the bus what runs by then joins, and the
client gets `reset` and the snapshots again: what began and ended meanwhile is not among them, `GET /workflows` has it.
With `started` the stream also tells which workflows were accepted, whatever they carry: `started`
`{"count", "trace_ids", "at"}`, gathered, so that a list knows when to ask again (`count` null: some may have been missed).
A client that falls too far behind gets `reset` and the snapshots again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic_core import to_json

from handrail_notifier.application.ports import Frames, Key, Labels, NotFound, Unavailable
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.window import Cold, Piece, Window
from handrail_runtime.lifecycle import backoff

_log = structlog.get_logger(__name__)

MEMBERS = 100
FRAMES = 2000
MAX_BYTES = 1024 * 1024
GATHER_S = 0.5
LOOK_EVERY_S = 0.5
"""How far apart the looks are for workflows that carry a label and are not followed."""
REMEMBERED = 1000
NAMED = 20
Label = str
"""As it reads: `name:value`. Both may hold colons."""


class Bundle:
    """A feed of one client over several workflows. Made by `Bundles.open`.

    `lacking`: one may carry the label that is not followed; `put_off` are those that could not be read. `interrupted`: what
    the bus said meanwhile may be missing. `joined` are those that were shown, the newest last: none begins a second time.
    """

    def __init__(self, frames: Frames, label: Label | None, *, started: bool = False) -> None:
        self.label, self.started = label, started
        self.broken = False
        self.members: dict[Watched, int] = {}
        self.joining: set[Key] = set()
        self.joined: deque[Key] = deque(maxlen=REMEMBERED)
        self.put_off: dict[Key, None] = {}
        self.lacking = self.interrupted = False
        self.frames = frames
        self._window = Window(0, [], max_frames=FRAMES, max_bytes=MAX_BYTES)
        self._published_ms = 0

    @property
    def ended(self) -> bool:
        """All workflows have ended, and none can join or be told of."""
        return self.label is None and not self.started and all(watched.ended for watched in self.members)

    @property
    def full(self) -> bool:
        """There is no room for another workflow."""
        return len(self.members) >= MEMBERS

    @property
    def head(self) -> int:
        """The cursor of a client that has everything. Means nothing outside of this stream."""
        return self._window.head

    def add(self, watched: Watched, cursor: int | None) -> None:
        """A workflow joins: behind `cursor`, or at its head when its snapshot is sent otherwise (None)."""
        self.members[watched] = watched.head if cursor is None else cursor
        self.joined.append(watched.key)
        self.pull(watched)

    def pull(self, watched: Watched) -> None:
        """Takes over what a workflow has new."""
        cursor = self.members[watched]
        frames = watched.frames_after(cursor)
        if frames is None:
            frames = [self._reset(watched.key[1]), watched.snapshot()]
        for frame in frames:
            self._window.push(without_id(frame))
        self.members[watched] = max(cursor, watched.head)
        self._published_ms = watched.published_ms
        if watched.broken:
            self.broken = True

    def begin_again(self) -> None:
        """Whoever follows gets `reset` and all snapshots next."""
        self.interrupted = False
        self._window.skip()

    def tell(self, started: bytes) -> None:
        """The frame of workflows that were accepted."""
        self._window.push(started)

    def snapshots(self) -> bytes:
        """The state of every workflow."""
        return b"".join(watched.snapshot() for watched in self.members)

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor: frames, or a reset with all snapshots where the cursor is too old."""
        found = self._window.after(cursor)
        if type(found) is not Cold:
            return found
        return Piece(self._reset(None) + self.snapshots(), self._window.head)

    def farewell(self) -> bytes:
        """The last frame."""
        return self.frames.end("ENDED")

    def take_news(self) -> bytes:
        """Progress is shown on the stream of a workflow only."""
        return b""

    def take_published_ms(self) -> int:
        """The bus's time of the newest live event, once."""
        published, self._published_ms = self._published_ms, 0
        return published

    def _reset(self, trace_id: str | None) -> bytes:
        return self.frames.reset("too-far-behind", f"/workflows/{trace_id}/state" if trace_id else "/workflows")


class Bundles:
    """All bundles of this replica."""

    def __init__(
        self, rings: Rings, labels: Labels, frames: Frames, *, tenant: str, changed: Callable[[Bundle], None]
    ) -> None:
        self._rings, self._labels, self._frames, self._changed = rings, labels, frames, changed
        self._tenant = tenant
        self._following: dict[Watched, dict[Bundle, None]] = {}
        self._labelled: dict[Bundle, None] = {}
        self._listening: dict[Bundle, None] = {}
        self._looking: set[Bundle] = set()
        self._started: list[str] = []
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def wants_accepted(self) -> bool:
        """Newly accepted workflows are of interest to somebody."""
        return bool(self._labelled or self._listening)

    async def open(self, trace_ids: list[str], label: Label | None, *, started: bool = False) -> Bundle:
        """A bundle, ready to be followed; give it back with `close`. Raises NotFound, Unavailable."""
        bundle = Bundle(self._frames, label, started=started)
        if started:
            self._listening[bundle] = None
        keys = [(self._tenant, trace_id) for trace_id in trace_ids]
        try:
            if label is not None:
                # Before the list is read: whatever is accepted from here on is noticed.
                self._labelled[bundle] = None
                keys += await self._labels.running_with(label, MEMBERS)
                bundle.lacking = len(keys) >= MEMBERS
            for key in list(dict.fromkeys(keys))[:MEMBERS]:
                await self._join(bundle, key, None)
        except BaseException:
            self.close(bundle)
            raise
        return bundle

    def close(self, bundle: Bundle) -> None:
        """Nobody follows it any more. Idempotent."""
        self._labelled.pop(bundle, None)
        self._listening.pop(bundle, None)
        for watched in list(bundle.members):
            self._leave(bundle, watched)

    def changed(self, watched: Watched) -> None:
        """A watched workflow has something new."""
        for bundle in list(self._following.get(watched, ())):
            bundle.pull(watched)
            self._changed(bundle)
            if watched.ended and bundle.label is not None:
                self._leave(bundle, watched)
                if bundle.lacking:
                    self._look(bundle)

    def accepted(self, key: Key, labels: Mapping[str, str]) -> None:
        """A workflow was accepted: whoever follows one of its labels follows it from its first event, and whoever listens
        for what is started is told within `GATHER_S`."""
        if self._listening and key[0] == self._tenant:
            if not self._count:
                asyncio.get_running_loop().call_later(GATHER_S, self._tell_started)
            self._count += 1
            self._started = [*self._started[1 - NAMED :], key[1]]
        carried = {f"{name}:{value}" for name, value in labels.items()} if self._labelled else ()
        for bundle in list(self._labelled):
            if bundle.label not in carried or key in bundle.joining or key in bundle.joined:
                continue
            if bundle.full:
                bundle.lacking = True
            else:
                self._start(self._join_late(bundle, key), "bundle.join")

    def missed(self, *, over: bool) -> None:
        """The bus is interrupted, or with `over` was: whoever listens has to ask, and who carries a label is looked for."""
        if self._listening:
            self._tell(None, [])
        for bundle in self._labelled:
            bundle.interrupted = bundle.interrupted or over
            self._look(bundle)

    def _tell_started(self) -> None:
        count, self._count = self._count, 0
        started, self._started = self._started, []
        self._tell(count, started)

    def _tell(self, count: int | None, started: list[str]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        frame = self._frames.event(None, "started", to_json({"count": count, "trace_ids": started, "at": at}))
        for bundle in list(self._listening):
            bundle.tell(frame)
            self._changed(bundle)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join_late(self, bundle: Bundle, key: Key) -> None:
        if not await self._join_from_the_first(bundle, key):
            self._look(bundle)

    async def _join_from_the_first(self, bundle: Bundle, key: Key) -> bool:
        """False where it has to be tried again."""
        bundle.joining.add(key)
        bundle.put_off.pop(key, None)
        try:
            await self._join(bundle, key, 0)
            self._changed(bundle)
        except NotFound:
            _log.warning("bundle_join_failed", trace_id=key[1], kind="NotFound")
        except Unavailable as e:
            _log.warning("bundle_join_put_off", trace_id=key[1], reason=str(e)[:200])
            bundle.put_off[key] = None
            return False
        finally:
            bundle.joining.discard(key)
        return True

    def _look(self, bundle: Bundle) -> None:
        """Looks for what carries the label and is not followed, at once or soon after the look that is under way."""
        bundle.lacking = True
        if bundle not in self._looking:
            self._looking.add(bundle)
            self._start(self._look_until_found(bundle), "bundle.look")

    async def _look_until_found(self, bundle: Bundle) -> None:
        delays = backoff()
        try:
            while self._wanting(bundle):
                bundle.lacking = False
                if await self._take_in(bundle):
                    delays = backoff()
                    await asyncio.sleep(LOOK_EVERY_S)
                else:
                    bundle.lacking = True
                    await asyncio.sleep(next(delays))
        finally:
            self._looking.discard(bundle)

    def _wanting(self, bundle: Bundle) -> bool:
        return bundle in self._labelled and bundle.lacking and (bundle.interrupted or not bundle.full)

    async def _take_in(self, bundle: Bundle) -> bool:
        """What carries the label and is not followed joins, as far as there is room; False where some has to be tried again."""
        assert bundle.label is not None
        interrupted = bundle.interrupted
        try:
            running = await self._labels.running_with(bundle.label, MEMBERS)
        except Unavailable as e:
            _log.warning("bundle_look_put_off", reason=str(e)[:200])
            return False
        known = {*bundle.joined, *bundle.joining, *(watched.key for watched in bundle.members)}
        missing = [key for key in dict.fromkeys([*bundle.put_off, *running]) if key not in known]
        room = MEMBERS - len(bundle.members)
        if len(missing) > room:
            bundle.lacking = True
        done = await asyncio.gather(*(self._join_from_the_first(bundle, key) for key in missing[:room]))
        if interrupted:
            bundle.begin_again()
            self._changed(bundle)
        return all(done)

    async def _join(self, bundle: Bundle, key: Key, cursor: int | None) -> None:
        watched = await self._rings.hold(key)
        wanted = cursor is None or bundle in self._labelled
        if watched in bundle.members or key in bundle.joined or not wanted:
            self._rings.release(watched)
        elif bundle.full:
            bundle.lacking = True
            self._rings.release(watched)
        else:
            self._following.setdefault(watched, {})[bundle] = None
            bundle.add(watched, cursor)
            if watched.ended and bundle.label is not None and cursor is not None:
                self._leave(bundle, watched)

    def _leave(self, bundle: Bundle, watched: Watched) -> None:
        if bundle.members.pop(watched, None) is None:
            return
        followers = self._following[watched]
        del followers[bundle]
        if not followers:
            del self._following[watched]
        self._rings.release(watched)


def without_id(frame: bytes) -> bytes:
    """A frame as it is on a stream without ids."""
    return frame[frame.index(b"\n") + 1 :] if frame.startswith(b"id: ") else frame
