"""Named places where a test may kill this process, between every two writes that must not be torn apart.

`HANDRAIL_CRASHPOINT="K5:3,K7"` kills (SIGKILL, no cleanup) at the third pass of K5 or the first of K7. Nothing is
read at import: a bootstrap calls `arm()`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping

from handrail_runtime.errors import Misconfigured

VARIABLE = "HANDRAIL_CRASHPOINT"
_SPEC = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(?::([1-9][0-9]*))?")

_left: dict[str, int] = {}
_armed = False


def arm(environ: Mapping[str, str] | None = None) -> None:
    """Reads the variable and arms what it names; without it everything is disarmed. Raises Misconfigured on nonsense."""
    global _armed
    wanted: dict[str, int] = {}
    for part in (environ if environ is not None else os.environ).get(VARIABLE, "").split(","):
        if not part.strip():
            continue
        spec = _SPEC.fullmatch(part.strip())
        if spec is None:
            raise Misconfigured(
                f"{VARIABLE}: Expected names as K5 or K5:3 separated by commas, but found {part[:40]!r}."
            )
        wanted[spec[1]] = int(spec[2] or 1)
    _left.clear()
    _left.update(wanted)
    _armed = bool(wanted)


def crashpoint(name: str) -> None:
    """Nothing, unless `name` is armed and this is its turn: then the process is gone."""
    if _armed:
        _hit(name)


def armed(name: str) -> bool:
    """Whether this point may still kill: for code that must be cut in two to be killed in its middle."""
    return _armed and _waits(name)


def _waits(name: str) -> bool:
    return _left.get(name, 0) > 0


def _hit(name: str) -> None:
    left = _left.get(name)
    if left is None:
        return
    _left[name] = left - 1
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
