"""What every request meets first: host, origin, media types, sizes on the wire, methods; and what is published."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import Rig, accepted, node, planned, raw, running_gateway
from tests.waiting import wait_until

from handrail_contracts.events import EVENTS
from handrail_contracts.problems import PROBLEMS, Problem
from handrail_contracts.topics import TOPICS
from handrail_gateway.entrypoints.http import console
from handrail_gateway.entrypoints.http.published import MODELS
from handrail_runtime import http_head

MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn, allowed_hosts="handrail.example, gateway") as running:
        await running.register()
        yield running
    await drop_database(postgres_server, dsn)


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    Problem.model_validate(problem)
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{code}"), problem
    assert problem["title"] == PROBLEMS[code][1]
    return problem


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9",
        "localhost:8080",
        "[::1]:8080",
        "[::1]",
        "LOCALHOST",
        "handrail.example:443",
        "gateway",
    ],
)
async def test_our_own_hosts_are_served_on_any_port(rig: Rig, host: str) -> None:
    assert (await rig.client.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "evil:8080",
        "127.0.0.2",
        "[::2]:80",
        "localhost@evil",
        "",
    ],
)
async def test_foreign_hosts_are_refused(rig: Rig, host: str) -> None:
    for path in ("/healthz", "/workflows", "/nowhere"):
        refused(await rig.client.get(path, headers={"Host": host}), 403, "foreign-host")


@pytest.mark.parametrize(
    "origin", ["http://localhost:5173", "http://127.0.0.1:8080", "https://handrail.example", "http://[::1]:8080"]
)
async def test_our_own_origins_are_served_without_cors_headers(rig: Rig, origin: str) -> None:
    answer = await rig.client.get("/workflows", headers={"Origin": origin})
    assert answer.status_code == 200
    assert not [h for h in answer.headers if h.startswith("access-control")]


@pytest.mark.parametrize("twice", ["127.0.0.1", "evil.example", ""])
async def test_a_request_names_one_host_and_one_origin(rig: Rig, twice: str) -> None:
    asked = f"GET /workflows HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: {twice}\r\nConnection: close\r\n\r\n"
    assert (await raw(rig.port, asked.encode()))[0] == 400
    origins = [("Origin", "http://evil.example"), ("Origin", f"http://127.0.0.1:{rig.port}")]
    refused(await rig.client.get("/workflows", headers=origins), 403, "foreign-origin")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost.evil",
        "file://",
        "https://localhost@evil.example",
        "http://[",
        "chrome-extension://x",
    ],
)
async def test_foreign_origins_are_refused(rig: Rig, origin: str) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    answer = await rig.client.post(f"/workflows/{trace_id}/cancel", headers={"Origin": origin})
    refused(answer, 403, "foreign-origin")
    assert await rig.commands(trace_id) == []


@pytest.mark.parametrize(
    "media",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
     "application/json; charset=latin-1", "application/jsonp", "application/problem+json"],
)  # fmt: skip
async def test_bodies_that_are_not_json_are_refused_with_what_is_accepted(rig: Rig, media: str | None) -> None:
    headers = {"Content-Type": media} if media else {}
    for path in ("/workflows", "/workflows/x/resume", "/workflows/x/cancel"):
        answer = await rig.client.post(path, content=b'{"intent":"x"}', headers=headers)
        problem = refused(answer, 415, "unsupported-media-type")
        assert "application/json" in problem["detail"]
        assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "media", ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
async def test_json_in_utf8_is_read(rig: Rig, media: str) -> None:
    body = orjson.dumps({"plan": {"nodes": [node("ü")]}})
    assert (await rig.client.post("/workflows", content=body, headers={"Content-Type": media})).status_code == 202


async def test_compressed_bodies_are_refused(rig: Rig) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(await rig.client.post("/workflows", content=b"\x1f\x8b", headers=headers), 415, "unsupported-media-type")


def head(path: str, *lines: str) -> bytes:
    start = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines]
    return ("\r\n".join(start) + "\r\n\r\n").encode()


def problem_of(body: bytes, code: str) -> dict[str, Any]:
    problem = orjson.loads(body)
    assert problem["type"] == f"/problems/{code}"
    return problem


@pytest.mark.parametrize(("path", "limit"), [("/workflows", 8 * MIB), ("/workflows/x/resume", MIB)])
async def test_a_body_over_the_limit_is_refused_and_the_connection_closed(rig: Rig, path: str, limit: int) -> None:
    size = limit + 1
    status, headers, body, closed = await raw(rig.port, head(path, f"Content-Length: {size}") + b" " * size)
    assert (status, headers["connection"], closed) == (413, "close", True)
    assert problem_of(body, "payload-too-large")["limit"] == limit


_CHUNK = b"10000\r\n" + b" " * 65_536 + b"\r\n"


@pytest.mark.parametrize(("path", "limit"), [("/workflows", 8 * MIB), ("/workflows/x/resume", MIB)])
async def test_a_chunked_body_is_counted_as_it_comes(rig: Rig, path: str, limit: int) -> None:
    over = head(path, "Transfer-Encoding: chunked") + _CHUNK * (limit // 65_536) + b"1\r\n \r\n0\r\n\r\n"
    status, _, body, closed = await raw(rig.port, over)
    assert (status, closed) == (413, True)
    assert problem_of(body, "payload-too-large")["limit"] == limit
    just = head(path, "Transfer-Encoding: chunked") + _CHUNK * (limit // 65_536) + b"0\r\n\r\n"
    status, _, body, _ = await raw(rig.port, just)
    assert status == 400
    problem_of(body, "malformed-json")


async def test_a_chunked_body_without_end_is_refused(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(head("/workflows/x/resume", "Transfer-Encoding: chunked") + _CHUNK * 32)
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert b"413" in answer.splitlines()[0]
    writer.close()


async def test_who_sends_for_ever_is_cut_off(rig: Rig) -> None:
    """Whether it still sees the answer is up to its system: what comes after the end resets the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(head("/workflows/x/resume", "Transfer-Encoding: chunked"))
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(20):
            while True:
                writer.write(_CHUNK)
                await writer.drain()
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        assert b"413" in (await reader.readuntil(b"\r\n\r\n")).splitlines()[0]
    writer.close()


