"""`POST /escalations` at the door: ids that are final, one per key, addresses that may not be called, and who may speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import Rig, running_gateway
from tests.waiting import wait_until

from handrail_contracts.answers import EscalationOpened, InboxPause
from handrail_contracts.ids import outside_pause_id
from handrail_gateway.application import escalations

BUTTONS: list[dict[str, Any]] = [
    {"action_id": f"RES_{k.upper()}", "display_text": k, "requires_input": False, "kind": k}
    for k in ("hand_back", "close")
]
ASKED: dict[str, Any] = {
    "reason": "Charged twice, asks for a person.",
    "summary": "Two charges on order 12345.",
    "transcript": [{"role": "user", "text": "I was charged twice"}],
    "metadata": {"order_id": "12345", "cart": [1, 2]},
    "handover_message": "A colleague takes over.",
    "callback_url": "https://agents.example/hook",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as running:
        yield running
    await drop_database(postgres_server, dsn)


async def refused(asked: Any, status: int, code: str) -> dict[str, Any]:
    answer = await asked
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{code}"), answer.text
    return problem


async def test_an_escalation_is_durable_before_it_is_answered(rig: Rig) -> None:
    answer = await rig.post("/escalations", ASKED, Handrail_Actor="shop-bot")
    assert answer.status_code == 202
    told = EscalationOpened.model_validate(answer.json())
    assert answer.headers["location"] == f"/pauses/{told.pause_id}"
    [command] = await rig.commands(told.trace_id, "start")
    outside = command["body"]["outside"]
    assert (outside["pause_id"], outside["callback_url"]) == (told.pause_id, ASKED["callback_url"])
    assert outside["escalation"]["metadata"] == ASKED["metadata"]
    state = (await rig.get(f"/workflows/{told.trace_id}/state")).json()
    assert (state["status"], state["intent"]) == ("ACCEPTED", ASKED["reason"])


async def test_the_answer_waits_for_the_pause_that_it_links_to(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escalations, "SHOWN_WITHIN_S", 60.0)
    asking = asyncio.create_task(rig.post("/escalations", {**ASKED, "reason": "waits"}))

    async def stored() -> Any:
        return await rig.db.fetchrow(
            "SELECT trace_id, body FROM handrail.command WHERE kind = 'start' AND body ->> 'intent' = 'waits'"
        )

    await wait_until(stored, description="it is durable")
    trace_id, body = await stored()
    assert not asking.done()
    pause_id = body["outside"]["pause_id"]
    _, opened_elsewhere = await rig.paused(resolutions=BUTTONS, kind="escalation")
    await rig.db.execute("UPDATE handrail.pause SET pause_id = $1 WHERE pause_id = $2", pause_id, opened_elsewhere)
    opened = await asking
    assert opened.json() == {"trace_id": trace_id, "pause_id": pause_id}
    assert (await rig.get(opened.headers["location"])).status_code == 200


async def test_the_link_leads_to_the_pause_also_while_nobody_opens_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escalations, "SHOWN_WITHIN_S", 0.01)
    opened = await rig.post("/escalations", ASKED)
    trace_id, pause_id = opened.json()["trace_id"], opened.json()["pause_id"]
    shown = await rig.get(opened.headers["location"])
    assert shown.status_code == 200
    pause = shown.json()
    InboxPause.model_validate(pause)
    assert (pause["state"], pause["pause_id"], pause["trace_id"]) == ("opening", pause_id, trace_id)
    assert (pause["failure_reason"], pause["context_snapshot"]) == (ASKED["reason"], ASKED["metadata"])
    assert [line["text"] for line in pause["conversation"]] == ["I was charged twice"]
    assert (pause["available_resolutions"], pause["decision"]) == ([], None)
    _, elsewhere = await rig.paused(resolutions=BUTTONS, kind="escalation")
    assert set(pause) - {"summary"} == set((await rig.get(f"/pauses/{elsewhere}")).json()) - {"summary"}

    say = f"/pauses/{pause_id}/messages"
    assert (await rig.post(say, {"role": "user", "text": "Is anybody there?"})).status_code == 202
    [message] = await rig.commands(trace_id, "message")
    assert message["body"] == {"pause_id": pause_id, "role": "user", "text": "Is anybody there?"}
    await refused(rig.post(say, {"role": "agent", "text": "x"}), 409, "human-has-control")
    press = {"action_id": "RES_CLOSE", "pause_id": pause_id}
    for asked in (
        rig.post(f"/workflows/{trace_id}/resume", press),
        rig.post(f"/pauses/{pause_id}/claim"),
        rig.post(f"/pauses/{pause_id}/release"),
        rig.get(f"/workflows/{trace_id}/pauses/{pause_id}/preview/RES_CLOSE"),
    ):
        problem = await refused(asked, 409, "not-paused")
        assert (problem["trace_id"], problem["pause_id"], problem["retry_after"]) == (trace_id, pause_id, 1)
    other = (await rig.post("/escalations", ASKED)).json()["trace_id"]
    await refused(rig.post(f"/workflows/{other}/resume", press), 404, "pause-not-found")


async def test_no_pause_is_opening_where_no_escalation_is(rig: Rig) -> None:
    await rig.register()
    started = await rig.post("/workflows", {"blueprint": "employee-onboarding"})
    trace_id = started.json()["trace_id"]
    await refused(rig.get(f"/pauses/{outside_pause_id('default', trace_id)}"), 404, "pause-not-found")


async def test_once_per_key_also_when_asked_at_the_same_time(rig: Rig) -> None:
    asked = [rig.post("/escalations", ASKED, Idempotency_Key="call-7") for _ in range(8)]
    answers = await asyncio.gather(*asked)
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1
    assert sum(a.headers.get("idempotent-replayed") == "true" for a in answers) == 7
    other = {**ASKED, "reason": "another"}
    await refused(rig.post("/escalations", other, Idempotency_Key="call-7"), 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"reason": ""}, "validation", "/reason"),
        ({"reason": "   "}, "validation", "/reason"),
        ({"transcript": [{"role": "user"}]}, "validation", "/transcript/0/text"),
        ({"transcript": [{"role": "user", "text": "x", "mood": 1}]}, "unknown-field", "/transcript/0/mood"),
        ({"transcript": [{"role": "user", "text": "x", "at": "soon"}]}, "invalid-time", "/transcript/0/at"),
        (
            {"transcript": [{"role": "user", "text": "x", "at": "2026-01-31T12:00:00"}]},
            "invalid-time",
            "/transcript/0/at",
        ),
        *(
            ({"transcript": [{"role": "user", "text": "x", "at": at}]}, "invalid-time", "/transcript/0/at")
            for at in (
                "2026-W05-6T12:00:00Z",
                "20260131T120000Z",
                "2026-01-31T12Z",
                "9999-12-31T23:59:59Z",
                "2026-12-31T23:59:60Z",
                "2026-01-31T24:00:00Z",
                "2026-01-31T12:00:00,5Z",
            )
        ),
        ({"metadata": []}, "validation", "/metadata"),
        ({"severity": 1}, "unknown-field", "/severity"),
        ({"callback_url": "http://agents.example/"}, "webhook-url-rejected", "/callback_url"),
        ({"callback_url": "https://169.254.169.254/latest"}, "webhook-url-rejected", "/callback_url"),
        ({"callback_url": "https://localhost/"}, "webhook-url-rejected", "/callback_url"),
    ],
)
async def test_what_is_wrong_is_pointed_at(rig: Rig, change: dict[str, Any], code: str, pointer: str) -> None:
    problem = await refused(rig.post("/escalations", {**ASKED, **change}), 422, code)
    assert [e["pointer"] for e in problem["errors"]] == [pointer]


async def test_times_are_taken_as_programs_write_them(rig: Rig) -> None:
    times = (
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00.123456+05:30",
        str(datetime.now(UTC)),
        datetime.now(UTC).isoformat(),
    )
    lines = [{"role": "user", "text": "x", "at": at} for at in times]
    opened = await rig.post("/escalations", {**ASKED, "transcript": lines})
    assert opened.status_code == 202, opened.text


async def test_a_refused_address_is_named_by_its_rule_and_nothing_of_it_is_stored(rig: Rig) -> None:
    before = await rig.db.fetchval("SELECT count(*) FROM handrail.command")
    problem = await refused(
        rig.post("/escalations", {**ASKED, "callback_url": "https://u:p@agents.example/"}), 422, "webhook-url-rejected"
    )
    assert problem["rule"] == "userinfo"
    assert await rig.db.fetchval("SELECT count(*) FROM handrail.command") == before


async def test_the_newest_escalation_says_who_has_the_conversation(rig: Rig) -> None:
    trace_id, first = await rig.paused(resolutions=BUTTONS, kind="escalation")
    assert (await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_HAND_BACK"})).status_code == 202
    say = {"role": "agent", "text": "I go on."}
    assert (await rig.post(f"/pauses/{first}/messages", say)).status_code == 202
    await rig.close_pause(first, "decided")
    second = await rig.pause(trace_id, resolutions=BUTTONS, kind="escalation")
    await refused(rig.post(f"/pauses/{first}/messages", say), 409, "human-has-control")
    await refused(rig.post(f"/pauses/{second}/messages", say), 409, "human-has-control")
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_CLOSE", "pause_id": second})
    await refused(rig.post(f"/pauses/{first}/messages", say), 409, "human-has-control")


async def test_what_was_accepted_and_came_after_the_end_still_stands_in_the_conversation(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused(resolutions=BUTTONS, kind="escalation", transcript=[])
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_HAND_BACK"})
    await rig.post(f"/pauses/{pause_id}/messages", {"role": "agent", "text": "Goodbye."})
    await rig.db.execute("UPDATE handrail.command SET applied_pseq = 0 WHERE trace_id = $1", trace_id)
    await rig.db.execute("UPDATE handrail.workflow SET ended_at = handrail.clock() WHERE trace_id = $1", trace_id)
    conversation = (await rig.get(f"/pauses/{pause_id}")).json()["conversation"]
    assert [(m["role"], m["text"]) for m in conversation] == [("agent", "Goodbye.")]


async def test_a_conversation_is_bounded(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused(resolutions=BUTTONS, kind="escalation")
    await rig.db.execute(
        "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at)"
        " SELECT $1 || i, $1, 0, 'message', '{}', handrail.clock() FROM generate_series(1, 1000) AS i",
        trace_id,
    )
    await refused(
        rig.post(f"/pauses/{pause_id}/messages", {"role": "user", "text": "and another"}), 422, "too-many-items"
    )
