"""A pause as a Slack message (Block Kit). Pure: the same notice makes the same message.

Words from outside (reasons, evidence, comments) stand only in plain text and preformatted blocks, where Slack renders no markup,
no link and no mention; in the fallback text `& < >` are escaped. No address that evidence made becomes a button.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from handrail_notifier.outbound.notices import outcome

EVIDENCE_CHARS = 2_500
REASON_CHARS = 1_500
BUTTONS = 24
_STYLES = {"primary": "primary", "danger": "danger"}
OPEN_CONSOLE = "open_console"


def escaped(text: str) -> str:
    """For the places that Slack reads as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signed(key: bytes, trace_id: str, pause_id: str, digest: str | None) -> str:
    """The value of a button: which pause, over which evidence, and that we said so."""
    said = f"{trace_id}|{pause_id}|{digest or ''}"
    return f"{said}|{_mac(key, said)}"


def read(key: bytes, value: str) -> tuple[str, str, str | None] | None:
    """(trace_id, pause_id, evidence digest) of a value that we made, None for any other."""
    said, _, mac = value.rpartition("|")
    parts = said.split("|")
    if len(parts) != 3 or not hmac.compare_digest(mac.encode(), _mac(key, said).encode()):
        return None
    return parts[0], parts[1], parts[2] or None


def _mac(key: bytes, said: str) -> str:
    return hmac.new(key, b"handrail button " + said.encode(), hashlib.sha256).hexdigest()[:32]


def opened(event: Mapping[str, Any], key: bytes, link: str) -> dict[str, Any]:
    """`text` and `blocks` of a pause that is open."""
    blocks = [*_story(event), _buttons(event, key, link)]
    return {"text": escaped(f"Handrail needs you: {_clip(event['failure_reason'], 300)}"), "blocks": blocks}


def closed(pause: Mapping[str, Any], resolved: Mapping[str, Any], link: str) -> dict[str, Any]:
    """The same message once the pause is over: who, when, what in the place of the buttons."""
    said = outcome(resolved)
    for button in pause["available_resolutions"]:
        if button["action_id"] == resolved.get("action_id"):
            said = said.replace(button["action_id"], f"“{button['display_text']}”", 1)
    blocks = [*_story(pause), _plain(f"✔ {_clip(said, 1_000)}"), _link(link)]
    return {"text": escaped(_clip(said, 300)), "blocks": blocks}


def ended(event: Mapping[str, Any], link: str) -> dict[str, Any]:
    """The end of the workflow, for the thread of the message that was answered."""
    reason = f": {event['reason']}" if event.get("reason") else ""
    said = f"{event.get('status')}{_clip(reason, 500)}"
    return {"text": escaped(said), "blocks": [_plain(f"{event['trace_id']} has ended: {said}"), _link(link)]}


def _story(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    where = event.get("node_id") or event.get("failed_agent") or "the whole workflow"
    story = [
        {"type": "header", "text": {"type": "plain_text", "text": f"⚑ Needs you: {_clip(where, 100)}", "emoji": False}},
        _plain(_clip(str(event["failure_reason"]), REASON_CHARS)),
    ]
    proposed: Mapping[str, Any] | None = event.get("proposed_action")
    if proposed:
        story.append(_plain(f"Proposed: {_clip(str(proposed.get('summary') or proposed.get('action')), 500)}"))
        # Sentence and diff may be an agent's own words: what would be done stands beside them, to the letter.
        story.append(_verbatim(_to_be_done(proposed)))
        if proposed.get("diff"):
            story.append(_verbatim(_json(proposed["diff"])))
        story.append(_plain(_weighed(event, proposed)))
    elif (shown := (event.get("raw_evidence") or {}).get("body")) is not None:
        story.append(_verbatim(shown if isinstance(shown, str) else _json(shown)))
    facts = f"{event['trace_id']} · {event['kind']} · {event['at']}"
    story.append({"type": "context", "elements": [{"type": "plain_text", "text": _clip(facts, 300), "emoji": False}]})
    return story


def _to_be_done(proposed: Mapping[str, Any]) -> str:
    return f"{proposed.get('action')} {_json(proposed.get('args') or {})}"


def _seen_whole(event: Mapping[str, Any]) -> bool:
    """Whether all that would be done stands in the message: else it is approved where it does."""
    proposed = event.get("proposed_action")
    if not proposed:
        return True
    editable = any(
        r.get("kind") == "edit" for r in event["available_resolutions"]
    )  # else it is cut in the event already
    return editable and not proposed.get("redact") and len(_to_be_done(proposed)) <= EVIDENCE_CHARS


def _weighed(event: Mapping[str, Any], proposed: Mapping[str, Any]) -> str:
    risk: Mapping[str, Any] = event.get("risk") or {}
    said = [f"rule {risk.get('rule_id')}"]
    if isinstance(event.get("confidence"), int | float):
        said.append(f"confidence {event['confidence']:.0%}")
    if proposed.get("affected") is not None:
        said.append(f"affects {proposed['affected']}")
    if proposed.get("reversible") is False:
        said.append("cannot be undone")
    if risk.get("untrusted"):
        said.append("follows from content from outside")
    if risk.get("four_eyes"):
        said.append(f"four eyes: not by {risk.get('requested_by')}")
    return _clip(" · ".join(said), 500)


def _buttons(event: Mapping[str, Any], key: bytes, link: str) -> dict[str, Any]:
    value = signed(key, event["trace_id"], event["pause_id"], event.get("evidence_digest"))
    elements: list[dict[str, Any]] = []
    whole = _seen_whole(event)
    for option in event["available_resolutions"][:BUTTONS]:
        label = _clip(option["display_text"], 75)
        button: dict[str, Any] = {"type": "button", "text": {"type": "plain_text", "text": label, "emoji": False}}
        if option.get("requires_input") or (option.get("kind") == "approve" and not whole):
            # It asks for an input, or for a look at what is not seen here: that is the console's work. The link opens a page and decides nothing.
            button |= {"action_id": f"{OPEN_CONSOLE}:{option['action_id']}"[:255], "url": link}
            button["text"]["text"] = _clip(f"{label} …", 75)
        else:
            button |= {"action_id": option["action_id"], "value": value}
            if option.get("style") == "danger":
                button["confirm"] = _confirm(label)
        if option.get("style") in _STYLES:
            button["style"] = _STYLES[option["style"]]
        elements.append(button)
    console = {"type": "plain_text", "text": "Open in the console", "emoji": False}
    elements.append({"type": "button", "action_id": OPEN_CONSOLE, "text": console, "url": link})
    return {"type": "actions", "block_id": "resolutions", "elements": elements}


def _confirm(label: str) -> dict[str, Any]:
    def text(words: str) -> dict[str, Any]:
        return {"type": "plain_text", "text": words, "emoji": False}

    return {
        "title": text("Are you sure?"),
        "text": text(_clip(f"{label}. This cannot be taken back.", 300)),
        "confirm": text("Yes"),
        "deny": text("No"),
        "style": "danger",
    }


def _plain(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "plain_text", "text": text or "–", "emoji": False}}


def _verbatim(text: str) -> dict[str, Any]:
    shown = [{"type": "text", "text": _clip(text, EVIDENCE_CHARS) or "–"}]
    return {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": shown}]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _link(link: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": f"<{link}|Open in the console>"}]}


def _clip(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
