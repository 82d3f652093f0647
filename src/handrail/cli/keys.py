"""Single keys from the terminal while a picture is live: no Enter, no echo, and the terminal as it was afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Keys:
    """Hands each typed character to `on_key` while it is entered (`with`); Ctrl-C still interrupts."""

    def __init__(self, on_key: Callable[[str], None]) -> None:
        self._on_key = on_key
        self._fd = sys.stdin.fileno()
        self._before: list[Any] | None = None

    def __enter__(self) -> Keys:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def _read(self) -> None:
        typed = os.read(self._fd, 64)
        if not typed:  # the terminal is gone: nothing will ever be typed again
            asyncio.get_running_loop().remove_reader(self._fd)
            return
        if typed.startswith(b"\x1b"):  # arrows and function keys come as several bytes and mean nothing here
            return
        for key in typed.decode("utf-8", "ignore"):
            self._on_key(key)
