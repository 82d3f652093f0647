"""What is told outside, in which words, how often; and that words from outside stay words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handrail_notifier.outbound import card
from handrail_notifier.outbound.marked import without_marked
from handrail_notifier.outbound.notices import DELAYS_S, MAX_BODY_BYTES, Kind, Notice, delay_s, webhook_body, words
from handrail_notifier.outbound.settings import ChannelSettings
from handrail_runtime.settings import load

GOLDEN = Path(__file__).parents[2] / "contracts" / "slack"
KEY = b"k" * 32
LINK = "https://handrail.example/console/workflows/req_8847_abc"
HOSTILE = "<!channel> <https://evil.example|Approve> *bold* @here &amp; \u202e http://evil.example/x.png"
PAUSE: dict[str, Any] = {
    "event_type": "WORKFLOW_PAUSED_HITL",
    "trace_id": "req_8847_abc",
    "seq": 17,
    "at": "2026-11-26T15:04:16.598Z",
    "failed_agent": "hardware_procurement_bot",
    "failure_reason": "All approved vendors returned 404 for requested Macbook Pro SKU.",
    "context_snapshot": {"requested_budget": 2500},
    "available_resolutions": [
        {"action_id": "RES_SKIP", "display_text": "Skip Hardware Step", "requires_input": False, "style": "neutral"},
        {
            "action_id": "RES_MANUAL_SKU",
            "display_text": "Provide Custom Vendor Link",
            "requires_input": True,
            "input_schema": "url",
            "style": "primary",
        },
        {"action_id": "RES_ABORT_SAGA", "display_text": "Abort and Rollback Onboarding", "style": "danger"},
    ],
    "pause_id": "p1",
    "kind": "failure",
    "node_id": "hardware_procurement",
    "raw_evidence": {"content_type": "application/json", "body": {"error": "SKU_UNAVAILABLE"}, "truncated": False},
    "evidence_digest": "sha256:abc",
}
RESOLVED: dict[str, Any] = {
    "event_type": "HITL_RESOLVED",
    "trace_id": "req_8847_abc",
    "seq": 18,
    "at": "2026-11-26T15:05:00.000Z",
    "pause_id": "p1",
    "outcome": "decided",
    "action_id": "RES_SKIP",
    "actor": "ada",
    "channel": "slack",
    "comment": "no laptop needed",
    "input": None,
}
ENDED = {
    "event_type": "WORKFLOW_COMPLETED",
    "trace_id": "req_8847_abc",
    "seq": 22,
    "at": "2026-11-26T15:05:01.000Z",
    "status": "COMPLETED_WITH_SKIPS",
    "reason": None,
    "output": {},
    "totals": {},
}


def notice(kind: Kind, body: dict[str, Any]) -> Notice:
    return Notice(f"default/slack/{kind}/p1", "slack", kind, "req_8847_abc", "p1", body, 1)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("opened", lambda: card.opened(PAUSE, KEY, LINK)),
        ("opened_hostile", lambda: card.opened(_hostile(), KEY, LINK)),
        ("closed", lambda: card.closed(PAUSE, RESOLVED, LINK)),
        ("expired", lambda: card.closed(PAUSE, {**RESOLVED, "outcome": "expired", "action_id": None}, LINK)),
        ("ended", lambda: card.ended(ENDED, LINK)),
    ],
)
def test_a_message_is_what_it_was(name: str, made: Any) -> None:
    assert made() == json.loads((GOLDEN / f"{name}.json").read_text())


def _hostile() -> dict[str, Any]:
    options = [{"action_id": "RES_X", "display_text": HOSTILE, "style": "primary"}]
    evidence = {"content_type": "text/html", "body": HOSTILE * 200, "truncated": False}
    more = {"failure_reason": HOSTILE, "node_id": HOSTILE, "raw_evidence": evidence, "available_resolutions": options}
    return {**PAUSE, **more}


def texts(value: Any) -> Iterator[tuple[str, str]]:
    """(kind, text) of every text object in a message."""
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield str(value["type"]), value["text"]
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_words_from_outside_are_never_markup_and_make_no_address() -> None:
    resolved = {**RESOLVED, "actor": HOSTILE, "comment": HOSTILE}
    for message in (card.opened(_hostile(), KEY, LINK), card.closed(_hostile(), resolved, LINK)):
        assert "<" not in message["text"]
        assert ">" not in message["text"]
        for kind, text in texts(message["blocks"]):
            assert kind in ("plain_text", "text") or text == f"<{LINK}|Open in the console>"
        found = json.dumps(message)
        assert found.count('"url"') == found.count(f'"url": "{LINK}"')


def _gate(args: dict[str, Any], **more: Any) -> dict[str, Any]:
    kinds = {"RES_APPROVE": "approve", "RES_EDIT": "edit", "RES_REJECT": "reject"}
    options = [
        {"action_id": a, "display_text": a, "kind": k, "requires_input": k == "edit", "style": "neutral"}
        for a, k in kinds.items()
    ]
    proposed = {
        "action": "refund",
        "args": args,
        "summary": "Refund 1.00, as always",
        "diff": {"before": {"refunded": 0}, "after": {"refunded": 1}},
        "reversible": False,
        **more,
    }
    risk = {"rule_id": "over-25", "untrusted": True}
    return {**PAUSE, "kind": "gate", "proposed_action": proposed, "risk": risk, "available_resolutions": options}


def test_what_would_be_done_stands_beside_an_agents_words_for_it() -> None:
    message = card.opened(_gate({"order_id": "7", "amount": 9_000}), KEY, LINK)
    shown = [text for _, text in texts(message["blocks"])]
    assert any(text.startswith("refund {") and '"amount": 9000' in text for text in shown)
    assert any('"refunded": 1' in text for text in shown)
    assert "rule over-25 · cannot be undone · follows from content from outside" in shown
    approve, edit, reject, _ = next(b for b in message["blocks"] if b["type"] == "actions")["elements"]
    assert (approve["action_id"], reject["action_id"]) == ("RES_APPROVE", "RES_REJECT") and "url" in edit


@pytest.mark.parametrize(
    "gate",
    [
        _gate({"text": "x" * card.EVIDENCE_CHARS}),
        _gate({"iban": "[redacted]"}, redact=["args.iban"]),
        {**_gate({"amount": 1}), "available_resolutions": [_gate({})["available_resolutions"][0]]},
    ],
)
def test_what_is_not_seen_whole_is_approved_where_it_is(gate: dict[str, Any]) -> None:
    message = card.opened(gate, KEY, LINK)
    approve, *_ = next(b for b in message["blocks"] if b["type"] == "actions")["elements"]
    assert approve["url"] == LINK and "value" not in approve


def test_marked_arguments_do_not_leave_by_any_channel() -> None:
    args = {"iban": "DE00SECRET", "to": {"card": 40001234, "name": "Ada"}, "amount": 5}
    proposed = {
        "redact": ["args.iban", "args.to.card"],
        "summary": "Pay 5 to DE00SECRET",
        "diff": {"after": {"c": 40001234}},
    }
    asked = {**_gate(args, **proposed), "failure_reason": "Pay 5 to DE00SECRET needs approval", "trace_id": "t40001234"}
    edited = {"iban": "GB11SECRET", "to": {"card": 40005678, "name": "Ada"}, "amount": 4}
    resolved = {**RESOLVED, "input": edited, "comment": "not DE00SECRET but GB11SECRET, card 40005678"}
    for body in ({"event": asked}, {"event": resolved, "pause": asked}, {"event": resolved, "pause": PAUSE}):
        told = without_marked(body)
        marked = body.get("pause", body["event"]) is asked
        assert (told == body) is not marked
        shown = json.dumps(
            {**told, "event": {**told["event"], "trace_id": ""}, "pause": {**told.get("pause", {}), "trace_id": ""}}
        )
        assert all((secret in shown) is not marked or secret not in json.dumps(body) for secret in ("SECRET", "4000"))
        assert '"name": "Ada"' in shown or body["event"] is resolved
    assert without_marked({"event": asked})["event"]["trace_id"] == "t40001234", "what leads back to it stays"


def test_slacks_limits_are_kept() -> None:
    long = "x" * 5_000
    options = [{"action_id": f"RES_{n}", "display_text": long} for n in range(40)]
    more = {"failure_reason": long, "node_id": long, "available_resolutions": options}
    message = card.opened({**PAUSE, **more, "raw_evidence": {"body": long}}, KEY, LINK)
    assert len(message["blocks"]) <= 50
    [actions] = [b for b in message["blocks"] if b["type"] == "actions"]
    assert len(actions["elements"]) <= 25
    assert all(len(e["text"]["text"]) <= 75 and len(e.get("value", "")) <= 2_000 for e in actions["elements"])
    ids = [e["action_id"] for e in actions["elements"]]
    assert len(ids) == len(set(ids))
    assert all(len(text) <= 3_000 for _, text in texts(message["blocks"]))
    assert len(message["blocks"][0]["text"]["text"]) <= 150


def test_a_button_is_ours_or_it_is_none() -> None:
    value = card.signed(KEY, "t", "p1", "sha256:abc")
    assert card.read(KEY, value) == ("t", "p1", "sha256:abc")
    assert card.read(KEY, card.signed(KEY, "t", "p1", None)) == ("t", "p1", None)
    for n in range(len(value)):
        forged = value[:n] + ("x" if value[n] != "x" else "y") + value[n + 1 :]
        assert card.read(KEY, forged) is None
    for other in ("", "|", "|||", "t|p1|d|", "a|b", value + "0", "\u00e9|p|d|x", card.signed(b"other", "t", "p1", "d")):
        assert card.read(KEY, other) is None


def test_tries_spread_over_days_and_end() -> None:
    waits = [delay_s("n", k) for k in range(1, len(DELAYS_S) + 1)]
    assert all(w is not None and base <= w <= base * 1.1 for w, base in zip(waits, DELAYS_S, strict=True))
    assert 3 * 86_400 < sum(DELAYS_S) < 4 * 86_400
    assert delay_s("n", len(DELAYS_S) + 1) is None
    assert delay_s("n", 1) == delay_s("n", 1) != delay_s("m", 1)
    assert delay_s("n", 1, 7_200) == 7_200
    assert delay_s("n", 1, 1e9) == 86_400


def test_a_webhooks_body_is_small_and_says_what_was_left_out() -> None:
    small = webhook_body(notice(Kind.OPENED, {"event": PAUSE}))
    assert json.loads(small) == {"type": "handrail.workflow_paused_hitl", "timestamp": PAUSE["at"], "data": PAUSE}
    big = {**PAUSE, "raw_evidence": {"body": "x" * 200_000}, "transcript": ["y" * 30_000]}
    body = webhook_body(notice(Kind.OPENED, {"event": big}))
    assert len(body) <= MAX_BODY_BYTES
    data = json.loads(body)["data"]
    assert data["omitted"] == ["raw_evidence", "transcript"]
    assert data["pause_id"] == "p1"
    assert body == webhook_body(notice(Kind.OPENED, {"event": big}))


def test_a_mail_says_what_can_be_done_and_where() -> None:
    said = words(notice(Kind.OPENED, {"event": PAUSE}), LINK)
    assert "Skip Hardware Step" in said
    assert [word for word in said.split() if "://" in word] == [LINK]
    assert "ada chose RES_SKIP by slack" in words(notice(Kind.RESOLVED, {"event": RESOLVED}), LINK)
    assert "COMPLETED_WITH_SKIPS" in words(notice(Kind.ENDED, {"event": ENDED}), LINK)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_SECRETS", "secret"),
        ("WEBHOOK_SECRETS", "whsec_c2hvcnQ="),
        ("SLACK_USERS", "U1=ada"),
        ("SLACK_USERS", '{"U1": 5}'),
        ("PUBLIC_URL", "handrail.example"),
    ],
)
def test_a_wrong_setting_is_told_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(f"HANDRAIL_NOTIFIER__{name}", value)
    with pytest.raises(SystemExit):
        load(ChannelSettings)
    told = capsys.readouterr().err
    assert f"HANDRAIL_NOTIFIER__{name}: Expected" in told
    if name == "WEBHOOK_SECRETS":
        assert "c2hvcnQ" not in told


def test_nothing_leaves_unless_it_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ChannelSettings().served() == []
    monkeypatch.setenv("HANDRAIL_NOTIFIER__WEBHOOK_URLS", "https://a.example/x,https://b.example/y")
    assert ChannelSettings().served() == [], "nothing goes out unsigned"
    secret = tmp_path / "secret"
    secret.write_text("whsec_c2ltdWxhdGVkLXdlYmhvb2stc2VjcmV0LTEyMzQ1Njc4\n")
    monkeypatch.setenv("HANDRAIL_NOTIFIER__WEBHOOK_SECRETS_FILE", str(secret))
    settings = ChannelSettings()
    assert len(settings.fed()) == 2
    assert "callback" in settings.served()
    assert "simulated" not in repr(settings)
    assert "whsec" not in repr(settings)
