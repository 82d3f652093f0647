"""Contract section 8: the stories of the demo and of the two blueprints beside it, told to a client that knows nothing."""

from __future__ import annotations

from typing import Any

from tests.e2e.strange import Strange, problem

SEED = [
    {"action_id": "RES_SKIP", "display_text": "Skip Hardware Step", "requires_input": False},
    {
        "action_id": "RES_MANUAL_SKU",
        "display_text": "Provide Custom Vendor Link",
        "requires_input": True,
        "input_schema": "url",
    },
    {"action_id": "RES_ABORT_SAGA", "display_text": "Abort and Rollback Onboarding", "requires_input": False},
]


def deeds(ledger: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["kind"], e["node_id"]) for e in ledger]


def test_the_laptop_that_is_there(handrail: Strange) -> None:
    name = handrail.onboard("MBP-16")
    ended = handrail.ended(name)
    assert ended["status"] == "COMPLETED"
    assert [n["id"] for n in ended["nodes"]] == [
        "hr_record",
        "email_account",
        "hardware_procurement",
        "payroll",
        "welcome",
    ]
    assert {n["state"] for n in ended["nodes"]} == {"COMPLETE"}
    ledger = handrail.ledger(name)
    assert sorted(deeds(ledger)) == sorted(("do", n["id"]) for n in ended["nodes"])
    assert all(e["repeats"] == 0 and e["effect_key"] and e["attempt"] == 1 for e in ledger)


def test_the_seeds_payload_to_the_letter(handrail: Strange) -> None:
    name = handrail.start(
        blueprint="employee-onboarding",
        input={"employee": "Ada", "department": "Engineering", "sku": "MBP-OUT-OF-STOCK", "budget": 2500},
    )
    pause = handrail.paused(name)
    seed = {
        "event_type": "WORKFLOW_PAUSED_HITL",
        "trace_id": name,
        "failed_agent": "hardware_procurement_bot",
        "failure_reason": "All approved vendors returned 404 for requested Macbook Pro SKU.",
        "context_snapshot": {"requested_budget": 2500, "user_department": "Engineering"},
    }
    assert {k: pause[k] for k in seed} == seed
    plain = [{k: r[k] for k in ("action_id", "display_text", "requires_input", "input_schema") if r.get(k) is not None}
             for r in pause["available_resolutions"]]  # fmt: skip
    assert plain == SEED
    assert [r["style"] for r in pause["available_resolutions"]][-1] == "danger"
    assert [r["kind"] for r in pause["available_resolutions"]] == ["skip", "retry", "compensate"]
    assert (pause["kind"], pause["node_id"]) == ("failure", "hardware_procurement")
    assert "SKU_UNAVAILABLE" in str(pause["raw_evidence"]["body"])
    assert pause["raw_evidence"]["content_type"] == "application/json"
    assert pause["raw_evidence"]["truncated"] is False
    assert pause["evidence_digest"].startswith("sha256:")
    assert [a["attempt"] for a in pause["attempts"]] == [1, 2, 3]
    assert all(a["error"]["code"] == "SKU_UNAVAILABLE" for a in pause["attempts"])
    for field in ("proposed_action", "confidence", "risk", "transcript", "claimed_by", "claimed_until", "expires_at"):
        assert pause[field] is None, field
    assert pause["assignees"] == []
    [told] = [e for e in handrail.state(name, history=True)["history"] if e["event_type"] == "WORKFLOW_PAUSED_HITL"]
    assert told == pause, "the pause in the state has each field of its event"
    assert handrail.resume(name, "RES_SKIP").status_code == 202
    ended = handrail.ended(name)
    assert ended["status"] == "COMPLETED_WITH_SKIPS"
    assert ("do", "hardware_procurement") not in deeds(handrail.ledger(name))


def test_the_vendor_link_that_a_person_gives(handrail: Strange) -> None:
    name = handrail.onboard()
    handrail.paused(name)
    link = "https://vendor.example/mbp16"
    assert handrail.resume(name, "RES_MANUAL_SKU", input=link).status_code == 202
    ended = handrail.ended(name)
    assert ended["status"] == "COMPLETED"
    [hardware] = [n for n in ended["nodes"] if n["id"] == "hardware_procurement"]
    assert link.split("/mbp16")[0] in str(hardware["output"])
    assert hardware["attempt"] == 4
    assert deeds(handrail.ledger(name)).count(("do", "hardware_procurement")) == 1


def test_the_abort_that_undoes_in_reverse(handrail: Strange) -> None:
    name = handrail.onboard()
    handrail.at_rest(name)
    assert handrail.resume(name, "RES_ABORT_SAGA").status_code == 202
    ended = handrail.ended(name)
    assert ended["status"] == "COMPENSATED"
    told = deeds(handrail.ledger(name))
    done = [n for kind, n in told if kind == "do"]
    undone = [n for kind, n in told if kind == "undo"]
    assert sorted(undone) == sorted(done) == ["email_account", "hr_record", "payroll"]
    assert undone[-1] == "hr_record", "what the others were built on goes last"
    [winding] = [e for e in handrail.state(name, history=True)["history"] if e["event_type"] == "WORKFLOW_COMPENSATING"]
    assert {n["node_id"] for n in winding["nodes"]} == set(done)
    assert winding["scope"]


