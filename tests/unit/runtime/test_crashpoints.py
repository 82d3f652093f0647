"""Crash points: nothing unless armed, and then gone at the named pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from handrail_runtime.crashpoints import arm
from handrail_runtime.errors import Misconfigured

_LOOP = """
from handrail_runtime.crashpoints import arm, crashpoint
arm()
for i in range(5):
    print(i, flush=True)
    crashpoint("K5")
    crashpoint("K6")
print("end", flush=True)
"""


def _run(value: str | None) -> tuple[int, list[str]]:
    environ = {k: v for k, v in os.environ.items() if k != "HANDRAIL_CRASHPOINT"}
    if value is not None:
        environ["HANDRAIL_CRASHPOINT"] = value
    done = subprocess.run([sys.executable, "-c", _LOOP], env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split()


def test_disarmed_nothing_happens() -> None:
    assert _run(None) == (0, ["0", "1", "2", "3", "4", "end"])
    assert _run("K99:1")[0] == 0


def test_the_process_is_killed_at_the_named_pass_of_the_named_point() -> None:
    assert _run("K5:3") == (-signal.SIGKILL, ["0", "1", "2"])
    assert _run("K6") == (-signal.SIGKILL, ["0"])
    assert _run("K99:1, K6:2,K5:4") == (-signal.SIGKILL, ["0", "1"])


@pytest.mark.parametrize("nonsense", ["K5:0", "K5:", "5", "K5:x", "K5;K6"])
def test_nonsense_is_told_at_once(nonsense: str) -> None:
    with pytest.raises(Misconfigured, match="HANDRAIL_CRASHPOINT"):
        arm({"HANDRAIL_CRASHPOINT": nonsense})
    arm({})
