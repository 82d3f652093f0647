"""The libraries of Apache Kafka, fetched once with Maven into this user's cache and checked against known digests."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from handrail.engines.datadir import storage_error
from handrail.engines.errors import EngineUnavailable

NAME = "Apache Kafka"
VERSION = "4.3.1"
DIST = Path(__file__).with_name("kafka_dist")
_DOWNLOADED_JAR = re.compile(r"Downloaded from .*/([^/ ]+\.jar) ")


def cache_dir() -> Path:
    """Where this version of Kafka is kept: `$XDG_CACHE_HOME` or `~/.cache`, then `handrail/kafka-<version>`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "handrail" / f"kafka-{VERSION}"


def cached() -> bool:
    """Whether every library is in the cache, so that Kafka starts offline."""
    jars = cache_dir() / "jars"
    return all((jars / name).is_file() for name in _digests())


async def fetch(on_progress: Callable[[str], None] | None = None) -> Path:
    """Return the directory of the libraries, after fetching what is missing. Idempotent; offline once it succeeded.

    Several processes may ask at once: one fetches, the others wait. Raises `EngineUnavailable` when Maven is missing,
    the repository cannot be reached, or something else than the expected bytes came.
    """
    jars = cache_dir() / "jars"
    if cached():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise EngineUnavailable(
            f"Expected Maven to fetch {NAME} {VERSION}, but found no mvn on the PATH. "
            f"Install Maven, or name a running Kafka."
        )
    try:
        async with exclusive(on_progress):
            if not cached():
                await _fetch(maven, jars, on_progress or _silent)
    except OSError as error:
        raise storage_error(NAME, cache_dir(), error) from error
    return jars


@asynccontextmanager
async def exclusive(on_progress: Callable[[str], None] | None = None) -> AsyncGenerator[None]:
    """Hold the cache of this version against other processes."""
    home = cache_dir()
    home.mkdir(parents=True, exist_ok=True)
    lock_fd = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while not _try_lock(lock_fd):
            if on_progress and not told:
                on_progress(f"Waiting for another process that prepares {NAME} {VERSION}")
                told = True
            await asyncio.sleep(0.1)
        yield
    finally:
        os.close(lock_fd)


async def _fetch(maven: str, jars: Path, on_progress: Callable[[str], None]) -> None:
    draft = jars.with_name("jars.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    # A copy, because Maven writes next to the file it is given.
    shutil.copy(DIST / "pom.xml", draft / "pom.xml")
    expected = _digests()
    on_progress(f"Fetching {NAME} {VERSION} with Maven (first use only, 44 MB)")
    command = [maven, "--batch-mode", "--update-snapshots", "--strict-checksums", "-Dstyle.color=never"]
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={draft / 'jars'}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *goal,
        cwd=draft,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        errors = await _follow(process, set(expected), on_progress)
        status = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if status != 0:
        shutil.rmtree(draft, ignore_errors=True)
        found = errors[0][:300] if errors else f"it ended with status {status}"
        raise EngineUnavailable(
            f"Expected Maven to fetch {NAME} {VERSION}, but it could not: {found} - "
            f"Connect to the network, or set a mirror in Maven's settings.xml, and start again."
        )
    await asyncio.to_thread(_verify, draft / "jars", expected)
    shutil.rmtree(jars, ignore_errors=True)
    (draft / "jars").rename(jars)
    shutil.rmtree(draft, ignore_errors=True)


async def _follow(
    process: asyncio.subprocess.Process, expected: set[str], on_progress: Callable[[str], None]
) -> list[str]:
    """Read Maven's output to its end, tell progress, return its error lines."""
    assert process.stdout is not None
    errors: list[str] = []
    fetched: set[str] = set()
    async for raw in process.stdout:
        line = raw.decode("utf-8", errors="replace").strip()
        if line.startswith("[ERROR] "):
            errors.append(line.removeprefix("[ERROR] "))
        elif (match := _DOWNLOADED_JAR.search(line)) and match.group(1) in expected:
            fetched.add(match.group(1))
            if len(fetched) % 10 == 0 or len(fetched) == len(expected):
                on_progress(f"Fetching {NAME} {VERSION}: {len(fetched)} of {len(expected)} libraries")
    return errors


def _verify(jars: Path, expected: dict[str, str]) -> None:
    for name, digest in expected.items():
        path = jars / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "nothing"
        if found != digest:
            raise EngineUnavailable(
                f"Expected {name} with SHA-256 {digest[:12]}, but Maven delivered {found[:12]}. "
                f"Remove it from Maven's local repository, check its mirror, and start again."
            )


def _digests() -> dict[str, str]:
    lines = (DIST / "jars.sha256").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _silent(_: str) -> None:
    pass
