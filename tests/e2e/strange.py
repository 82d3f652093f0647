"""A client that knows the contract and nothing of the code: httpx2, the standard library, and its own reading of SSE."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2

from tests.waiting import nothing_moves

ENDS = {
    "COMPLETED",
    "COMPLETED_WITH_SKIPS",
    "COMPENSATED",
    "COMPENSATION_INCOMPLETE",
    "FAILED",
    "CANCELLED",
}
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE event as it was on the wire."""

    event: str
    id: str | None
    data: Any
    retry: str | None


class Strange:
    """Speaks to a running Handrail. Every wait is bounded by `patience_s`."""

    def __init__(self, url: str, patience_s: float = 60.0) -> None:
        self.url, self.patience_s = url, patience_s
        self.http = httpx2.Client(base_url=url, trust_env=False, timeout=patience_s)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.http.get(path, headers=_dashes(headers))

    def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """`body` as JSON; bytes are sent as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        return self.http.post(path, content=content, headers={"Content-Type": "application/json", **_dashes(headers)})

    def start(self, **body: Any) -> str:
        """Starts and answers the trace_id."""
        answer = self.post("/workflows", body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["trace_id"])

    def onboard(self, sku: str = "MBP-OUT-OF-STOCK", **more: Any) -> str:
        return self.start(blueprint="employee-onboarding", input={"employee": "Ada", "sku": sku, **more})

    def state(self, trace_id: str, history: bool = False) -> dict[str, Any]:
        answer = self.get(f"/workflows/{trace_id}/state" + ("?history=true" if history else ""))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, trace_id: str, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first state in which it holds."""
        deadline = time.monotonic() + self.patience_s
        while True:
            answer = self.get(f"/workflows/{trace_id}/state")
            assert answer.status_code in (200, 503), answer.text  # 503: not now
            if answer.status_code == 200 and holds(answer.json()):
                return answer.json()
            assert time.monotonic() < deadline, f"never {what}: {answer.text[:2000]}"
            time.sleep(0.05)

    def at_rest(self, trace_id: str) -> dict[str, Any]:
        """The first open pause, once nothing runs beside it any more: steps of other branches may be under way while one waits."""
        return self.until(trace_id, lambda s: bool(s["pauses"]) and nothing_moves(s), "paused and at rest")["pauses"][0]

    def paused(self, trace_id: str) -> dict[str, Any]:
        """The first open pause, once there is one."""
        return self.until(trace_id, lambda s: bool(s["pauses"]), "paused")["pauses"][0]

    def ended(self, trace_id: str) -> dict[str, Any]:
        return self.until(trace_id, lambda s: s["status"] in ENDS, "at an end")

    def resume(self, trace_id: str, action_id: str, **more: Any) -> httpx2.Response:
        return self.post(f"/workflows/{trace_id}/resume", {"action_id": action_id, **more})

    def ledger(self, trace_id: str) -> list[dict[str, Any]]:
        return self.get(f"/simulators/ledger?trace_id={trace_id}").json()

    def stream(self, path: str, **headers: str) -> Iterator[Frame]:
        """The frames until the server closes; whoever has enough stops reading."""
        with self.http.stream("GET", path, headers=_dashes(headers)) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-accel-buffering"] == "no"
            assert "content-encoding" not in answer.headers
            yield from frames(answer.iter_lines())

    def raw(self, request: bytes) -> tuple[int, bytes]:
        """Writes these bytes to the server and reads until it closes or has answered; for what no HTTP library sends."""
        at = urlsplit(self.url)
        with socket.create_connection((at.hostname or "", at.port or 80), timeout=self.patience_s) as s:
            s.sendall(request)
            answer = b""
            while (piece := s.recv(65_536)) and not _whole(answer := answer + piece):
                pass
        return int(answer.split(b" ", 2)[1]), answer


def frames(lines: Iterator[str]) -> Iterator[Frame]:
    """Lines to frames by the rules of WHATWG HTML 9.2, except that `retry` alone makes a frame too."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            if name:
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif fields:
            data = json.loads(fields["data"]) if "data" in fields else None
            yield Frame(fields.get("event", "message"), fields.get("id"), data, fields.get("retry"))
            fields = {}


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, once it is known to be this one and to keep the rules of contract section 7."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (answer.status_code, body["type"]) == (status, f"/problems/{code}"), body
    assert body["status"] == status
    assert body["title"] and body["detail"] and body["instance"]
    text = answer.text.lower()
    for leak in ("traceback", 'file "', "select ", "insert into", "asyncpg", "sqlalchemy", "redis.", "socket.gethost"):
        assert leak not in text, f"{leak!r} leaks: {answer.text[:500]}"
    return body


def script(id_: str, *after: str, **inputs: Any) -> dict[str, Any]:
    """A node of the shipped simulator that is quick to retry."""
    retry = {"max_attempts": 1, "initial_delay_s": 0.01, "max_delay_s": 0.05}
    return {
        "id": id_,
        "agent": "simulator",
        "action": "script",
        "depends_on": list(after),
        "effect_class": "idempotent",
        "retry": retry,
        "inputs": inputs,
    }


def fresh(prefix: str = "e2e") -> str:
    """A trace_id that nobody has."""
    return f"{prefix}-{uuid4().hex[:12]}"


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(found) and (length is None or len(body) >= int(length[1]))


def _dashes(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
