"""The live picture in a real (pseudo-)terminal: it draws, takes keys, presses buttons, and leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.unit.cli.recorded import events
from tests.unit.sdk_client.fake_handrail import Answer, FakeHandrail, refused
from tests.waiting import wait_until

PAUSE_ID = "p0123456789abcdef01234567"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of 100 by 40 with `handrail …` in it."""

    def __init__(self, master: int, slave: int, process: asyncio.subprocess.Process, before: list[object]) -> None:
        self._master, self._slave, self.process = master, slave, process
        self._seen = ""
        self.before = before
        """Its settings before there was a process in it."""

    @property
    def text(self) -> str:
        """All that was shown since `forget`, without colours."""
        return _ESCAPE.sub("", self._seen)

    def forget(self) -> None:
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    async def ends(self, *, typing: str = "") -> int:
        """Its exit code. `typing` is typed again each second, as a person would whose key fell between two modes of the
        terminal (a key that is pending when the mode changes is dropped by the terminal itself)."""
        for _ in range(30):
            if typing:
                self.type(typing)
            try:
                return await asyncio.wait_for(self.process.wait(), 1.0)
            except TimeoutError:
                continue
        raise AssertionError(f"Expected the command to end within 30 s, but it shows:\n{self.text[-3000:]}")

    async def shows(self, text: str) -> None:
        try:
            await wait_until(lambda: text in self.text, description=f"the terminal shows {text!r}")
        except AssertionError as e:
            raise AssertionError(f"{e}, but it shows:\n{self.text[-3000:]}") from None

    def _read(self) -> None:
        try:
            self._seen += os.read(self._master, 65_536).decode("utf-8", "replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(self._master)


def _at_a_terminal() -> None:
    """So that Ctrl-C means this process, and does something: where tests run in the background it is ignored, and that is
    inherited."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@asynccontextmanager
async def terminal(fake: FakeHandrail, *words: str) -> AsyncGenerator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    before = termios.tcgetattr(slave)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from handrail.cli.main import main; main()",
        *words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "HANDRAIL_URL": fake.url, "TERM": "xterm-256color", "HANDRAIL_ACTOR": "ada"},
        preexec_fn=_at_a_terminal,
        start_new_session=True,
    )
    shown = Terminal(master, slave, process, before)
    asyncio.get_running_loop().add_reader(master, shown._read)
    try:
        yield shown
    finally:
        asyncio.get_running_loop().remove_reader(master)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(master)
        os.close(slave)


def a_paused_workflow() -> FakeHandrail:
    fake = FakeHandrail(events("onboarding-manual-sku"), visible=18)
    preview = {"action_id": "RES_MANUAL_SKU", "status_after": "RUNNING", "undo": []}
    change = {"node_id": "hardware_procurement", "from": "AWAITING_HUMAN", "to": "SCHEDULED"}
    route = f"/workflows/manual/pauses/{PAUSE_ID}/preview/RES_MANUAL_SKU"
    fake.answer("GET", route, Answer(200, {**preview, "nodes": [change]}))
    answer = {"trace_id": "manual", "pause_id": PAUSE_ID, "action_id": "RES_MANUAL_SKU", "status": "RESUMING"}
    fake.answer("POST", "/workflows/manual/resume", Answer(202, answer))
    return fake


async def test_a_button_is_pressed_by_its_number_right_in_the_picture() -> None:
    async with a_paused_workflow() as fake, terminal(fake, "watch", "manual") as shown:
        await shown.shows("press 1–3 to decide")
        assert "├─│─⚑" in shown.text
        shown.type("2")
        await shown.shows("Input (a URL")
        shown.type("https://vendor.example/mbp16\r")
        await shown.shows("hardware_procurement: Needs you → ◌ Scheduled")
        await shown.shows("Do it? [Y/n]")
        shown.type("y\r")
        await wait_until(lambda: any(r.method == "POST" for r in fake.requests), description="the decision is sent")
        body = next(r.body for r in fake.requests if r.method == "POST")
        assert (body["action_id"], body["pause_id"]) == ("RES_MANUAL_SKU", PAUSE_ID)
        assert body["input"] == "https://vendor.example/mbp16"
        await fake.publish()
        await shown.shows("✓ Completed")
        assert await shown.ends() == 0


async def test_saying_no_decides_nothing_and_the_picture_goes_on() -> None:
    async with a_paused_workflow() as fake, terminal(fake, "watch", "manual") as shown:
        await shown.shows("press 1–3 to decide")
        shown.type("2")
        await shown.shows("Input (a URL")
        shown.type("https://vendor.example/mbp16\r")
        await shown.shows("Do it?")
        shown.forget()
        shown.type("n\r")
        await shown.shows("Nothing was decided.")
        await shown.shows("press 1–3 to decide")
        assert not any(r.method == "POST" for r in fake.requests)


async def test_leaving_with_q_restores_the_terminal() -> None:
    async with a_paused_workflow() as fake, terminal(fake, "watch", "manual") as shown:
        await shown.shows("press 1–3 to decide")
        await wait_until(lambda: shown.settings() != shown.before, description="keys are read one by one")
        assert await shown.ends(typing="q") == 3
        assert shown.settings() == shown.before


async def test_ctrl_c_ends_with_130_and_restores_the_terminal() -> None:
    async with a_paused_workflow() as fake, terminal(fake, "watch", "manual") as shown:
        await shown.shows("press 1–3 to decide")
        shown.type("\x03")  # once: it is a signal in both modes of the terminal, and a second one would strike its end
        assert await shown.ends() == 130
        assert shown.settings() == shown.before
        assert "Traceback" not in shown.text


async def test_a_lost_connection_is_shown_and_found_again() -> None:
    told = events("onboarding-completes")
    async with FakeHandrail(told, visible=4) as fake:
        fake.scripts.append(refused(503, "overloaded", retry_after="1"))
        async with terminal(fake, "watch", fake.trace_id) as shown:
            await shown.shows("connection lost (Not now.); try 1 in")
            await fake.publish()
            await shown.shows("✓ Completed")
            assert await shown.ends() == 0