async def test_a_content_length_that_lies_is_found_out(rig: Rig) -> None:
    # Shorter than the body: the rest is no request. Two lengths, or a length beside chunks: smuggling.
    small = head("/workflows", "Content-Length: 2") + b"{}" + b"x" * 2000
    status, _, body, _ = await raw(rig.port, small)
    # What follows may be seen before the first part is answered.
    problem_of(body, "malformed-request" if status == 400 else "validation")
    for lines in (
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: -1",),
        ("Content-Length: 5x",),
    ):
        status, headers, body, closed = await raw(rig.port, head("/workflows", *lines) + b"{}   ")
        assert (status, headers["content-type"], closed) == (400, "application/problem+json", True)
        problem_of(body, "malformed-request")


async def test_a_huge_declared_length_is_refused_before_a_byte_of_it_is_read(rig: Rig) -> None:
    request = head("/workflows", "Content-Length: 99999999999", "Expect: 100-continue")
    status, _, body, closed = await raw(rig.port, request)
    assert (status, closed) == (413, True)
    problem_of(body, "payload-too-large")


@pytest.mark.parametrize(
    "request_", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00\x01\x02\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_answered_as_a_problem(rig: Rig, request_: bytes) -> None:
    status, headers, body, _ = await raw(rig.port, request_)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    problem_of(body, "malformed-request")


@pytest.mark.parametrize("path", ["/workflows", "/workflows/w/events"])
async def test_a_method_that_nobody_knows_is_not_allowed(rig: Rig, path: str) -> None:
    status, headers, body, closed = await raw(rig.port, f"BREW {path}?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (status, headers["allow"], closed) == (405, "GET, HEAD, POST", True)
    assert problem_of(body, "method-not-allowed")["instance"] == path


async def test_an_endless_head_is_cut_off(rig: Rig) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n"
    status, _, body, _ = await raw(rig.port, request)
    assert status == 400
    problem_of(body, "malformed-request")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/workflows", {"GET", "HEAD", "POST"}),
        ("DELETE", "/workflows/x/state", {"GET", "HEAD"}),
        ("GET", "/workflows/x/resume", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("PATCH", "/openapi.json", {"GET", "HEAD"}),
        ("OPTIONS", "/inbox", {"GET", "HEAD"}),
        ("POST", "/console", {"GET", "HEAD"}),
    ],
)
async def test_other_methods_are_refused_with_those_allowed(rig: Rig, method: str, path: str, allow: set[str]) -> None:
    answer = await rig.client.request(method, path)
    refused(answer, 405, "method-not-allowed")
    assert set(answer.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/workflows/",
        "/workflows/x",
        "/workflows/x/state/y",
        "/docs",
        "/schemas/Nope",
        "/problems/nope",
        "/%00",
        "//evil.example/",
    ],
)
async def test_unknown_addresses_are_not_found(rig: Rig, path: str) -> None:
    status, headers, body, _ = await raw(rig.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    problem_of(body, "not-found")


async def test_a_form_that_we_cannot_answer_in_is_refused(rig: Rig) -> None:
    for accept in ("text/html", "image/png, text/*;q=0.5", "application/xml"):
        refused(await rig.client.get("/workflows", headers={"Accept": accept}), 406, "not-acceptable")
    for accept in ("application/json", "*/*", "text/html, */*;q=0.1", "application/*", "application/problem+json", ""):
        assert (await rig.client.get("/workflows", headers={"Accept": accept})).status_code == 200
    assert (await rig.client.get("/problems/not-paused", headers={"Accept": "text/html"})).status_code == 200


async def test_every_answer_has_the_security_headers(rig: Rig) -> None:
    for path in ("/workflows", "/nowhere", "/console/", "/metrics", "/problems/not-found", "/openapi.json"):
        headers = (await rig.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


async def test_a_head_is_a_get_without_its_body(rig: Rig) -> None:
    answer = await rig.client.head("/workflows")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


async def test_names_of_actors_are_checked(rig: Rig) -> None:
    trace_id, _ = await rig.paused()
    for name in (
        "x" * 129,
        "a\tb",
        "system",
        "system:timeout",
        "System : x",
    ):  # Handrail itself decides under the last three
        answer = await rig.post(f"/workflows/{trace_id}/cancel", {}, Handrail_Actor=name)
        refused(answer, 400, "invalid-text")
    assert (
        await rig.client.post(f"/workflows/{trace_id}/cancel", headers={"Handrail-Actor": "Zoë".encode()})
    ).status_code == 202
    [command] = await rig.commands(trace_id)
    assert command["actor"] == "Zoë"


async def test_a_bug_is_a_500_that_tells_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from handrail_gateway.application.lists import Lists

    async def broken(*_: Any) -> Any:
        raise RuntimeError("SELECT secret FROM vault WHERE host = 'db-7'")

    monkeypatch.setattr(Lists, "agents", broken)
    answer = await rig.client.get("/agents")
    problem = refused(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert problem["instance"] == "/agents"


async def test_what_is_at_no_address_is_quoted_short(rig: Rig) -> None:
    for method, path in (
        ("GET", "/" + "x" * 30_000),
        ("GET", "/workflows/x/" + "%E2%80%AE" * 3_000),
        ("PUT", "/a b<script>"),
    ):
        answer = await rig.client.request(method, path)
        assert answer.status_code == 404
        assert len(answer.content) < 1_000
        assert "<" not in answer.json()["instance"]


async def test_a_head_that_does_not_come_holds_no_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_head, "SLOWEST_HEAD_S", 0.3)
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def said(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(sent)
        async with asyncio.timeout(20):
            answered = await reader.read()
        writer.close()
        return answered

    assert await said(b"") == b""
    assert await said(b"\r\n") == b""
    for begun in (b"GET /workf", b"GET /workflows HTTP/1.1\r\nHost: localhost\r\nX: "):
        refused_ = await said(begun)
        assert refused_.startswith(b"HTTP/1.1 408 ")
        problem_of(refused_.partition(b"\r\n\r\n")[2], "request-timeout")
    after_one = await said(whole + b"GET /healthz HT")
    assert after_one.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 408 " in after_one


async def test_a_request_that_takes_longer_than_its_head_may_is_answered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_head, "SLOWEST_HEAD_S", 0.2)
    body = b'{"intent": "nothing of that"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
    for at in range(0, len(body), 5):
        writer.write(body[at : at + 5])
        await writer.drain()
        await asyncio.sleep(0.1)  # a slow client, not a wait for anything
    assert (await reader.read()).startswith(b"HTTP/1.1 422 ")
    writer.close()


async def test_who_leaves_while_he_sends_is_no_fault_of_ours(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    async def counted(status: str) -> float:
        lines = (await rig.client.get("/metrics")).text.splitlines()
        labels = f'handrail_http_requests_total{{method="POST",route="/workflows",status="{status}"}} '
        return sum(float(line.removeprefix(labels)) for line in lines if line.startswith(labels))

    failed, left = await counted("500"), await counted("499")
    for head in (b"Content-Length: 500\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + head)
        writer.write(b'{"intent": ' if b"Length" in head else b'5\r\n{"a":\r\n')
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def noticed() -> bool:
        return await counted("499") == left + 2

    await wait_until(noticed, description="both have left")
    assert await counted("500") == failed
    assert "request_failed" not in "".join(capfd.readouterr())


async def test_openapi_describes_every_route_and_its_schemas_are_valid(rig: Rig) -> None:
    document = (await rig.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    routes = {
        "/workflows",
        "/workflows/{trace_id}/state",
        "/workflows/{trace_id}/resume",
        "/inbox",
        "/dead-letters",
        "/quarantine",
    }
    assert routes <= set(document["paths"])
    text = orjson.dumps(document).decode()
    for ref in {part.split('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}:
        assert ref in document["components"]["schemas"], ref
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert name
    ids = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
    assert document["paths"]["/workflows"]["post"]["requestBody"]["content"].keys() == {"application/json"}


async def test_openapi_tells_of_every_post_how_its_body_may_be_refused(rig: Rig) -> None:
    document = (await rig.client.get("/openapi.json")).json()
    posts = {path: item["post"] for path, item in document["paths"].items() if "requestBody" in item.get("post", {})}
    assert {"/workflows", "/escalations", "/sse-tickets", "/ag-ui"} <= set(posts)
    for path, post in posts.items():
        told = {s: r["description"] for s, r in post["responses"].items()}
        for status, codes in (
            ("400", "malformed-json too-deep duplicate-key number-out-of-range invalid-text"),
            ("413", "payload-too-large"),
            ("415", "unsupported-media-type"),
            ("422", "validation unknown-field too-many-items"),
        ):
            assert [c for c in codes.split() if f"`{c}`" not in told.get(status, "")] == [], (path, status)
    by_key = {p["name"] for p in posts["/sse-tickets"].get("parameters", ())}
    assert "Idempotency-Key" not in by_key, "a ticket is used once: none is given out again"


async def test_asyncapi_describes_every_topic(rig: Rig) -> None:
    document = (await rig.client.get("/asyncapi.json")).json()
    assert document["asyncapi"] == "3.0.0"
    addresses = {c["address"] for c in document["channels"].values()}
    assert addresses == {t.name for t in TOPICS} | {"handrail.tasks.{agent}"}
    for channel in document["channels"].values():
        assert channel["bindings"]["kafka"]["bindingVersion"] == "0.5.0"
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in document["components"]["messages"]
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    events = document["components"]["messages"]["events-Event"]["payload"]["oneOf"]
    assert len(events) == len(set(EVENTS.values()))


async def test_every_model_is_published_as_json_schema(rig: Rig) -> None:
    together = (await rig.client.get("/schemas")).json()
    for model in MODELS:
        alone = (await rig.client.get(f"/schemas/{model.__name__}")).json()
        jsonschema.Draft202012Validator.check_schema(alone)
        assert model.__name__ in together["$defs"]
    jsonschema.Draft202012Validator.check_schema(together)


async def test_every_problem_has_a_page(rig: Rig) -> None:
    for code, (status, title) in PROBLEMS.items():
        page = await rig.client.get(f"/problems/{code}")
        assert page.headers["content-type"].startswith("text/html")
        assert title.split("'")[0] in page.text
        assert str(status) in page.text


async def test_health_readiness_and_metrics_answer(rig: Rig) -> None:
    assert (await rig.client.get("/healthz")).json() == {"status": "ok"}
    ready = await rig.client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["postgres"]["ok"]) == (200, True)
    metrics = (await rig.client.get("/metrics")).text
    assert 'handrail_http_requests_total{method="GET",route="/healthz",status="200"}' in metrics
    assert "trace_id=" not in metrics


async def test_without_built_files_the_console_says_what_is_missing(rig: Rig) -> None:
    home = await rig.client.get("/", follow_redirects=False)
    assert (home.status_code, home.headers["location"]) == (307, "/console/")
    if not (console.FOLDER / "index.html").exists():
        for path in ("/console", "/console/", "/console/workflows/x"):
            page = await rig.client.get(path)
            assert page.status_code == 200
            assert "No console in this build" in page.text


async def test_built_files_are_served_and_every_other_path_is_the_page(tmp_path: Path) -> None:
    import httpx2
    from fastapi import FastAPI

    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>the page</p>")
    (tmp_path / "assets" / "app-1a2b.js").write_text("1")
    app = FastAPI()
    console.mount(app, tmp_path)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        for path in ("/console/", "/console/inbox", "/console/workflows/abc"):
            page = await client.get(path)
            assert (page.status_code, page.text) == (200, "<p>the page</p>")
            assert page.headers["cache-control"] == "no-cache"
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert "unsafe" not in page.headers["content-security-policy"]
        script = await client.get("/console/assets/app-1a2b.js")
        assert "immutable" in script.headers["cache-control"]
        for path in ("/console/assets/nope.js", "/console/../settings.py", "/console/%2e%2e/settings.py"):
            assert (await client.get(path)).status_code == 404
