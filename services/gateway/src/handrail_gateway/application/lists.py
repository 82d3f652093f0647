"""Lists: workflows, the inbox, dead letters, quarantine, the registry. `{"items", "next_cursor"}`, newest first."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from handrail_contracts.policy import RATE_FROM
from handrail_gateway.application import dead_letters, opening, paging, quarantine
from handrail_gateway.application.faults import pause_not_found, workflow_not_found
from handrail_gateway.application.ports import PauseFilter, Row, Views, WorkflowFilter
from handrail_gateway.application.times import rfc3339

COUNTED_UP_TO, FOUND_UP_TO = 10_000, 1_000
ALIVE_S = 15.0


class Lists:
    """Reads lists of one tenant. Answers are plain values, to be encoded."""

    def __init__(self, views: Views, tenant: str) -> None:
        self._views, self._tenant = views, tenant

    async def workflows(self, wanted: WorkflowFilter, limit: int, cursor: str | None) -> dict[str, Any]:
        """Workflows, also those that are accepted and not begun."""
        page = paging.page(limit, cursor)
        rows = await self._views.workflows(self._tenant, wanted, page)
        items = [
            {
                "trace_id": r["trace_id"],
                "status": r["status"],
                "blueprint": r["blueprint"],
                "intent": r["intent"],
                "labels": orjson.Fragment(r["labels"]),
                "counts": orjson.Fragment(r["counts"]),
                "created_at": rfc3339(r["created_at"]),
                "updated_at": rfc3339(r["updated_at"]),
                "ended_at": _time(r["ended_at"]),
                "parked_reason": r["parked_reason"],
            }
            for r in rows
        ]
        return _list(items, rows, limit, "created_at", "trace_id")

    async def inbox(self, wanted: PauseFilter, limit: int, cursor: str | None) -> dict[str, Any]:
        """Pauses over all workflows, and how many the same filter finds: up to 10,000, of a search up to 1,000."""
        page = paging.page(limit, cursor)
        most = FOUND_UP_TO if wanted.q else COUNTED_UP_TO
        rows, total = await self._views.inbox(self._tenant, wanted, page, total_up_to=most)
        order = "closed_at" if wanted.state == "resolved" else "opened_at"
        return {**_list([_pause(r) for r in rows], rows, limit, order, "pause_id"), "total": total}

    async def pause(self, pause_id: str) -> dict[str, Any]:
        """One pause with its decision and its conversation: the transcript it came with, then what was said since. One that
        an accepted escalation is still to open is shown as it will be, without buttons."""
        row = await self._views.pause(self._tenant, pause_id)
        if row is None:
            start = await self._views.opening(self._tenant, pause_id)
            if start is not None:
                return opening.shown(pause_id, *start)
            row = await self._views.pause(self._tenant, pause_id)  # it was opened between the two looks
        if row is None:
            raise pause_not_found(pause_id)
        said = await self._views.messages(self._tenant, row["trace_id"], pause_id)
        shown = _pause(row)
        return {**shown, "conversation": [*(shown["transcript"] or []), *said]}

    async def dead_letters(
        self, limit: int, cursor: str | None, *, state: str | None, agent: str | None, trace_id: str | None
    ) -> dict[str, Any]:
        """Dead letters."""
        page = paging.page(limit, cursor)
        rows = await self._views.dead_letters(self._tenant, page, state=state, agent=agent, trace_id=trace_id)
        return _list([_dead_letter(r) for r in rows], rows, limit, "at", "dead_letter_id")

    async def dead_letter(self, dead_letter_id: str) -> dict[str, Any]:
        """One dead letter."""
        row = await self._views.dead_letter(self._tenant, dead_letter_id)
        if row is None:
            raise dead_letters.not_found(dead_letter_id)
        return _dead_letter(row)

    async def quarantined(
        self, limit: int, cursor: str | None, *, state: str | None, topic: str | None
    ) -> dict[str, Any]:
        """Records that were set aside."""
        before = paging.number(cursor)
        rows = await self._views.quarantined(self._tenant, limit, before, state=state, topic=topic)
        more = paging.of_number(rows[-1]["id"]) if len(rows) == limit else None
        return {"items": [_quarantined(r) for r in rows], "next_cursor": more}

    async def quarantined_record(self, record_id: int) -> dict[str, Any]:
        """One record that was set aside."""
        row = await self._views.quarantined_record(self._tenant, record_id)
        if row is None:
            raise quarantine.not_found(str(record_id))
        return _quarantined(row)

    async def agents(self) -> dict[str, Any]:
        """Every agent ever registered, with its actions."""
        found: dict[str, dict[str, Any]] = {}
        for r in await self._views.agents(self._tenant):
            agent = found.setdefault(r["name"], {"name": r["name"], "alive": False, "last_seen": None, "actions": []})
            agent["alive"] = agent["alive"] or r["seen_ago_s"] <= ALIVE_S
            seen = rfc3339(r["last_seen"])
            agent["last_seen"] = max(agent["last_seen"] or seen, seen)
            agent["actions"].append(_action(r))
        return {"items": list(found.values()), "next_cursor": None}

    async def blueprints(self) -> dict[str, Any]:
        """The newest version of every blueprint."""
        rows = await self._views.blueprints(self._tenant)
        return {"items": [_blueprint(r) for r in rows], "next_cursor": None}

    async def journal(self, trace_id: str, after: int, limit: int) -> bytes:
        """The events with seq > `after`, oldest first, byte for byte; encoded. `next_cursor` is the next `after`."""
        rows = await self._views.events_after(self._tenant, trace_id, after, limit)
        if not rows and await self._views.summary(self._tenant, trace_id) is None:
            raise workflow_not_found(trace_id)
        more = b'"%d"' % rows[-1]["seq"] if len(rows) == limit else b"null"
        return b'{"items":[' + b",".join([r["data"] for r in rows]) + b'],"next_cursor":' + more + b"}"


def _action(r: Row) -> dict[str, Any]:
    ok, ended = r["ok"] or 0, r["total"] or 0
    record = {
        "attempts_ok": ok,
        "attempts_ended": ended,
        "success_rate": ok / ended if ended >= RATE_FROM else None,
    }
    return {"action": r["action"], "version": r["version"], **orjson.loads(r["manifest"]), **record}


def _list(items: list[Any], rows: list[Row], limit: int, at: str, id_: str) -> dict[str, Any]:
    more = paging.of(rows[-1][at], rows[-1][id_]) if len(rows) == limit else None
    return {"items": items, "next_cursor": more}


def _time(at: Any) -> str | None:
    return None if at is None else rfc3339(at)


def _pause(r: Row) -> dict[str, Any]:
    shown: dict[str, Any] = orjson.loads(r["data"])
    held = r["claimed_until"] is not None and r["claimed_until"] > r["now"] and r["state"] == "open"
    shown["claimed_by"] = r["claimed_by"] if held else None
    shown["claimed_until"] = rfc3339(r["claimed_until"]) if held else None
    shown["state"] = r["state"]
    shown["error_code"] = r["error_code"]
    shown["opened_at"] = rfc3339(r["opened_at"])
    shown["closed_at"] = _time(r["closed_at"])
    shown["decision"] = _decision(r)
    shown["workflow"] = {
        "status": r["w_status"],
        "blueprint": r["w_blueprint"],
        "intent": r["w_intent"],
        "labels": orjson.loads(r["w_labels"]) if r["w_labels"] is not None else {},
    }
    return shown


def _decision(r: Row) -> dict[str, Any] | None:
    if r["d_outcome"] is None:
        return None
    return {
        "outcome": r["d_outcome"],
        "action_id": r["d_action_id"],
        "input": orjson.loads(r["d_input"]) if r["d_input"] is not None else None,
        "comment": r["d_comment"],
        "actor": r["d_actor"],
        "channel": r["d_channel"],
        "decided_at": rfc3339(r["d_decided_at"]),
        "applied": r["d_applied"],
    }


def _dead_letter(r: Row) -> dict[str, Any]:
    names = ("dead_letter_id", "trace_id", "node_id", "kind", "agent", "error_code", "pause_id", "state", "reason")
    return {**{n: r[n] for n in names}, **_closed(r), "at": rfc3339(r["at"]), "data": orjson.loads(r["data"])}


def _closed(r: Row) -> dict[str, Any]:
    return {"closed_by": r["closed_by"], "closed_channel": r["closed_channel"], "closed_at": _time(r["closed_at"])}


def _quarantined(r: Row) -> dict[str, Any]:
    names = ("id", "topic", "partition", "offset", "bus_id", "reason", "kind", "trace_id", "state", "state_reason")
    return {
        **{n: r[n] for n in names},
        **_closed(r),
        "at": rfc3339(r["at"]),
        "key": _base64(r["key"]),
        "value": _base64(r["value"]),
        "bytes": r["bytes"],
        "truncated": r["value"] is not None and len(r["value"]) < r["bytes"],
        "headers": orjson.loads(r["headers"]),
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _blueprint(r: Row) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(r["body"])
    empty: dict[str, Any] = {"title": "", "description": "", "input_schema": {}, "defaults": {}, "match": {}}
    return {**empty, **body, "digest": r["digest"], "loaded_at": rfc3339(r["loaded_at"])}
