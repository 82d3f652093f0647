"""Watching one workflow in a terminal: a live picture with buttons for a person, a line per event for a pipe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from handrail.cli import looks
from handrail.cli.keys import Keys
from handrail.cli.pause_card import card
from handrail.cli.picture import Frame, picture
from handrail.cli.press import done, press
from handrail.cli.sentences import line
from handrail.cli.session import interactive, out, tell, url_option
from handrail.cli.text import safe, seconds_of, to_json_line
from handrail_contracts.view import WorkflowView

if TYPE_CHECKING:
    from handrail_sdk.client import Client
    from handrail_sdk.connection import Connection
    from handrail_sdk.stream import Update

Until = Literal["ended", "paused"]
_SPIN_S = 0.125
_IDLE_S = 1.0


async def follow(client: Client, trace_id: str, *, until: Until, as_json: bool = False) -> WorkflowView:
    """Shows a workflow until it has ended (or, with `paused`, needs a person) and answers its view."""
    if as_json or not out().is_terminal:
        return await _lines(client, trace_id, until=until, as_json=as_json)
    return await Watch(client, trace_id, until=until).run()


def stops(view: WorkflowView, until: Until) -> bool:
    """Whether a watch is over."""
    return view.ended or (until == "paused" and bool(view.pauses))


async def _lines(client: Client, trace_id: str, *, until: Until, as_json: bool) -> WorkflowView:
    tell_line: Callable[[Mapping[str, Any]], str] = to_json_line if as_json else line
    view = WorkflowView(trace_id)
    async for event, view in client.watch(trace_id, after=0, on_connection=_connection_line):
        print(tell_line(event), flush=True)  # noqa: T201  # for pipes: no console, no wrapping
        if stops(view, until):
            break
    return view


def _connection_line(news: Connection) -> None:
    if news.state == "waiting":
        typer.echo(f"handrail: {_lost(news)}", err=True)


def _lost(news: Connection) -> str:
    return f"connection lost ({safe(news.reason)}); try {news.attempt} in {news.delay_s:.1f} s"


class Watch:
    """The live picture. Digits press the buttons of the pause that is shown, `n` shows the next one, `p` pauses, `q` leaves."""

    def __init__(self, client: Client, trace_id: str, *, until: Until) -> None:
        self._client = client
        self._trace_id = trace_id
        self._until: Until = until
        self._console = out()
        self._asks = interactive()
        self._news: asyncio.Queue[Update | str | Exception | None] = asyncio.Queue()
        self._view = WorkflowView(trace_id)
        self._progress: dict[str, Mapping[str, Any]] = {}
        self._connection: Connection | None = None
        self._notice: Text | None = None
        self._shown_pause = 0
        self._ahead_s = 0.0

    async def run(self) -> WorkflowView:
        """Until the workflow has ended, or the person leaves with `q`."""
        watching = asyncio.create_task(self._watch())
        try:
            while not stops(self._view, self._until):
                asked = await self._live_until_a_key()
                if asked == "q":
                    break
                if asked is not None:
                    await self._decide(asked)
            return self._view
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        from handrail_sdk.client_errors import ClientError

        try:
            async for update in self._client.watch(self._trace_id, progress=True, on_connection=self._connected):
                self._news.put_nowait(update)
        except ClientError as e:
            self._news.put_nowait(e)

    def _connected(self, news: Connection) -> None:
        self._connection = news
        self._news.put_nowait(None)

    async def _live_until_a_key(self) -> str | None:
        """Draws until a key was pressed that needs the terminal for itself; None when the watch is over."""
        async with AsyncExitStack() as stack:
            stack.enter_context(Keys(self._news.put_nowait) if self._asks else nullcontext())
            live = stack.enter_context(
                Live(self._drawn(), console=self._console, auto_refresh=False, vertical_overflow="crop")
            )
            while True:
                key = await self._next_key()
                if stops(self._view, self._until):
                    live.update(self._drawn(final=True), refresh=True)
                    return None
                if key == "q":
                    live.update(self._drawn(final=True), refresh=True)
                    return key
                if key is not None and self._means_something(key):
                    return key
                live.update(self._drawn(), refresh=True)

    async def _next_key(self) -> str | None:
        """Takes in all that came; answers after one frame's time, or at once with a key."""
        busy = any(node["state"] in looks.ACTIVE for node in self._view.nodes.values())
        try:
            item = await asyncio.wait_for(self._news.get(), _SPIN_S if busy else _IDLE_S)
        except TimeoutError:
            return None
        while True:
            if isinstance(item, str):
                return item
            if isinstance(item, Exception):
                raise item
            if item is not None:
                self._take(item)
            if self._news.empty() or stops(self._view, self._until):
                # Not more often than the eye sees: what comes meanwhile is drawn together.
                await asyncio.sleep(0.02)
                if self._news.empty() or stops(self._view, self._until):
                    return None
            item = self._news.get_nowait()

    def _take(self, update: Update) -> None:
        event, self._view = update
        if event["event_type"] == "progress":
            self._progress[str(event.get("node_id"))] = event
            return
        at = seconds_of(event.get("at"))
        if at is not None:
            self._ahead_s = max(self._ahead_s, at - time.time())
        if event["event_type"] == "HITL_RESOLVED":
            self._notice = Text(line(event), style="dim")

    def _means_something(self, key: str) -> bool:
        if key == "n":
            self._shown_pause += 1
            return False
        if key == "p":
            return not self._view.pauses
        pause = self._pause()
        return pause is not None and key.isdigit() and 1 <= int(key) <= len(pause["available_resolutions"])

    def _pause(self) -> Mapping[str, Any] | None:
        pauses = list(self._view.pauses.values())
        return pauses[self._shown_pause % len(pauses)] if pauses else None

    async def _decide(self, key: str) -> None:
        from handrail_sdk.client_errors import ClientError

        self._notice = None
        try:
            if key == "p":
                comment = typer.prompt("Pause this workflow. Why?", default="", show_default=False)
                await self._client.pause(self._trace_id, comment=comment or None)
                return
            pause = self._pause()
            if pause is None:
                return
            offered = pause["available_resolutions"][int(key) - 1]
            answer = await press(self._client, pause, offered, console=self._console, asking=True)
            self._notice = Text("Nothing was decided.", style="dim") if answer is None else done(answer)
        except (typer.Abort, KeyboardInterrupt):
            self._console.print()
            self._notice = Text("Nothing was decided.", style="dim")
        except ClientError as e:
            tell(e)

    def _drawn(self, *, final: bool = False) -> RenderableType:
        width, height = self._console.size
        now = time.time() + self._ahead_s
        below = self._below(now, final=final)
        room = None if final else max(3, height - 5 - self._height(below, width))
        spin = None if final else int(time.monotonic() / _SPIN_S)
        frame = Frame(width, now, rows=room, spin=spin, progress=self._progress)
        return Group(picture(self._view, frame), *below)

    def _below(self, now: float, *, final: bool) -> list[RenderableType]:
        parts: list[RenderableType] = []
        pause = self._pause()
        if pause is not None:
            parts += [Text(""), card(pause, now, evidence_lines=8, url_option=url_option(self._client.url))]
        if self._connection is not None and self._connection.state == "waiting" and not final:
            parts.append(Text(_lost(self._connection), style="yellow"))
        if self._notice is not None:
            parts.append(self._notice)
        if final:
            return [*parts, *_ending(self._view)]
        parts.append(Text(self._help(), style="dim"))
        return parts

    def _help(self) -> str:
        if not self._asks:
            return ""
        pauses = len(self._view.pauses)
        pause = self._pause()
        if pause is None:
            return "p pause it · q stop watching (it goes on)"
        more = f" · n next of {pauses} pauses" if pauses > 1 else ""
        return f"press 1–{len(pause['available_resolutions'])} to decide{more} · q stop watching (it waits)"

    def _height(self, parts: list[RenderableType], width: int) -> int:
        options = self._console.options.update(width=width)
        return sum(len(self._console.render_lines(part, options)) for part in parts)


def _ending(view: WorkflowView) -> list[RenderableType]:
    if not view.ended:
        return []
    look = looks.workflow(view.status)
    text = Text(f"{look.icon} {look.word}", style=look.style)
    if view.reason:
        text.append(f": {safe(view.reason)}", style="default")
    parts: list[RenderableType] = [text]
    if view.output is not None:
        parts.append(Text("output ", style="dim").append(safe(to_json_line(view.output)), style="default"))
    return parts
