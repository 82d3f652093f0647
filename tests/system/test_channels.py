"""Channels beside a whole Handrail: a message with buttons, clicks that are proven, and nothing that a forger gets through."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import random
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx2
import pytest
import pytest_asyncio

from handrail_sdk.client import Client
from handrail_simulators.channels import Serving
from handrail_simulators.channels import office as play
from tests.system.house import Up, free_port
from tests.waiting import wait_until

DOOR = "/slack/interactions"
over_http = pytest.mark.parametrize("desk", ["http"], indirect=True)
"""In Socket Mode there is no door at which to forge."""


class Desk:
    """A Handrail and the channels that are played for it."""

    def __init__(self, up: Up, played: Serving, client: Client) -> None:
        self.up, self.played, self.client = up, played, client

    @property
    def office(self) -> play.Office:
        return self.played.office

    async def message(self, trace_id: str) -> dict[str, Any]:
        """Starts what pauses, and answers its message."""
        await self.client.start(blueprint="employee-onboarding", input={"sku": "MBP-OUT-OF-STOCK"}, trace_id=trace_id)
        await wait_until(lambda: self.posted(trace_id), description=f"a message about {trace_id}", timeout_s=60)
        return self.posted(trace_id)[0]

    def posted(self, trace_id: str) -> list[dict[str, Any]]:
        return [m for m in self.office.messages if f'"{trace_id} ' in json.dumps(m, ensure_ascii=False)]

    def whispered(self, words: str, user: str = "U0ADA") -> bool:
        return any(w["user"] == user and words in w["text"] for w in self.office.whispers)

    async def decision(self, trace_id: str) -> dict[str, Any] | None:
        history = (await self.client.state(trace_id, history=True)).history or []
        return next((e for e in history if e["event_type"] == "HITL_RESOLVED"), None)

    async def decided(self, trace_id: str) -> dict[str, Any]:
        await wait_until(lambda: self.decision(trace_id), description=f"{trace_id} is decided", timeout_s=60)
        found = await self.decision(trace_id)
        assert found is not None
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["http", "socket"])
async def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Desk]:
    port = free_port()
    played = Serving(handrail_url=f"http://127.0.0.1:{port}")
    await played.start()
    up = Up(tmp_path_factory.mktemp("channels"), port, **played.environment(socket_mode=request.param == "socket"))
    await up.start()
    if request.param == "socket":
        await wait_until(lambda: played.listened, description="the notifier listens in Socket Mode")
    async with Client(up.url) as client:
        yield Desk(up, played, client)
    await up.stop()
    await played.stop()


async def test_a_button_pressed_in_slack_decides_and_everybody_hears_of_it(desk: Desk) -> None:
    message = await desk.message("press")
    labels = [b["text"]["text"] for b in desk.office.buttons(message)]
    assert labels == [
        "Skip Hardware Step",
        "Provide Custom Vendor Link …",
        "Abort and Rollback Onboarding",
        "Open in the console",
    ]
    assert await desk.played.press(message["ts"], "RES_SKIP") == 200
    resolved = await desk.decided("press")
    assert (resolved["action_id"], resolved["actor"], resolved["channel"]) == ("RES_SKIP", "ada", "slack")
    await wait_until(lambda: message.get("edited"), description="the message says who, when, what", timeout_s=30)
    assert desk.office.buttons(message) == []
    assert f"ada chose “Skip Hardware Step” by slack at {resolved['at']}" in json.dumps(message, ensure_ascii=False)

    def thread() -> list[dict[str, Any]]:
        return [m for m in desk.office.messages if m.get("thread_ts") == message["ts"]]

    await wait_until(thread, description="the end is told where it was decided", timeout_s=30)
    assert "COMPLETED_WITH_SKIPS" in thread()[0]["text"]
    kinds = ["handrail.workflow_paused_hitl", "handrail.hitl_resolved", "handrail.workflow_completed"]

    def hooks() -> list[dict[str, Any]]:
        return [h for h in desk.office.hooks if h["data"]["trace_id"] == "press"]

    def mailed() -> bool:
        return any("Decide here: " + desk.up.url + "/console/workflows/press" in m for m in desk.office.mails)

    await wait_until(lambda: len(hooks()) >= 3, description="the webhook hears of all three", timeout_s=30)
    assert sorted(h["type"] for h in hooks()) == sorted(kinds)
    assert len({h["id"] for h in hooks()}) == 3
    await wait_until(mailed, description="the mail says where to decide", timeout_s=30)


async def test_what_was_decided_elsewhere_closes_the_message_and_a_stale_button_is_told(desk: Desk) -> None:
    message = await desk.message("elsewhere")
    late = desk.office.click(message["ts"], "RES_ABORT_SAGA")
    await desk.client.resume("elsewhere", "RES_SKIP")
    await wait_until(lambda: message.get("edited"), description="the message is closed", timeout_s=30)
    assert "by api" in message["text"]
    assert await desk.played.send(late) == 200
    await wait_until(lambda: desk.whispered("This request is closed"), description="told in private", timeout_s=30)
    assert (await desk.decided("elsewhere"))["action_id"] == "RES_SKIP"
    assert [m for m in desk.office.messages if m.get("thread_ts") == message["ts"]] == []


async def test_who_may_not_decides_nothing(desk: Desk) -> None:
    message = await desk.message("who")
    for user, words in (
        ("U0GRACE", "not one of Handrail's operators"),
        ("U0GUEST", "Guests and former members"),
        ("U0GONE", "Guests and former members"),
        ("U0NOBODY", "not one of Handrail's operators"),
    ):
        assert await desk.played.press(message["ts"], "RES_SKIP", user) == 200
        await wait_until(lambda u=user, w=words: desk.whispered(w, u), description=f"{user} is told", timeout_s=30)
    forged = desk.office.click(message["ts"], "RES_SKIP")
    forged["actions"][0]["value"] = "who|p1|sha256:0|" + "0" * 32
    assert await desk.played.send(forged) == 200
    unknown = desk.office.click(message["ts"], "RES_SKIP")
    unknown["actions"][0]["action_id"] = "RES_DANCE"
    assert await desk.played.send(unknown) == 200
    await wait_until(lambda: desk.whispered("RES_DANCE"), description="an unknown action is told", timeout_s=30)
    assert await desk.decision("who") is None
    assert not message.get("edited")
    assert await desk.played.press(message["ts"], "RES_SKIP") == 200
    assert (await desk.decided("who"))["actor"] == "ada"


def _mutants(body: bytes, headers: dict[str, str], n: int, seed: random.Random) -> list[tuple[bytes, dict[str, str]]]:
    """Forged, replayed under another time, shifted, re-encoded: no two alike, none of them genuine."""
    stamp, signature = "X-Slack-Request-Timestamp", "X-Slack-Signature"
    now = int(headers[stamp])
    fields = json.loads(parse_qs(body.decode())["payload"][0])

    def forged(_: int) -> tuple[bytes, dict[str, str]]:
        return body, {**headers, signature: "v0=" + "".join(seed.choices("0123456789abcdef", k=64))}

    def flipped(_: int) -> tuple[bytes, dict[str, str]]:
        at = seed.randrange(len(body))
        return body[:at] + bytes([(body[at] + 1 + seed.randrange(254)) % 256]) + body[at + 1 :], headers

    def other_key(k: int) -> tuple[bytes, dict[str, str]]:
        return play.form(fields, f"secret-{k}")

    def shifted(k: int) -> tuple[bytes, dict[str, str]]:
        return play.form(fields, at=now + (301 + k + 60) * seed.choice((-1, 1)))

    def restamped(k: int) -> tuple[bytes, dict[str, str]]:
        return body, {**headers, stamp: str(now + 1 + k % 100)}

    def reencoded(k: int) -> tuple[bytes, dict[str, str]]:
        spaced = json.dumps(fields, indent=1 + k % 4, sort_keys=bool(k % 2))
        return urlencode({"payload": spaced, "x": k}).encode(), headers

    def nonsense(_: int) -> tuple[bytes, dict[str, str]]:
        odd = seed.choice(
            ("", "v0=", "v1=" + headers[signature][3:], headers[signature][3:], headers[signature].upper())
        )
        return body, {**headers, signature: odd, stamp: seed.choice((headers[stamp], "", "-1", "1e9", "9" * 30, "now"))}

    kinds = (forged, flipped, other_key, shifted, restamped, reencoded, nonsense)
    return [kinds[k % len(kinds)](k) for k in range(n)]


async def _storm(desk: Desk, name: str, n: int) -> None:
    message = await desk.message(name)
    body, headers = play.form(desk.office.click(message["ts"], "RES_SKIP"))
    accepted = 0
    async with httpx2.AsyncClient(base_url=desk.up.url, trust_env=False, timeout=60) as http:
        for mutant, said in _mutants(body, headers, n, random.Random(7)):
            answer = await http.post(DOOR, content=mutant, headers=said)
            accepted += answer.status_code == 200
            assert answer.status_code == 401, (answer.status_code, answer.text, mutant[:200], said)
            assert answer.json()["type"] in ("/problems/bad-signature", "/problems/stale-request")
        assert accepted == 0
        assert await desk.decision(name) is None
        fresh, signed = play.form(desk.office.click(message["ts"], "RES_SKIP"))
        assert (await http.post(DOOR, content=fresh, headers=signed)).status_code == 200
        again = await http.post(DOOR, content=fresh, headers=signed)
        assert (again.status_code, again.json()["type"]) == (401, "/problems/stale-request")
    assert (await desk.decided(name))["channel"] == "slack"


@over_http
async def test_200_forged_replayed_and_shifted_bodies_are_refused_and_the_genuine_one_counts_once(desk: Desk) -> None:
    await _storm(desk, "storm", 200)


@over_http
@pytest.mark.torture
@pytest.mark.timeout(1200)
async def test_10000_forged_replayed_and_shifted_bodies_are_refused(desk: Desk) -> None:
    await _storm(desk, "great-storm", 10_000)


@over_http
async def test_what_is_no_interaction_is_refused_and_links_decide_nothing(desk: Desk) -> None:
    async with httpx2.AsyncClient(base_url=desk.up.url, trust_env=False, timeout=60) as http:
        answer = await http.get(DOOR)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert (await http.post(DOOR, content=b"x" * 300_000)).status_code == 413
        assert (await http.post(DOOR, content=b"payload={}")).status_code == 401
        stamp = str(int(time.time()))
        for empty in (b"a=b", b"payload=%7B", b"payload=%5B%5D"):
            mac = hmac.new(play.SIGNING_SECRET.encode(), f"v0:{stamp}:".encode() + empty, hashlib.sha256).hexdigest()
            signed = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}
            assert (await http.post(DOOR, content=empty, headers=signed)).status_code == 400
    message = await desk.message("link")
    assert await desk.played.press(message["ts"], "open_console:RES_MANUAL_SKU") == 200
    assert await desk.played.press(message["ts"], "RES_ABORT_SAGA") == 200
    assert (await desk.decided("link"))["action_id"] == "RES_ABORT_SAGA"


@pytest.mark.torture
async def test_killed_between_sent_and_marked_it_is_sent_again_under_the_same_id(tmp_path: Path) -> None:
    played = Serving()
    await played.start()
    only_hooks = {k: v for k, v in played.environment().items() if "WEBHOOK" in k}
    up = Up(tmp_path, None, HANDRAIL_CRASHPOINT="K21:1", HANDRAIL_DEV="1", **only_hooks)
    await up.start()
    async with Client(up.url) as client:
        await client.start(blueprint="employee-onboarding", input={"sku": "MBP-OUT-OF-STOCK"}, trace_id="killed")
    assert up.process is not None
    await up.process.wait()
    assert up.process.returncode == -9
    [first] = played.office.hooks
    again = Up(tmp_path, up.port, HANDRAIL_DEV="1", **only_hooks)
    await again.start()
    try:
        async with Client(again.url) as client:
            assert (await client.state("killed")).status == "PAUSED_HITL"
        advance = (sys.executable, "-m", "handrail", "clock", "advance", "61s", "--data", str(tmp_path))
        moved = await asyncio.create_subprocess_exec(*advance, env={**os.environ, "HANDRAIL_DEV": "1"})
        assert await moved.wait() == 0
        await wait_until(lambda: len(played.office.hooks) > 1, description="it is sent again", timeout_s=90)
        assert played.office.hooks[1] == first
    finally:
        await again.stop()
        await played.stop()
