"""Approval by policy, from outside: the bank transfer of CONTRACT section 9, policies that change, what decisions teach."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import yaml

from handrail_contracts.policy import action_digest
from tests.system.demo import Demo
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)
ENDS = ("COMPLETED", "COMPLETED_WITH_SKIPS", "FAILED", "COMPENSATED")
Json = dict[str, Any]


class Bank:
    """A demo, spoken to over HTTP alone."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.http = httpx2.AsyncClient(base_url=demo.url, trust_env=False, timeout=30)

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Json]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.post(path, json=body, headers=named)
        return answer.status_code, answer.json()

    async def get(self, path: str) -> Any:
        return (await self.http.get(path)).json()

    async def lines(self, query: str = "") -> list[Json]:
        text = (await self.http.get(f"/feedback.jsonl{query}")).text
        return [json.loads(line) for line in text.splitlines()]

    async def start(self, body: Json, **headers: str) -> str:
        status, answer = await self.post("/workflows", body, **headers)
        assert status == 202, answer
        return answer["trace_id"]

    async def transfer(self, amount: Any, to: str = "Alice") -> str:
        return await self.start(
            {"blueprint": "bank-transfer", "input": {"from": "checking", "to": to, "amount": amount}}
        )

    async def plain(self, amount: Any, to: str = "Alice", **headers: str) -> str:
        node = {"id": "t", "agent": "bank", "action": "transfer", "inputs": {"to": to, "amount": amount}}
        return await self.start({"plan": {"nodes": [node]}}, **headers)

    async def until(self, trace_id: str, *statuses: str) -> Json:
        found: list[Json] = []

        async def there() -> bool:
            found[:] = [await self.get(f"/workflows/{trace_id}/state?history=true")]
            return found[0]["status"] in statuses

        await wait_until(there, description=f"{trace_id} is {statuses}", timeout_s=90)
        return found[0]

    async def asked(self, trace_id: str) -> Json:
        (pause,) = (await self.until(trace_id, "PAUSED_HITL"))["pauses"]
        return pause

    async def press(self, pause: Json, action_id: str, **more: Any) -> tuple[int, Json]:
        headers = {k: more.pop(k) for k in ("Handrail_Actor",) if k in more}
        body = {"action_id": action_id, "pause_id": pause["pause_id"], **more}
        return await self.post(f"/workflows/{pause['trace_id']}/resume", body, **headers)

    async def paid(self, trace_id: str) -> list[str]:
        return [entry["node_id"] for entry in await self.demo.ledger(trace_id)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bank(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Bank]:
    demo = Demo(tmp_path_factory.mktemp("gates") / "data")
    await demo.start()
    bank = Bank(demo)
    yield bank
    await bank.http.aclose()
    await demo.stop()


async def test_fifty_runs_through_and_the_verdict_is_on_record(bank: Bank) -> None:
    trace_id = await bank.transfer(50)
    state = await bank.until(trace_id, *ENDS)
    assert state["status"] == "COMPLETED"
    nodes = {n["id"]: n["output"] for n in state["nodes"]}
    assert nodes == {
        "balance_check": {"account": "checking", "balance": 1000},
        "transfer": {"amount": 50, "to": "Alice", "balance": 950},
    }
    (told,) = [e for e in state["history"] if e["event_type"] == "GATE_EVALUATED"]
    assert {k: told[k] for k in ("node_id", "rule_id", "policy_version", "decide")} == {
        "node_id": "transfer",
        "rule_id": None,
        "policy_version": 1,
        "decide": "never",
    }
    assert told["inputs"]["args"] == {"to": "Alice", "amount": 50}
    assert await bank.paid(trace_id) == ["transfer"]


async def test_five_hundred_waits_with_everything_that_a_person_needs_and_approval_pays(bank: Bank) -> None:
    trace_id = await bank.transfer(500)
    pause = await bank.asked(trace_id)
    digest = action_digest("transfer", {"to": "Alice", "amount": 500})
    action = {k: pause["proposed_action"][k] for k in ("action", "args", "summary", "diff", "reversible", "digest")}
    assert action == {
        "action": "transfer",
        "args": {"to": "Alice", "amount": 500},
        "summary": "Transfer 500.00 to Alice",
        "diff": {"before": {"balance": 1000}, "after": {"balance": 500}},
        "reversible": False,
        "digest": digest,
    }
    assert (pause["kind"], pause["node_id"], pause["failed_agent"]) == ("gate", "transfer", "bank")
    assert {"rule_id": "money-over-100", "policy_version": 1, "score": 0.9, "decide": "always"}.items() <= pause[
        "risk"
    ].items()
    buttons = {b["action_id"]: b for b in pause["available_resolutions"]}
    assert list(buttons) == ["RES_APPROVE", "RES_EDIT", "RES_REJECT"]
    fields = buttons["RES_EDIT"]["input_schema"]["properties"]
    assert (fields["to"]["type"], fields["amount"]["type"]) == ("string", "number")
    assert await bank.paid(trace_id) == []
    seen = await bank.get(f"/workflows/{trace_id}/pauses/{pause['pause_id']}/preview/RES_REJECT")
    assert seen["status_after"] == "COMPLETED_WITH_SKIPS"
    stale = await bank.press(pause, "RES_APPROVE", evidence_digest=action_digest("transfer", {"amount": 5}))
    assert (stale[0], stale[1]["type"]) == (409, "/problems/evidence-changed")
    assert (await bank.press(pause, "RES_APPROVE", evidence_digest=digest))[0] == 202
    state = await bank.until(trace_id, *ENDS)
    assert state["status"] == "COMPLETED" and state["output"]["transfer"]["balance"] == 500
    assert await bank.paid(trace_id) == ["transfer"]


async def test_an_edit_is_checked_and_pays_the_edited_amount(bank: Bank) -> None:
    trace_id = await bank.transfer(500)
    pause = await bank.asked(trace_id)
    for wrong, pointer in (
        ({"to": "Alice", "amount": "120"}, "/input/amount"),
        ({"to": "Alice", "amount": 0}, "/input/amount"),
        ({"to": "Alice"}, "/input/amount"),
        ({"to": "Alice", "amount": 120, "fee": 1}, "/input/fee"),
        ({"to": "Alice", "amount": 2_000_000}, "/input/amount"),
    ):
        status, problem = await bank.press(pause, "RES_EDIT", input=wrong)
        assert (status, problem["type"]) == (422, "/problems/invalid-input"), wrong
        assert [e["pointer"] for e in problem["errors"]] == [pointer]
    assert (await bank.press(pause, "RES_EDIT", input={"to": "Alice", "amount": 120.5}, comment="less"))[0] == 202
    state = await bank.until(trace_id, *ENDS)
    assert state["output"]["transfer"] == {"amount": 120.5, "to": "Alice", "balance": 879.5}
    (line,) = [x for x in await bank.lines("?kind=gate&outcome=edited") if x["trace_id"] == trace_id]
    assert (line["proposed"]["amount"], line["final"]["amount"], line["comment"]) == (500, 120.5, "less")
    assert line["patch"] == [{"op": "replace", "path": "/amount", "value": 120.5}]
    assert line["policy"] == {"version": 1, "rule_id": "money-over-100", "score": 0.9}
    assert line["later"] == {"status": "COMPLETED"} and line["waited_s"] >= 0


async def test_a_refusal_is_as_complete_a_path(bank: Bank) -> None:
    trace_id = await bank.transfer(500)
    await bank.asked(trace_id)
    shown = await bank.demo.handrail("resolve", trace_id, "reject", "--comment", "who is Alice?")
    assert shown.code == 0, shown.err
    state = await bank.until(trace_id, *ENDS)
    assert state["status"] == "COMPLETED_WITH_SKIPS" and await bank.paid(trace_id) == []
    (line,) = [x for x in await bank.lines("?outcome=rejected") if x["trace_id"] == trace_id]
    assert (line["final"], line["comment"], line["channel"]) == (None, "who is Alice?", "cli")
    (pair,) = [x for x in await bank.lines("?format=preference") if x["metadata"]["trace_id"] == trace_id]
    assert pair["chosen"] == {"action": None, "reason": "who is Alice?"} and pair["rejected"]["args"]["amount"] == 500


async def test_only_the_transfer_of_a_plan_waits(bank: Bank) -> None:
    nodes = [
        {"id": "pay_in", "agent": "bank", "action": "deposit", "inputs": {"amount": 10}},
        {"id": "look", "agent": "bank", "action": "balance_check"},
        {"id": "pay_out", "agent": "bank", "action": "transfer", "inputs": {"to": "Bob", "amount": 300}},
    ]
    trace_id = await bank.start({"plan": {"nodes": nodes}})

    async def others_are_done() -> bool:
        states = {n["id"]: n["state"] for n in (await bank.get(f"/workflows/{trace_id}/state"))["nodes"]}
        return states == {"pay_in": "COMPLETE", "look": "COMPLETE", "pay_out": "AWAITING_HUMAN"}

    await wait_until(others_are_done, description="all but the transfer have run", timeout_s=90)
    shown = await bank.demo.handrail("resolve", trace_id, "edit", "--set", "amount=200", "--comment", "enough")
    assert shown.code == 0, shown.err
    await bank.until(trace_id, "COMPLETED")
    assert sorted(await bank.paid(trace_id)) == ["pay_in", "pay_out"]


async def test_an_approval_outlives_the_death_of_everything(bank: Bank) -> None:
    trace_id = await bank.transfer(700)
    pause = await bank.asked(trace_id)
    await bank.demo.kill()
    await bank.demo.start()
    assert (await bank.press(pause, "RES_APPROVE", evidence_digest=pause["evidence_digest"]))[0] == 202
    state = await bank.until(trace_id, *ENDS)
    assert state["output"]["transfer"]["balance"] == 300 and await bank.paid(trace_id) == ["transfer"]


async def test_who_starts_may_not_approve_where_four_eyes_are_asked_for(bank: Bank) -> None:
    gate = {"decide": "always", "four_eyes": True}
    node = {"id": "t", "agent": "bank", "action": "transfer", "inputs": {"to": "A", "amount": 5}, "gate": gate}
    trace_id = await bank.start({"plan": {"nodes": [node]}}, Handrail_Actor="bob")
    pause = await bank.asked(trace_id)
    assert pause["risk"]["requested_by"] == "bob"
    status, problem = await bank.press(pause, "RES_APPROVE", Handrail_Actor="bob")
    assert (status, problem["type"]) == (403, "/problems/self-approval")
    shown = await bank.demo.handrail("show", pause["pause_id"])
    assert "bob may reject it, not approve it" in shown.out
    for words in (("approve",), ("edit", "--set", "amount=4")):
        refused = await bank.demo.handrail("resolve", trace_id, *words, "--actor", "bob")
        assert refused.code == 1 and "Expected somebody else to approve" in refused.err, refused
    assert (await bank.demo.handrail("resolve", trace_id, "approve", "--actor", "ada")).code == 0
    await bank.until(trace_id, "COMPLETED")
    again = await bank.demo.handrail("resolve", trace_id, "approve", "--actor", "carl")
    assert again.code == 0 and "had been decided already, by ada" in again.out
    late = await bank.demo.handrail("resolve", trace_id, "reject", "--actor", "carl")
    assert late.code == 1 and "'ada' chose RES_APPROVE by 'cli'" in late.err


async def test_four_eyes_of_one_policy_hold_beside_the_rules_of_another_and_for_what_is_edited(bank: Bank) -> None:
    """The policy that ships asks above 100 without four eyes: a policy of one's own is not lost beside it."""
    match = {"agent": "bank", "action": "transfer", "args.to": "Two", "args.amount": {"gt": 700}}
    rule = {"id": "two-over-700", "match": match, "decide": "always", "four_eyes": True}
    assert (await bank.post("/policies", {"policy": {"name": "second-person", "rules": [rule]}}))[0] == 201
    started = [
        await bank.start({"blueprint": "bank-transfer", "input": {"to": "Two", "amount": n}}, Handrail_Actor="bob")
        for n in (800, 200)
    ]
    large, small = [await bank.asked(trace_id) for trace_id in started]
    more = {"to": "Two", "amount": 900}
    for pause, words in ((large, {}), (large, {"input": more}), (small, {"input": more})):
        action = "RES_EDIT" if words else "RES_APPROVE"
        status, problem = await bank.press(pause, action, **words, Handrail_Actor="bob")
        assert (status, problem["type"]) == (403, "/problems/self-approval"), pause
    assert (await bank.press(small, "RES_APPROVE", Handrail_Actor="bob"))[0] == 202
    assert (await bank.press(large, "RES_APPROVE", Handrail_Actor="ada"))[0] == 202
    for trace_id in started:
        await bank.until(trace_id, *ENDS)
        assert await bank.paid(trace_id) == ["transfer"]


async def test_what_an_agent_proposes_is_decided_by_command(bank: Bank) -> None:
    asked = {"order_id": "12300", "message": "I sent it back, please pay me back."}
    names = [await bank.start({"blueprint": "refund-support", "input": asked}) for _ in range(3)]
    for name in names:
        await bank.asked(name)
    shown = await bank.demo.handrail("show", (await bank.asked(names[0]))["pause_id"])
    for told in ("Refund 53.00 for order 12300", "please pay me back", "0  →  53", "It affects 1.", "confidence 86%"):
        assert told in shown.out, shown.out
    wrong = await bank.demo.handrail("resolve", names[1], "edit", "--set", "amount=lots")
    assert wrong.code == 2 and "Expected a number" in wrong.err
    commands = (("approve",), ("edit", "--set", "amount=40", "--comment", "a button is off"), ("reject",))
    for name, words in zip(names, commands, strict=True):
        done = await bank.demo.handrail("resolve", name, *words)
        assert done.code == 0, done.err
    ends = [await bank.until(name, *ENDS) for name in names]
    assert [e["status"] for e in ends] == ["COMPLETED", "COMPLETED", "COMPLETED_WITH_SKIPS"]
    assert "40.00 of order 12300 is refunded" in ends[1]["output"]["assistant"]["response"]
    assert [await bank.paid(name) for name in names] == [["assistant"], ["assistant"], []]


async def test_a_policy_changes_for_what_starts_next_and_its_history_stays(bank: Bank, tmp_path: Path) -> None:
    shown = await bank.demo.handrail("policy", "show", "bank", "--yaml")
    policy = yaml.safe_load(shown.out)
    file = tmp_path / "bank.yaml"
    policy["rules"][0]["match"]["args.amount"] = {"gt": 30}
    file.write_text(yaml.safe_dump(policy))
    applied = await bank.demo.handrail("policy", "apply", str(file), "--comment", "stricter")
    assert applied.code == 0 and "version 2 is in force" in applied.out, applied.err
    trace_id = await bank.transfer(50)
    pause = await bank.asked(trace_id)
    assert pause["risk"]["policy_version"] == 2
    policy["rules"].append(
        {"id": "never-ever", "match": {"action": "transfer", "args.to": "Alice"}, "decide": "forbid"}
    )
    assert (await bank.post("/policies", {"policy": policy}))[0] == 201
    status, problem = await bank.press(pause, "RES_APPROVE")
    assert (status, problem["type"]) == (403, "/problems/forbidden")
    policy["rules"].pop()
    policy["rules"][0]["match"]["args.amount"] = {"gt": 100}
    assert (await bank.post("/policies", {"policy": policy}))[0] == 201
    versions = (await bank.get("/policies/bank"))["items"]
    assert [v["version"] for v in versions] == [4, 3, 2, 1] and versions[2]["comment"] == "stricter"
    again = await bank.post("/policies", {"policy": policy})
    assert (again[0], again[1]["version"]) == (200, 4), "the same is no new version"
    late = await bank.post("/policies", {"policy": {**policy, "version": 3, "rules": []}})
    assert (late[0], late[1]["type"]) == (409, "/problems/policy-version")
    assert (await bank.press(pause, "RES_APPROVE"))[0] == 202


async def test_decisions_speak_for_an_exemption_and_against_a_loose_policy(bank: Bank, tmp_path: Path) -> None:
    for amount in (110, 120, 130):
        pause = await bank.asked(await bank.plain(amount, "Zoe"))
        assert (await bank.press(pause, "RES_APPROVE", Handrail_Actor="ada"))[0] == 202
    refused = await bank.asked(await bank.plain(125, "Mallory"))
    await bank.press(refused, "RES_REJECT", comment="not this one")
    loose = tmp_path / "loose.yaml"
    rule = {
        "id": "money",
        "match": {"agent": "bank", "action": "transfer", "args.amount": {"gt": 400}},
        "decide": "always",
    }
    loose.write_text(yaml.safe_dump({"name": "bank", "rules": [rule]}))
    found = (await bank.demo.handrail("policy", "simulate", str(loose), "--json")).json
    assert found["interruptions"]["saved"] >= 4
    assert refused["pause_id"] in [s["pause_id"] for s in found["slipped"]]
    told = await bank.demo.handrail("policy", "simulate", str(loose))
    assert "Transfer 125.00 to Mallory" in told.out and "not this one" in told.out
    best = tmp_path / "best.yaml"
    (suggested, *_) = (await bank.demo.handrail("policy", "suggest", "--min", "3", "-o", str(best), "--json")).json[
        "items"
    ]
    assert suggested["exemption"]["match"] == {
        "agent": "bank",
        "action": "transfer",
        "reversible": True,
        "args.to": "Zoe",
        "args.amount": {"ge": 110, "le": 130},
    }
    assert (await bank.demo.handrail("policy", "simulate", str(best), "--json")).json["slipped"] == []
    assert (await bank.demo.handrail("policy", "apply", str(best), "-c", "as people did")).code == 0
    assert (await bank.until(await bank.plain(115, "Zoe"), *ENDS))["status"] == "COMPLETED"
    await bank.asked(await bank.plain(131, "Zoe"))
    await bank.asked(await bank.transfer(115, "Zoe"))


async def test_marked_arguments_do_not_leave(bank: Bank) -> None:
    policy = {"name": "private", "rules": [], "redact": ["args.to"]}
    assert (await bank.post("/policies", {"policy": policy}))[0] == 201
    pause = await bank.asked(await bank.plain(999, "Secret Person"))
    assert pause["proposed_action"]["args"]["to"] == "Secret Person", "who decides sees it"
    edited, said = {"to": "Other Person", "amount": 998}, "Other Person is meant, not Secret Person"
    assert (await bank.press(pause, "RES_EDIT", input=edited, comment=said))[0] == 202
    await bank.until(pause["trace_id"], *ENDS)
    for query in ("", "?format=sft", "?format=preference", "?format=eval"):
        mine = [x for x in await bank.lines(query) if pause["trace_id"] in json.dumps(x)]
        assert mine and "Person" not in json.dumps(mine) and "[redacted]" in json.dumps(mine), query
