"""The commands, against a Handrail that is scripted: what they send, what they print, how they exit."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from click.testing import Result
from tests.unit.cli.recorded import events
from tests.unit.sdk_client.fake_handrail import Answer, FakeHandrail
from typer.testing import CliRunner

from handrail.cli.main import build
from handrail.cli.pause_card import closing
from handrail_contracts.problems import problem

PAUSE_ID = "p0123456789abcdef01234567"
ACCEPTED = {"trace_id": "manual", "status": "ACCEPTED", "links": {"state": "/s", "events": "/e", "console": "/c"}}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HANDRAIL_URL", "HANDRAIL_DEV", "HANDRAIL_KAFKA", "HANDRAIL_POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HANDRAIL_ACTOR", "ada")
    monkeypatch.setattr("handrail_sdk.calls._FIRST_DELAY_S", 0.001)
    yield


@pytest_asyncio.fixture
async def paused() -> AsyncGenerator[FakeHandrail]:
    """A workflow that waits for a person at the event before the last that has happened."""
    told = events("onboarding-manual-sku")
    async with FakeHandrail(told, visible=18) as fake:
        yield fake


async def handrail(fake: FakeHandrail | None, *words: str, typed: str | None = None) -> Result:
    """Runs the command beside the fake, as from a pipe."""
    env = {"HANDRAIL_URL": fake.url} if fake is not None else {}
    return await asyncio.to_thread(CliRunner().invoke, build(), list(words), input=typed, env=env)


def sent(fake: FakeHandrail, method: str = "POST") -> list[tuple[str, Any]]:
    return [(r.path, r.body) for r in fake.requests if r.method == method]


async def test_run_sends_what_was_said(paused: FakeHandrail) -> None:
    paused.answer("POST", "/workflows", Answer(202, ACCEPTED))
    schema = {"properties": {"order_id": {"type": "string"}, "budget": {"type": "integer"}}}
    body = {"name": "b", "version": 1, "digest": "d", "title": "", "description": "", "input_schema": schema}
    blueprint = {**body, "defaults": {}, "match": {}, "nodes": []}
    paused.answer("GET", "/blueprints", Answer(200, {"items": [blueprint], "next_cursor": None}))
    words = [
        "run",
        "Hello",
        "-b",
        "b",
        "-i",
        "order_id=123",
        "-i",
        "budget=5",
        "-i",
        "x=1.5",
        "-i",
        "y=z",
        "-l",
        "team=it",
        "--deadline",
        "1h",
        "--trace-id",
        "t",
    ]
    result = await handrail(paused, *words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert sent(paused)[0][1] == {
        "intent": "Hello",
        "blueprint": "b",
        "input": {"order_id": "123", "budget": 5, "x": 1.5, "y": "z"},
        "labels": {"team": "it"},
        "deadline_s": 3600.0,
        "trace_id": "t",
    }
    assert "Started manual" in result.stdout
    assert "handrail watch manual" in result.stdout
    request = next(r for r in paused.requests if r.method == "POST")
    assert (request.headers["handrail-actor"], request.headers["handrail-channel"]) == ("ada", "cli")


async def test_run_reads_a_plan_from_standard_input(paused: FakeHandrail) -> None:
    paused.answer("POST", "/workflows", Answer(202, ACCEPTED))
    plan = {"nodes": [{"id": "a", "agent": "simulator", "action": "script"}]}
    result = await handrail(paused, "run", "--plan", "-", "--json", typed=json.dumps(plan))
    assert sent(paused)[0][1] == {"plan": plan}
    assert json.loads(result.stdout) == ACCEPTED


async def test_watching_in_a_pipe_is_a_line_per_event_and_ends_with_the_workflow(paused: FakeHandrail) -> None:
    await paused.publish()
    result = await handrail(paused, "watch", "manual")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 26
    assert "hardware_procurement: Scheduled → ↻ Retrying, attempt 1 by w1, SKU_UNAVAILABLE" in lines[10]
    assert "RES_SKIP RES_MANUAL_SKU RES_ABORT_SAGA | " in lines[17]
    assert f"handrail resolve {PAUSE_ID} ACTION" in lines[17]
    assert lines[-1].endswith('✓ Completed, output {"po": "PO-2"}')


async def test_watching_as_json_is_an_event_per_line(paused: FakeHandrail) -> None:
    await paused.publish()
    result = await handrail(paused, "watch", "manual", "--json")
    assert [json.loads(text) for text in result.stdout.splitlines()] == paused.events


async def test_watching_until_a_pause_ends_there_with_3(paused: FakeHandrail) -> None:
    result = await handrail(paused, "watch", "manual", "--until", "paused")
    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 18


async def test_waiting_says_how_it_stands(paused: FakeHandrail) -> None:
    paused.answer("POST", "/workflows", Answer(202, ACCEPTED))
    result = await handrail(paused, "run", "x", "--wait")
    assert (result.exit_code, result.stdout) == (3, "manual  ⚑ Needs you\n")


@pytest.mark.parametrize(("name", "code"), [("onboarding-skip", 0), ("onboarding-abort", 3)])
async def test_the_exit_code_of_a_watch_tells_how_it_ended(name: str, code: int) -> None:
    async with FakeHandrail(events(name)) as fake:
        result = await handrail(fake, "watch", fake.trace_id)
    assert result.exit_code == code


async def test_show_is_the_picture_and_the_card(paused: FakeHandrail) -> None:
    result = await handrail(paused, "show", "manual")
    assert result.exit_code == 0
    for told in (
        "⚑ Needs you  employee-onboarding  manual",
        "├─│─⚑",
        "Failed · hardware_procurement",
        "RES_ABORT_SAGA",
    ):
        assert told in result.stdout
    assert json.loads((await handrail(paused, "show", "manual", "--json")).stdout) == paused.state()


async def test_show_with_history_tells_every_event(paused: FakeHandrail) -> None:
    result = await handrail(paused, "show", "manual", "--history")
    assert result.stdout.count("  #") == 18
    as_json = json.loads((await handrail(paused, "show", "manual", "--history", "--json")).stdout)
    assert as_json["history"] == paused.journal


async def test_trace_is_a_timeline(paused: FakeHandrail) -> None:
    result = await handrail(paused, "trace", "manual")
    lines = result.stdout.splitlines()
    assert "+250 ms  #2    Planned: 5 nodes" in lines[1]
    assert lines[-1] == "18 events in 4.2 s"


async def test_export_writes_the_journal(paused: FakeHandrail, tmp_path: Any) -> None:
    file = tmp_path / "journal.jsonl"
    result = await handrail(paused, "export", "journal", "manual", "-o", str(file))
    assert result.exit_code == 0
    assert [json.loads(text) for text in file.read_text().splitlines()] == paused.journal


@pytest.mark.parametrize("word", ["RES_SKIP", "skip", "res_skip", "1"])
async def test_resolve_presses_the_button_that_was_meant(paused: FakeHandrail, word: str) -> None:
    _takes_a_decision(paused, "RES_SKIP")
    result = await handrail(paused, "resolve", "manual", word, "--comment", "by phone")
    assert (result.exit_code, result.stdout) == (0, "✓ RES_SKIP is stored and will be applied.\n")
    ((path, body),) = sent(paused)
    assert path == "/workflows/manual/resume"
    assert body == {
        "action_id": "RES_SKIP",
        "pause_id": PAUSE_ID,
        "comment": "by phone",
        "evidence_digest": "sha256:" + "1" * 64,
    }


async def test_resolve_takes_a_pause_id_and_an_input(paused: FakeHandrail) -> None:
    _takes_a_decision(paused, "RES_MANUAL_SKU")
    (pause,) = paused.state()["pauses"]
    more = {"state": "open", "decision": None, "closed_at": None, "workflow": {}}
    paused.answer("GET", f"/pauses/{PAUSE_ID}", Answer(200, {**pause, **more}))
    result = await handrail(paused, "resolve", PAUSE_ID, "manual-sku", "-i", "https://v.example/1", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["status"] == "RESUMING"
    assert sent(paused)[0][1]["input"] == "https://v.example/1"


async def test_show_of_a_closed_pause_offers_no_button_and_says_who_decided(paused: FakeHandrail) -> None:
    (pause,) = paused.state()["pauses"]
    decided = {"outcome": "decided", "action_id": "RES_SKIP", "actor": "bob", "channel": "console"}
    decided |= {"decided_at": pause["at"], "applied": True, "comment": None}
    closed = {"state": "closed", "decision": decided, "closed_at": pause["at"], "workflow": {"status": "RUNNING"}}
    paused.answer("GET", f"/pauses/{PAUSE_ID}", Answer(200, {**pause, **closed}))
    result = await handrail(paused, "show", PAUSE_ID)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "All approved vendors returned 404" in result.stdout
    assert "decided: " in result.stdout and "bob" in result.stdout
    assert "Skip Hardware Step" not in result.stdout and " resolve " not in result.stdout
    assert "waiting" not in result.stdout


async def test_resolve_without_an_action_of_a_closed_pause_says_who_decided_and_offers_nothing(
    paused: FakeHandrail,
) -> None:
    (pause,) = paused.state()["pauses"]
    decided = {"outcome": "decided", "action_id": "RES_SKIP", "actor": "bob", "channel": "console"}
    decided |= {"decided_at": pause["at"], "applied": True, "comment": "she has one"}
    closed = {"state": "resolved", "decision": decided, "closed_at": pause["at"], "workflow": {"status": "COMPLETED"}}
    paused.answer("GET", f"/pauses/{PAUSE_ID}", Answer(200, {**pause, **closed}))
    result = await handrail(paused, "resolve", PAUSE_ID)
    assert (result.exit_code, result.stderr) == (1, "")
    assert re.fullmatch(r"Decided by bob over console at [\d:.]+: RES_SKIP \(she has one\)\n", result.stdout)
    told = await handrail(paused, "resolve", PAUSE_ID, "--json")
    assert (told.exit_code, json.loads(told.stdout)["decision"]["actor"]) == (1, "bob")
    expired = decided | {"outcome": "superseded", "action_id": None, "actor": "system"}
    assert closing({**closed, "decision": expired}).plain.endswith("without a person: superseded")
    assert sent(paused) == []


async def test_resolve_without_an_action_lists_the_buttons_and_decides_nothing(paused: FakeHandrail) -> None:
    result = await handrail(paused, "resolve", "manual")
    assert result.exit_code == 2
    assert "Provide Custom Vendor Link" in result.stderr
    assert "Expected an ACTION" in result.stderr
    result = await handrail(paused, "resolve", "manual", "RES_EXPLODE")
    assert result.exit_code == 2
    assert "'RES_EXPLODE' is none of them" in result.stderr
    assert sent(paused) == []


async def test_resolve_says_when_an_input_is_missing(paused: FakeHandrail) -> None:
    result = await handrail(paused, "resolve", "manual", "RES_MANUAL_SKU")
    assert result.exit_code == 2
    assert "asks for a URL" in result.stderr
    assert sent(paused) == []


async def test_a_refusal_is_one_line_and_its_fields(paused: FakeHandrail) -> None:
    fault = {"pointer": "/input", "code": "format", "message": "is not a URL\x1b[2J"}
    refused = problem("invalid-input", "Expected a URL, but found 'x'.", errors=[fault])
    paused.answer("POST", "/workflows/manual/resume", Answer(422, refused))
    result = await handrail(paused, "resolve", "manual", "RES_MANUAL_SKU", "--input", "x")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "handrail: Expected a URL, but found 'x'.\n  /input: is not a URL\\x1b[2J\n"


async def test_nobody_there_says_how_to_start() -> None:
    result = await handrail(None, "ls", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "Expected Handrail at http://127.0.0.1:9, but it does not answer" in result.stderr
    assert "make demo" in result.stderr


async def test_a_workflow_that_is_not_there_is_a_problem(paused: FakeHandrail) -> None:
    result = await handrail(paused, "show", "nothing")
    assert (result.exit_code, result.stderr) == (1, "handrail: Expected a workflow, but there is none of this id.\n")


@pytest.mark.parametrize(
    "words",
    [["run"], ["run", "x", "--input", "novalue"], ["run", "x", "--deadline", "soon"], ["run", "x", "--input-json", "{"],
     ["watch", "t", "--until", "bored"], ["inbox", "--state", "all"], ["nonsense"]],
)  # fmt: skip
async def test_wrong_usage_ends_with_2_and_sends_nothing(paused: FakeHandrail, words: list[str]) -> None:
    result = await handrail(paused, *words)
    assert result.exit_code == 2
    assert "Usage" in result.stderr
    assert sent(paused) == []


async def test_ls_lists(paused: FakeHandrail) -> None:
    item = {
        "trace_id": "manual", "status": "PAUSED_HITL", "blueprint": "employee-onboarding", "intent": "On\x1bboard",
        "labels": {}, "counts": {"COMPLETE": 3, "AWAITING_HUMAN": 1, "PENDING": 1}, "created_at": "2026-11-20T09:00:00Z",
        "updated_at": "2026-11-20T09:00:00Z", "ended_at": None,
    }  # fmt: skip
    paused.answer("GET", "/workflows", Answer(200, {"items": [item], "next_cursor": "c"}))
    result = await handrail(paused, "ls", "--status", "running", "--status", "PAUSED_HITL", "--label", "a=b", "-n", "3")
    header, row = result.stdout.splitlines()
    assert header.split("\t") == ["TRACE ID", "STATUS", "DONE", "AGE", "BLUEPRINT", "INTENT"]
    assert row.split("\t")[:3] == ["manual", "⚑ Needs you", "3/5"]
    assert row.endswith("On\\x1bboard")
    assert paused.requests[-1].query == {"status": ["RUNNING,PAUSED_HITL"], "label": ["a:b"], "limit": ["3"]}
    assert json.loads((await handrail(paused, "ls", "--json")).stdout) == {"items": [item], "next_cursor": "c"}


async def test_the_inbox_lists_what_waits(paused: FakeHandrail) -> None:
    (pause,) = paused.state()["pauses"]
    shown = {**pause, "state": "open", "decision": None, "closed_at": None, "workflow": {"status": "PAUSED_HITL"}}
    paused.answer("GET", "/inbox", Answer(200, {"items": [shown], "next_cursor": None, "total": 1}))
    result = await handrail(paused, "inbox", "--kind", "failure")
    assert PAUSE_ID in result.stdout
    assert "All approved vendors" in result.stdout
    assert paused.requests[-1].query == {"state": ["open"], "kind": ["failure"], "limit": ["20"]}
    assert json.loads((await handrail(paused, "inbox", "--json")).stdout)["total"] == 1


async def test_pause_and_cancel_are_ordered(paused: FakeHandrail) -> None:
    for order in ("pause", "cancel"):
        answer = Answer(202, {"trace_id": "manual", "status": "X"})
        paused.answer("POST", f"/workflows/manual/{order}", answer)
    assert (await handrail(paused, "pause", "manual", "-c", "stop it")).exit_code == 0
    assert (await handrail(paused, "cancel", "manual", "--no-undo")).exit_code == 0
    assert sent(paused) == [
        ("/workflows/manual/pause", {"comment": "stop it"}),
        ("/workflows/manual/cancel", {"compensate": False}),
    ]


async def test_claims_and_dead_letters_and_quarantine(paused: FakeHandrail) -> None:
    claimed = {"pause_id": PAUSE_ID, "claimed_by": "ada", "claimed_until": "2026-11-20T09:05:00Z"}
    paused.answer("POST", f"/pauses/{PAUSE_ID}/claim", Answer(200, claimed))
    paused.answer("POST", "/dead-letters/d1/replay", Answer(202, {"trace_id": "t", "status": "REPLAYED"}))
    paused.answer("POST", "/quarantine/7/discard", Answer(202, {"id": 7, "status": "DISCARDED"}))
    assert (await handrail(paused, "claim", PAUSE_ID, "--for", "2m")).exit_code == 0
    assert (await handrail(paused, "dead-letters", "replay", "d1", "-i", "5")).exit_code == 0
    assert (await handrail(paused, "quarantine", "discard", "7", "-r", "noise")).exit_code == 0
    assert [body for _, body in sent(paused)] == [{"seconds": 120}, {"input": 5}, {"reason": "noise"}]


async def test_a_claim_names_the_workflow_where_one_pause_of_it_is_open(paused: FakeHandrail) -> None:
    claimed = {"pause_id": PAUSE_ID, "claimed_by": "ada", "claimed_until": "2026-11-20T09:05:00Z"}
    for act in ("claim", "release"):
        paused.answer("POST", f"/pauses/{PAUSE_ID}/{act}", Answer(200, claimed))
        result = await handrail(paused, act, "manual")
        assert (result.exit_code, result.stderr) == (0, "")
    assert [path for path, _ in sent(paused)] == [f"/pauses/{PAUSE_ID}/claim", f"/pauses/{PAUSE_ID}/release"]


async def test_an_address_without_its_scheme_is_named() -> None:
    result = await handrail(None, "ls", "--url", "127.0.0.1:8080")
    assert result.exit_code == 2
    assert result.stderr == (
        "handrail: Expected --url or HANDRAIL_URL to begin with http:// or https://, but it is '127.0.0.1:8080'.\n"
    )


async def test_what_the_api_says_is_told_to_somebody_at_a_terminal(paused: FakeHandrail) -> None:
    detail = "Expected the input, but at '/input': Expected a URL that begins with http:// or https://, but found 'x'."
    paused.answer("POST", "/workflows/manual/resume", Answer(422, problem("invalid-input", detail)))
    result = await handrail(paused, "resolve", "manual", "RES_MANUAL_SKU", "--input", "x")
    assert detail in result.stderr
    missing = problem("workflow-not-found", "Expected a workflow, but there is none. Look it up in GET /workflows.")
    paused.answer("GET", "/workflows/nosuch/events", Answer(404, missing))
    watched = await handrail(paused, "watch", "nosuch")
    assert watched.exit_code == 1
    assert " ls`." in watched.stderr and "GET" not in watched.stderr


async def test_a_policy_that_is_in_force_already_changes_nothing(paused: FakeHandrail, tmp_path: Any) -> None:
    file = tmp_path / "bank.json"
    rules = [{"id": "all", "decide": "always", "match": {"action": "transfer"}}]
    file.write_text(json.dumps({"name": "bank", "rules": rules}))
    kept = {
        "name": "bank",
        "version": 2,
        "blueprint": None,
        "title": "",
        "description": "",
        "redact": [],
        "rules": rules,
    }
    kept |= {"applied_at": "2026-11-20T09:05:00Z", "actor": "ada", "channel": "cli", "comment": None, "digest": "d"}
    kept |= {"budget": None}
    paused.answer("GET", "/policies", Answer(200, {"items": [kept], "next_cursor": None}))
    paused.answer("POST", "/policies", Answer(200, kept))
    result = await handrail(paused, "policy", "apply", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "bank version 2 is in force already, with these rules: nothing changed.\n"


async def test_explain_is_a_sentence(paused: FakeHandrail) -> None:
    answer = {
        "trace_id": "manual",
        "status": "RUNNING",
        "sentence": "It waits.",
        "facts": [{"node_id": "a", "for_s": 2}],
    }
    paused.answer("GET", "/workflows/manual/explain", Answer(200, answer))
    result = await handrail(paused, "explain", "manual")
    assert result.stdout == 'It waits.\n  node_id "a", for_s 2\n'


async def test_doctor_tells_what_is_wrong_and_what_to_do(paused: FakeHandrail) -> None:
    checks = {"postgres": {"ok": True, "ms": 1.5}, "bus": {"ok": False, "error": "BusError"}}
    paused.answer("GET", "/readyz", Answer(503, {"status": "not_ready", "checks": checks}))
    agents = [{"name": "hr_bot", "alive": False, "last_seen": "2026-11-20T09:00:00Z", "actions": []}]
    paused.answer("GET", "/agents", Answer(200, {"items": agents, "next_cursor": None}))
    result = await handrail(paused, "doctor", "--json")
    assert result.exit_code == 1
    found = {f["what"]: (f["state"], f["hint"]) for f in json.loads(result.stdout)["server"]}
    assert found["postgres"][0] == "ok"
    assert found["bus"][0] == "wrong"
    assert "topics apply" in found["bus"][1]
    assert found["agents"][0] == "warning"
    assert found["console"][0] == "absent"
    assert {f["what"] for f in json.loads(result.stdout)["machine"]} >= {
        "Python",
        "Handrail",
        "Disk",
        "Embedded Valkey",
    }


async def test_doctor_finds_nobody_at_a_named_address() -> None:
    result = await handrail(None, "doctor", "--url", "http://127.0.0.1:9", "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["server"]
    assert finding["state"] == "wrong"
    assert "does not answer" in finding["detail"]


async def test_engines_that_are_not_there_are_one_line() -> None:
    result = await handrail(None, "db", "upgrade", "--postgres", "postgresql://x@127.0.0.1:9/x")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "Expected PostgreSQL at 127.0.0.1:9 to answer" in result.stderr
    result = await handrail(None, "topics", "list", "--kafka", "127.0.0.1:9")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "Expected Kafka at 127.0.0.1:9" in result.stderr


async def test_the_clock_is_moved_only_in_development() -> None:
    result = await handrail(None, "clock", "advance", "7d")
    assert result.exit_code == 2
    assert "HANDRAIL_DEV=1" in result.stderr


async def test_config_masks_secrets_and_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDRAIL_POSTGRES_DSN", "postgresql://u:hunter2@127.0.0.1/x")
    result = await handrail(None, "config", "show", "--json")
    shown = json.loads(result.stdout)
    assert "hunter2" not in result.stdout
    assert shown["HANDRAIL_PARTITIONS"] == 24
    assert "HANDRAIL_GATEWAY__PORT" in shown


async def test_every_option_tells_its_default_and_connection_options_their_variable() -> None:
    for words in (["run"], ["watch"], ["resolve"], ["ls"], ["inbox"], ["doctor"], ["topics", "apply"]):
        shown = (await handrail(None, *words, "--help")).stdout
        assert "[default:" in shown, words
        assert "env var:" in shown, words


def _takes_a_decision(fake: FakeHandrail, action_id: str) -> None:
    answer = {"trace_id": "manual", "pause_id": PAUSE_ID, "action_id": action_id, "status": "RESUMING"}
    fake.answer("POST", "/workflows/manual/resume", Answer(202, answer))
