"""Contract section 1, route by route: methods, answers, lists, idempotency, who is refused at the door."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.strange import ENDS, UTC, Strange, fresh, problem, script


def test_a_start_is_a_202_with_location_and_links_and_the_state_answers_at_once(handrail: Strange) -> None:
    name = fresh()
    answer = handrail.post("/workflows", {"plan": {"nodes": [script("a")]}, "trace_id": name, "labels": {"team": name}})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/workflows/{name}/state"
    assert answer.json() == {
        "trace_id": name,
        "status": "ACCEPTED",
        "links": {
            "state": f"/workflows/{name}/state",
            "events": f"/workflows/{name}/events",
            "console": f"/console/workflows/{name}",
        },
    }
    assert handrail.state(name)["trace_id"] == name
    handrail.ended(name)
    listed = handrail.get(f"/workflows?label=team:{name}").json()
    assert [w["trace_id"] for w in listed["items"]] == [name]
    assert listed["next_cursor"] is None


def test_lists_are_newest_first_and_pages_neither_repeat_nor_miss(handrail: Strange) -> None:
    label = fresh()
    started: list[str] = []
    for n in range(5):  # one after the other, so that their times say in which order
        name = handrail.start(plan={"nodes": [script("a")]}, trace_id=f"{label}-{n}", labels={"l": label})
        started.append(name)
        handrail.ended(name)
    found: list[str] = []
    cursor = ""
    while True:
        page = handrail.get(f"/workflows?label=l:{label}&limit=2{cursor}").json()
        found += [w["trace_id"] for w in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == started[::-1]
    done = handrail.get(f"/workflows?label=l:{label}&status=COMPLETED&blueprint=none").json()
    assert done["items"] == []
    assert len(handrail.get(f"/workflows?label=l:{label}&limit=-1").json()["items"]) == 1  # moved to the nearest end
    assert handrail.get(f"/workflows?label=l:{label}&limit=1000000000").status_code == 200
    problem(handrail.get("/workflows?limit=many"), 400, "invalid-query")
    problem(handrail.get("/workflows?cursor=!!!"), 400, "invalid-cursor")
    problem(handrail.get("/workflows?status=ASLEEP"), 400, "invalid-query")


def test_the_journal_is_oldest_first_and_pages_by_seq(handrail: Strange) -> None:
    name = handrail.start(plan={"nodes": [script("a"), script("b", "a")]})
    state = handrail.ended(name)
    first = handrail.get(f"/workflows/{name}/journal?limit=3").json()
    rest = handrail.get(f"/workflows/{name}/journal?after=3&limit=1000").json()
    seqs = [e["seq"] for e in first["items"] + rest["items"]]
    assert seqs == list(range(1, int(state["cursor"]) + 1))
    assert rest["next_cursor"] is None
    whole = handrail.state(name, history=True)["history"]
    assert whole == first["items"] + rest["items"]


def test_every_read_answers_what_its_row_says(handrail: Strange) -> None:
    name = handrail.onboard()
    pause = handrail.at_rest(name)
    preview = handrail.get(f"/workflows/{name}/pauses/{pause['pause_id']}/preview/RES_ABORT_SAGA").json()
    assert set(preview) >= {"action_id", "status_after", "nodes", "undo"}
    changed = {n["node_id"] for n in preview["nodes"]}
    assert {"hardware_procurement", "welcome"} < changed <= {"hardware_procurement", "welcome", *preview["undo"]}
    assert sorted(preview["undo"]) == ["email_account", "hr_record", "payroll"]
    assert all(set(n) >= {"node_id", "from", "to"} and n["from"] != n["to"] for n in preview["nodes"])
    for order, status in (
        ("pause", "PAUSED_HITL"),
        ("cancel", "COMPENSATING"),
        ("cancel?compensate=false", "CANCELLED"),
    ):
        route, _, query = order.partition("?")
        seen = handrail.get(f"/workflows/{name}/{route}/preview?{query}").json()
        assert (seen["action_id"], seen["status_after"]) == (route, status)
        assert bool(seen["undo"]) == (order == "cancel"), seen
    worked_with = handrail.get(f"/workflows/{name}/nodes/hardware_procurement").json()
    assert worked_with["inputs"]["sku"] == "MBP-OUT-OF-STOCK"
    assert worked_with["unresolved"] == []
    assert handrail.get(f"/workflows/{name}/nodes/nowhere").status_code == 404
    explained = handrail.get(f"/workflows/{name}/explain")
    assert explained.status_code == 200
    assert "hardware_procurement" in json.dumps(explained.json())
    inbox = handrail.get("/inbox?state=open&limit=200").json()
    assert pause["pause_id"] in [p["pause_id"] for p in inbox["items"]]
    one = handrail.get(f"/pauses/{pause['pause_id']}")
    assert one.status_code == 200
    assert one.json()["pause_id"] == pause["pause_id"]
    letters = handrail.get("/dead-letters?limit=200").json()
    assert name in [d["trace_id"] for d in letters["items"]]
    assert "items" in handrail.get("/quarantine").json()
    blueprints = {b["name"]: b for b in handrail.get("/blueprints").json()["items"]}
    assert set(blueprints) >= {"employee-onboarding", "bank-transfer", "refund-support"}
    # In the order of their author: forms are drawn from it.
    assert list(blueprints["bank-transfer"]["input_schema"]["properties"])[:3] == ["from", "to", "amount"]
    assert "simulator" in {a["name"] for a in handrail.get("/agents").json()["items"]}
    assert handrail.resume(name, "RES_SKIP").status_code == 202
    handrail.ended(name)
    lines = handrail.get("/feedback.jsonl")
    assert lines.status_code == 200
    assert "ndjson" in lines.headers["content-type"]
    mine = [d for line in lines.text.splitlines() if (d := json.loads(line))["trace_id"] == name]
    assert [d["outcome"] for d in mine] == ["skipped"]
    resolved = handrail.get("/inbox?state=resolved&limit=200").json()
    assert pause["pause_id"] in [p["pause_id"] for p in resolved["items"]]


def test_the_service_describes_itself(handrail: Strange) -> None:
    assert handrail.get("/healthz").status_code == 200
    assert handrail.get("/readyz").status_code == 200
    assert "handrail_" in handrail.get("/metrics").text
    described = handrail.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    for path in (
        "/workflows",
        "/workflows/{trace_id}/state",
        "/workflows/{trace_id}/events",
        "/workflows/{trace_id}/resume",
        "/workflows/{trace_id}/pauses/{pause_id}/preview/{action_id}",
        "/workflows/{trace_id}/pause",
        "/workflows/{trace_id}/cancel",
        "/workflows/{trace_id}/pause/preview",
        "/workflows/{trace_id}/cancel/preview",
        "/workflows/{trace_id}/nodes/{node_id}",
        "/workflows/{trace_id}/journal",
        "/workflows/{trace_id}/explain",
        "/inbox",
        "/inbox/events",
        "/pauses/{pause_id}",
        "/pauses/{pause_id}/claim",
        "/pauses/{pause_id}/release",
        "/dead-letters",
        "/quarantine",
        "/blueprints",
        "/agents",
        "/feedback.jsonl",
    ):
        assert path in described["paths"], path
    assert handrail.get("/asyncapi.json").json()["asyncapi"].startswith("3.")
    assert (
        "WorkflowPausedHitl" in json.dumps(handrail.get("/schemas").json()) or handrail.get("/schemas").json()["$defs"]
    )
    assert handrail.get("/problems/dag-cycle").status_code == 200
    answer = handrail.http.request("PUT", "/workflows")
    assert "POST" in answer.headers["allow"]
    problem(answer, 405, "method-not-allowed")
    problem(handrail.get("/nowhere"), 404, "not-found")


def test_the_panic_button_pauses_a_running_workflow_and_resume_goes_on(handrail: Strange) -> None:
    name = handrail.start(plan={"nodes": [script("a", duration_ms=5000), script("b", "a")]})
    assert handrail.post(f"/workflows/{name}/pause", {"comment": "stop, please"}).status_code == 202
    pause = handrail.paused(name)
    assert (pause["kind"], pause["failed_agent"], pause["node_id"]) == ("manual", None, None)
    assert pause["failure_reason"] == "stop, please"
    assert {r["action_id"] for r in pause["available_resolutions"]} == {"RES_RESUME", "RES_ABORT_SAGA"}
    problem(handrail.post(f"/workflows/{name}/pause"), 409, "already-paused")
    assert handrail.resume(name, "RES_RESUME").status_code == 202
    assert handrail.ended(name)["status"] == "COMPLETED"
    problem(handrail.post(f"/workflows/{name}/pause"), 409, "already-ended")
    problem(handrail.post(f"/workflows/{name}/cancel"), 409, "already-ended")


def test_a_cancel_undoes_unless_told_not_to(handrail: Strange) -> None:
    undone, left = (
        handrail.start(plan={"nodes": [script("a"), script("b", "a", outcomes=["fatal:NO"])]}) for _ in range(2)
    )
    handrail.paused(undone)
    handrail.paused(left)
    assert handrail.post(f"/workflows/{undone}/cancel", {"comment": "no more"}).status_code == 202
    assert handrail.post(f"/workflows/{left}/cancel", {"compensate": False}).status_code == 202
    assert handrail.ended(undone)["status"] == "COMPENSATED"
    assert handrail.ended(left)["status"] == "CANCELLED"
    assert [e["kind"] for e in handrail.ledger(undone)] == ["do", "undo"]
    assert [e["kind"] for e in handrail.ledger(left)] == ["do"]
    history = handrail.state(left, history=True)["history"]
    [resolved] = [e for e in history if e["event_type"] == "HITL_RESOLVED"]
    assert resolved["outcome"] == "cancelled"


def test_a_claim_keeps_others_out_until_released(handrail: Strange) -> None:
    name = handrail.onboard()
    pause = handrail.paused(name)["pause_id"]
    claimed = handrail.post(f"/pauses/{pause}/claim", {"seconds": 600}, Handrail_Actor="ada")
    assert claimed.status_code == 200
    assert claimed.json()["claimed_by"] == "ada"
    problem(handrail.post(f"/pauses/{pause}/claim", {"seconds": 60}, Handrail_Actor="bob"), 409, "claimed")
    problem(handrail.resume(name, "RES_SKIP"), 409, "claimed")
    mine = handrail.get("/inbox?state=mine&limit=200", Handrail_Actor="ada").json()
    assert pause in [p["pause_id"] for p in mine["items"]]
    assert handrail.post(f"/pauses/{pause}/release", {}, Handrail_Actor="ada").status_code == 200
    assert handrail.post(f"/pauses/{pause}/claim", {"seconds": 600}, Handrail_Actor="ada").status_code == 200
    assert handrail.resume(name, "RES_SKIP", override_claim=True).status_code == 202
    handrail.ended(name)


def test_a_dead_letter_is_replayed_or_discarded_once(handrail: Strange) -> None:
    def letter(name: str) -> str:
        items = handrail.get("/dead-letters?limit=200").json()["items"]
        return next(d["dead_letter_id"] for d in items if d["trace_id"] == name)

    replayed = handrail.start(plan={"nodes": [script("a", outcomes=["error:X", "ok"])]})
    discarded = handrail.start(plan={"nodes": [script("a", outcomes=["error:X"])]})
    handrail.paused(replayed)
    handrail.paused(discarded)
    one, other = letter(replayed), letter(discarded)
    assert handrail.post(f"/dead-letters/{one}/replay").status_code == 202
    assert handrail.post(f"/dead-letters/{other}/discard", {"reason": "not needed"}).status_code == 202
    assert handrail.ended(replayed)["status"] == "COMPLETED"
    assert handrail.ended(discarded)["status"] == "COMPLETED_WITH_SKIPS"
    problem(handrail.post(f"/dead-letters/{one}/discard", {"reason": "late"}), 409, "already-resolved")
    problem(handrail.post("/dead-letters/none/replay"), 404, "dead-letter-not-found")
    problem(handrail.post("/quarantine/999999999/replay"), 404, "quarantine-not-found")


@pytest.mark.parametrize("spelled", ["{key}", '"{key}"'])
def test_one_key_starts_once_and_the_answer_is_repeated(handrail: Strange, spelled: str) -> None:
    key = spelled.format(key=fresh("key"))
    body = {"plan": {"nodes": [script("a")]}}
    first = handrail.post("/workflows", body, Idempotency_Key=key)
    again = handrail.post("/workflows", body, Idempotency_Key=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    problem(
        handrail.post("/workflows", {**body, "labels": {"a": "b"}}, Idempotency_Key=key), 422, "idempotency-key-reused"
    )


def test_a_herd_with_one_key_starts_one_workflow(handrail: Strange) -> None:
    key, body = fresh("key"), {"plan": {"nodes": [script("a")]}}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: handrail.post("/workflows", body, Idempotency_Key=key), range(24)))
    assert {a.status_code for a in answers} <= {202, 409}
    assert len({a.json()["trace_id"] for a in answers if a.status_code == 202}) == 1
    for refused in (a for a in answers if a.status_code == 409):
        problem(refused, 409, "request-in-progress")
        assert int(refused.headers["retry-after"]) >= 1


def test_an_idle_connection_outlives_the_clients_patience_with_it(handrail: Strange) -> None:
    """Clients let go of an idle connection after five seconds; one that we closed first resets a request now and then."""
    url = urlsplit(handrail.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.connect()
    held = connection.sock
    for idle_s in (7, 0):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() is not None
        assert connection.sock is held
        time.sleep(idle_s)
    connection.close()


@pytest.mark.parametrize("key", [b"", b'""', b"k" * 256, b"a\tb", b"a\xc2\x85b"])
def test_b21_a_bad_key_is_refused(handrail: Strange, key: bytes) -> None:
    status, answer = handrail.raw(
        b"POST /workflows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
        b"Idempotency-Key: " + key + b'\r\n\r\n{"intent": "x"}'
    )
    assert status == 400
    assert b"/problems/idempotency-key-invalid" in answer


def test_an_error_is_not_kept_under_its_key(handrail: Strange) -> None:
    key, name = fresh("key"), handrail.onboard()
    path = f"/workflows/{name}/resume"
    body: dict[str, Any] = {"action_id": "RES_MANUAL_SKU", "input": "no url"}
    pause = handrail.paused(name)
    problem(handrail.post(path, body, Idempotency_Key=key), 422, "invalid-input")
    good = {**body, "input": "https://vendor.example/x", "pause_id": pause["pause_id"]}
    assert handrail.post(path, good, Idempotency_Key=key).status_code == 202
    assert handrail.ended(name)["status"] == "COMPLETED"


def test_foreign_hosts_origins_and_forms_are_refused(handrail: Strange) -> None:
    problem(handrail.get("/workflows", Host="evil.example"), 403, "foreign-host")
    problem(handrail.post("/workflows", {"intent": "x"}, Origin="https://evil.example"), 403, "foreign-origin")
    problem(handrail.post("/workflows", {"intent": "x"}, Origin="null"), 403, "foreign-origin")
    own = handrail.post("/workflows", {"intent": "nothing of the kind whatsoever zzz"}, Origin=handrail.url)
    assert own.status_code != 403
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = handrail.http.post("/workflows", content=b"{}", headers={"Content-Type": kind})
        assert "application/json" in problem(answer, 415, "unsupported-media-type")["detail"]


def test_actor_and_channel_are_recorded(handrail: Strange) -> None:
    name = handrail.onboard()
    handrail.paused(name)
    sent = handrail.post(
        f"/workflows/{name}/resume",
        {"action_id": "RES_SKIP", "comment": "by phone"},
        Handrail_Actor="grace",
        Handrail_Channel="console",
    )
    assert sent.status_code == 202
    handrail.ended(name)
    [resolved] = [e for e in handrail.state(name, history=True)["history"] if e["event_type"] == "HITL_RESOLVED"]
    assert (resolved["actor"], resolved["channel"], resolved["comment"]) == ("grace", "console", "by phone")
    assert (resolved["outcome"], resolved["action_id"]) == ("decided", "RES_SKIP")


def test_a_get_changes_nothing(handrail: Strange) -> None:
    name = handrail.onboard()
    pause = handrail.at_rest(name)["pause_id"]
    before = handrail.state(name, history=True)
    for path in (
        f"/workflows/{name}/explain",
        f"/workflows/{name}/pauses/{pause}/preview/RES_SKIP",
        f"/pauses/{pause}",
        f"/workflows/{name}/journal",
        "/inbox",
        "/dead-letters",
    ):
        assert handrail.get(path).status_code == 200, path
    for path in (f"/workflows/{name}/resume", f"/workflows/{name}/cancel", f"/pauses/{pause}/claim"):
        problem(handrail.get(path), 405, "method-not-allowed")
    assert handrail.state(name, history=True) == before
    assert before["status"] not in ENDS
    assert UTC.fullmatch(before["created_at"])
    assert UTC.fullmatch(before["updated_at"])