def test_the_undo_that_fails_and_the_person_who_decides(handrail: Strange) -> None:
    ends = {
        "RES_ACCEPT": "COMPENSATION_INCOMPLETE",
        "RES_STOP": "COMPENSATION_INCOMPLETE",
        "RES_MARK_UNDONE": "COMPENSATED",
    }
    names = {action: handrail.onboard(fail_compensation="email") for action in ends}
    for name in names.values():
        handrail.at_rest(name)
        assert handrail.resume(name, "RES_ABORT_SAGA").status_code == 202
    for action, name in names.items():
        pause = handrail.until(
            name, lambda s: any(p["kind"] == "compensation_failure" for p in s["pauses"]), "at its failed undo"
        )["pauses"][-1]
        assert pause["node_id"] == "email_account"
        assert {r["action_id"] for r in pause["available_resolutions"]} == {
            "RES_RETRY",
            "RES_MARK_UNDONE",
            "RES_ACCEPT",
            "RES_STOP",
        }
        more = {"input": "deleted by hand"} if action == "RES_MARK_UNDONE" else {}
        assert handrail.resume(name, action, pause_id=pause["pause_id"], **more).status_code == 202
        ended = handrail.ended(name)
        assert ended["status"] == ends[action]
        assert ("undo", "email_account") not in deeds(handrail.ledger(name))
        assert ended["reason"]


def test_an_intent_alone_finds_the_blueprint(handrail: Strange) -> None:
    name = handrail.start(intent="Please onboard our new engineer and get her a laptop")
    ended = handrail.ended(name)
    assert (ended["blueprint"], ended["status"]) == ("employee-onboarding", "COMPLETED")


def test_a_small_transfer_runs_through(handrail: Strange) -> None:
    name = handrail.start(blueprint="bank-transfer", input={"from": "checking", "to": "Alice", "amount": 50})
    ended = handrail.ended(name)
    assert ended["status"] == "COMPLETED"
    assert [n["id"] for n in ended["nodes"]] == ["balance_check", "transfer"]
    output = ended["nodes"][1]["output"]
    assert output == {"amount": 50, "to": "Alice", "balance": 950}


def test_a_refund_is_handed_to_a_person_with_its_transcript(handrail: Strange) -> None:
    said = "I was charged twice, I want a person"
    name = handrail.start(blueprint="refund-support", input={"order_id": "12345", "message": said})
    pause = handrail.paused(name)
    assert (pause["kind"], pause["node_id"]) == ("escalation", "assistant")
    assert said in [turn["text"] for turn in pause["transcript"]]
    assert {r["action_id"] for r in pause["available_resolutions"]} == {
        "RES_RESPOND",
        "RES_HAND_BACK",
        "RES_CLOSE",
        "RES_ABORT_SAGA",
    }
    assert handrail.resume(name, "RES_RESPOND", input="Sorry, here is your money.").status_code == 202
    assert handrail.ended(name)["status"] == "COMPLETED"


def test_an_agent_proposes_a_refund_and_a_person_has_the_last_word(handrail: Strange) -> None:
    asked = {"order_id": "12300", "message": "The jacket went back to you on Monday. Please pay me back."}
    small = handrail.start(blueprint="refund-support", input={**asked, "order_id": "12600"})
    names = {
        action: handrail.start(blueprint="refund-support", input=asked)
        for action in ("RES_APPROVE", "RES_EDIT", "RES_REJECT")
    }
    for action, name in names.items():
        pause = handrail.paused(name)
        assert (pause["kind"], pause["node_id"], pause["failed_agent"]) == ("gate", "assistant", "refund_assistant")
        assert pause["context_snapshot"]["customer_wrote"] == asked["message"]
        proposed = {k: v for k, v in pause["proposed_action"].items() if k != "digest"}
        assert proposed == {
            "action": "refund",
            "args": {"order_id": "12300", "amount": 53},
            "summary": "Refund 53.00 for order 12300",
            "diff": {
                "before": {"refunded": 0, "kept by the shop": 53},
                "after": {"refunded": 53, "kept by the shop": 0},
            },
            "reversible": False,
            "affected": 1,
            "domain": "money",
        }
        assert (pause["confidence"], pause["risk"]["rule_id"]) == (0.86, "refund-over-25")
        assert [r["action_id"] for r in pause["available_resolutions"]] == list(names)
        assert handrail.ledger(name) == [], "nothing is paid while nobody has decided"
        more = {"input": {"order_id": "12300", "amount": 40}} if action == "RES_EDIT" else {}
        if action == "RES_EDIT":
            for wrong in ({"order_id": "12300", "amount": "40"}, {"order_id": "12300"}, {**more["input"], "fee": 1}):
                problem(handrail.resume(name, action, input=wrong), 422, "invalid-input")
        assert handrail.resume(name, action, pause_id=pause["pause_id"], **more).status_code == 202
    said = {action: handrail.ended(name)["nodes"][0]["output"] for action, name in names.items()}
    assert "53.00 of order 12300 is refunded" in said["RES_APPROVE"]["response"]
    assert "40.00 of order 12300 is refunded" in said["RES_EDIT"]["response"]
    assert handrail.state(names["RES_REJECT"])["status"] == "COMPLETED_WITH_SKIPS"
    paid = {action: deeds(handrail.ledger(name)) for action, name in names.items()}
    assert paid == {"RES_APPROVE": [("do", "assistant")], "RES_EDIT": [("do", "assistant")], "RES_REJECT": []}
    ended = handrail.ended(small)
    assert ended["status"] == "COMPLETED" and deeds(handrail.ledger(small)) == [("do", "assistant")]
    told = [e for e in handrail.state(small, history=True)["history"] if e["event_type"] == "GATE_EVALUATED"]
    assert [(e["rule_id"], e["decide"]) for e in told] == [("refund-small-and-sure", "never")]


