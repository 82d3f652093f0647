"""Contract section 6 and B24-B28: what a decision answers, whoever sends it, however often, however late."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.e2e.strange import Strange, fresh, problem, script

URL = "https://vendor.example/mbp16"


def test_a_decision_is_stored_repeated_and_final(handrail: Strange) -> None:
    name = handrail.onboard()
    pause = handrail.paused(name)
    said = {
        "action_id": "RES_MANUAL_SKU",
        "input": URL,
        "pause_id": pause["pause_id"],
        "comment": "checked by phone",
        "evidence_digest": pause["evidence_digest"],
    }
    key = fresh("key")
    path = f"/workflows/{name}/resume"
    first = handrail.post(path, said, Idempotency_Key=key, Handrail_Actor="ada", Handrail_Channel="cli")
    assert first.status_code == 202
    assert first.json() == {
        "trace_id": name,
        "pause_id": pause["pause_id"],
        "action_id": "RES_MANUAL_SKU",
        "status": "RESUMING",
    }
    for again in (
        handrail.post(path, said, Idempotency_Key=key),
        handrail.post(path, said, Handrail_Actor="bob"),
        handrail.post(path, {"action_id": "RES_MANUAL_SKU", "input": URL}),
    ):
        assert again.status_code == 200
        assert again.headers["idempotent-replayed"] == "true"
        assert {k: v for k, v in again.json().items() if k in first.json()} == first.json()
    assert handrail.post(path, said, Handrail_Actor="bob").json()["resolved_by"] == "ada"
    other = problem(handrail.post(path, {**said, "action_id": "RES_SKIP", "input": None}), 409, "already-resolved")
    assert (other["resolved_by"], other["action_id"], other["channel"]) == ("ada", "RES_MANUAL_SKU", "cli")
    assert other["resolved_at"].endswith("Z")
    assert handrail.ended(name)["status"] == "COMPLETED"
    late = problem(handrail.resume(name, "RES_SKIP"), 409, "already-resolved")
    assert late["resolved_by"] == "ada"


def test_of_two_and_thirty_at_once_one_wins_and_the_others_are_told(handrail: Strange) -> None:
    name = handrail.onboard()
    pause = handrail.paused(name)["pause_id"]

    def press(n: int) -> tuple[int, str]:
        action = ("RES_SKIP", "RES_ABORT_SAGA")[n % 2]
        while True:
            answer = handrail.post(
                f"/workflows/{name}/resume", {"action_id": action, "pause_id": pause}, Handrail_Actor=f"op{n}"
            )
            if answer.status_code != 503:  # not now
                return answer.status_code, action

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(press, range(32)))
    [winner] = [action for status, action in answers if status == 202]
    assert all(status == (200 if action == winner else 409) for status, action in answers if status != 202)
    ended = handrail.ended(name)["status"]
    assert ended == {"RES_SKIP": "COMPLETED_WITH_SKIPS", "RES_ABORT_SAGA": "COMPENSATED"}[winner]
    resolved = [e for e in handrail.state(name, history=True)["history"] if e["event_type"] == "HITL_RESOLVED"]
    assert [e["action_id"] for e in resolved] == [winner]


def test_b24_what_never_paused_cannot_be_resumed(handrail: Strange) -> None:
    name = handrail.start(plan={"nodes": [script("a", duration_ms=300)]})
    problem(handrail.resume(name, "RES_SKIP"), 409, "not-paused")
    handrail.ended(name)
    problem(handrail.resume(name, "RES_SKIP"), 409, "not-paused")


def test_b25_a_pause_that_is_over_is_told_from_the_one_that_is_open(handrail: Strange) -> None:
    name = handrail.start(plan={"nodes": [script("a", outcomes=["error:X", "error:Y", "ok"])]})
    first = handrail.paused(name)["pause_id"]
    assert handrail.resume(name, "RES_RETRY", pause_id=first).status_code == 202
    second = handrail.until(name, lambda s: bool(s["pauses"]) and s["pauses"][0]["pause_id"] != first, "paused again")[
        "pauses"
    ][0]["pause_id"]
    found = problem(handrail.resume(name, "RES_SKIP", pause_id=first), 409, "already-resolved")
    assert found["action_id"] == "RES_RETRY"
    problem(handrail.resume(name, "RES_SKIP", pause_id="no-such-pause"), 404, "pause-not-found")
    assert handrail.resume(name, "RES_RETRY", pause_id=second).status_code == 202
    assert handrail.ended(name)["status"] == "COMPLETED"


def test_a_superseded_pause_is_stale_and_several_open_ones_need_a_name(handrail: Strange) -> None:
    bad = script("a", outcomes=["fatal:NO"])
    name = handrail.start(plan={"nodes": [bad, {**bad, "id": "b"}]})
    two = handrail.until(name, lambda s: len(s["pauses"]) == 2, "paused twice")["pauses"]
    assert [p["seq"] for p in two] == sorted(p["seq"] for p in two)
    problem(handrail.resume(name, "RES_SKIP"), 409, "pause-ambiguous")
    assert handrail.resume(name, "RES_ABORT_SAGA", pause_id=two[0]["pause_id"]).status_code == 202
    assert handrail.ended(name)["status"] == "COMPENSATED"
    answer = handrail.resume(name, "RES_SKIP", pause_id=two[1]["pause_id"])
    problem(answer, 409, "stale-pause")


def test_b27_and_b28_only_what_is_offered_with_what_it_asks_for(handrail: Strange) -> None:
    name = handrail.onboard()
    pause = handrail.paused(name)
    found = problem(handrail.resume(name, "RES_DANCE"), 422, "action-not-allowed")
    assert "RES_SKIP" in str(found) and "RES_ABORT_SAGA" in str(found)
    for bad in (None, "", "no url", 5, {"url": URL}, ["x"], "x" * 100):
        found = problem(handrail.resume(name, "RES_MANUAL_SKU", input=bad), 422, "invalid-input")
        assert found["errors"][0]["pointer"].startswith("/input")
    problem(handrail.resume(name, "RES_SKIP", evidence_digest="sha256:" + "0" * 64), 409, "evidence-changed")
    problem(handrail.post(f"/workflows/{name}/resume", {"action": "RES_SKIP"}), 422, "unknown-field")
    problem(handrail.post(f"/workflows/{name}/resume", {}), 422, "validation")
    assert [p["pause_id"] for p in handrail.state(name)["pauses"]] == [pause["pause_id"]]
    assert handrail.resume(name, "RES_MANUAL_SKU", input=URL).status_code == 202
    assert handrail.ended(name)["status"] == "COMPLETED"


def test_attempts_go_on_counting_after_a_retry(handrail: Strange) -> None:
    node = script("a", outcomes=["error:X", "error:X", "ok"])
    node["retry"] = {**node["retry"], "max_attempts": 2}
    name = handrail.start(plan={"nodes": [node]})
    pause = handrail.paused(name)
    assert [a["attempt"] for a in pause["attempts"]] == [1, 2]
    assert handrail.resume(name, "RES_RETRY").status_code == 202
    [after] = handrail.ended(name)["nodes"]
    assert (after["state"], after["attempt"]) == ("COMPLETE", 3)
