"""The Java runtime of this machine, if there is one that Kafka 4 runs on."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from handrail.engines.errors import EngineUnavailable

REQUIRED_MAJOR = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True, slots=True)
class Java:
    """A usable Java runtime. `fingerprint` differs between builds whose class archives cannot be shared."""

    program: Path
    major: int
    fingerprint: str


def find_java() -> Java:
    """The runtime that JAVA_HOME names, else the first `java` on the PATH.

    Raises `EngineUnavailable` when there is none or when it is older than Java 17.
    """
    program = _program()
    if program is None:
        raise EngineUnavailable(
            f"Expected Java {REQUIRED_MAJOR} or newer for Apache Kafka, but found no java in JAVA_HOME or on the PATH. "
            f"Install a JRE {REQUIRED_MAJOR}, or name a running Kafka."
        )
    try:
        answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
        banner, works = answer.stderr + answer.stdout, answer.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        banner, works = str(error), False
    version = _VERSION.search(banner)
    if not works or version is None:
        raise EngineUnavailable(
            f"Expected '{program}' to be a Java runtime, but it did not tell its version. Install a JRE {REQUIRED_MAJOR}."
        )
    major = int(version.group(1))
    if major < REQUIRED_MAJOR:
        raise EngineUnavailable(
            f"Expected Java {REQUIRED_MAJOR} or newer for Apache Kafka, but '{program}' is Java {major}. "
            f"Install a newer JRE, or point JAVA_HOME at one."
        )
    return Java(Path(program), major, hashlib.sha256(f"{program}\n{banner}".encode()).hexdigest()[:12])


def _program() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and os.access(candidate := os.path.join(home, "bin", "java"), os.X_OK):
        return candidate
    return shutil.which("java")
