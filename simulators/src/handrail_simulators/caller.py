"""Who asks the outside world for something, as far as the outside world can know."""

from __future__ import annotations

from typing import Protocol


class Caller(Protocol):
    """One attempt of a task. `effect_key` is the idempotency key of the request; `do_key`, while undoing, the key of what is
    to be undone. The SDK's `Context` is one."""

    @property
    def trace_id(self) -> str: ...
    @property
    def node_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def effect_key(self) -> str: ...
    @property
    def do_key(self) -> str | None: ...