def test_a_budget_that_is_used_up_asks_a_person_and_can_be_raised(handrail: Strange) -> None:
    def thinks(id_: str, *after: str) -> dict[str, Any]:
        inputs = {"message": "When does my refund come?", "order_id": "12345"}
        who = {"agent": "refund_assistant", "action": "assist", "irreversible": True}
        return {"id": id_, **who, "depends_on": list(after), "inputs": inputs}

    plan = {"nodes": [thinks("a"), thinks("b", "a"), thinks("c", "b")], "budget": {"tokens": 1}}
    name = handrail.start(plan=plan)
    pause = handrail.paused(name)
    assert (pause["kind"], pause["node_id"], pause["raw_evidence"]["body"]["code"]) == ("failure", None, "budget")
    assert pause["context_snapshot"]["spent_tokens"] >= 1 and pause["context_snapshot"]["budget_tokens"] == 1
    offered = [r["action_id"] for r in pause["available_resolutions"]]
    assert offered == ["RES_RAISE_BUDGET", "RES_RESUME", "RES_SKIP", "RES_ABORT_SAGA"]
    problem(handrail.resume(name, "RES_RAISE_BUDGET", input="much"), 422, "invalid-input")
    assert [n["state"] for n in handrail.state(name)["nodes"]] == ["COMPLETE", "PENDING", "PENDING"]
    spent = pause["context_snapshot"]["spent_tokens"]
    assert handrail.resume(name, "RES_RAISE_BUDGET", input=spent, pause_id=pause["pause_id"]).status_code == 202
    handrail.until(name, lambda s: bool(s["pauses"]) and s["nodes"][1]["state"] == "COMPLETE", "asking once more")
    assert handrail.resume(name, "RES_SKIP").status_code == 202
    ended = handrail.ended(name)
    assert ended["status"] == "COMPLETED_WITH_SKIPS"
    assert [n["state"] for n in ended["nodes"]] == ["COMPLETE", "COMPLETE", "SKIPPED"]
    problem(handrail.post("/workflows", {"plan": {**plan, "budget": {}}}), 422, "validation")


def test_the_simulator_does_as_its_script_says(handrail: Strange) -> None:
    def node(id_: str, **inputs: Any) -> dict[str, Any]:
        return {
            "id": id_,
            "agent": "simulator",
            "action": "script",
            "effect_class": "idempotent",
            "retry": {"max_attempts": 3, "initial_delay_s": 0.01},
            "timeouts": {"start_to_close_s": 10},
            "inputs": inputs,
        }

    nodes = [
        node("echo", hello="world"),
        node("given", output={"po": "1"}),
        node("third", outcomes=["error:TIMEOUT", "error:TIMEOUT", "ok"]),
        node("late", outcomes=["late:100"]),
        node("keyless", keyless=True, outcomes=["error:X", "ok"]),
        node("garbage", outcomes=["garbage", "ok"]),
    ]
    name = handrail.start(plan={"nodes": nodes})
    ended = handrail.ended(name)
    assert ended["status"] == "COMPLETED", ended
    by_id = {n["id"]: n for n in ended["nodes"]}
    assert by_id["given"]["output"] == {"po": "1"}
    assert by_id["echo"]["output"]["hello"] == "world"
    assert by_id["third"]["attempt"] == 3
    fatal = handrail.start(plan={"nodes": [node("a", outcomes=["fatal:BROKEN"])]})
    pause = handrail.paused(fatal)
    assert [a["error"]["code"] for a in pause["attempts"]] == ["BROKEN"], "fatal is not tried again"
    asks = handrail.start(plan={"nodes": [node("a", outcomes=["escalate:unsure"])]})
    assert (handrail.paused(asks)["kind"], handrail.paused(asks)["failure_reason"]) == ("escalation", "unsure")
