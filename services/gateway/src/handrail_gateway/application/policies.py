"""Policies: what is in force, every version that ever was, a new version of one. Nothing is changed, only added to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from handrail_contracts.commands import PolicyRequest
from handrail_contracts.ids import digest
from handrail_contracts.policy import Policy
from handrail_gateway.application import simulation
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.idempotency import Once
from handrail_gateway.application.in_force import judged
from handrail_gateway.application.ports import Answer, Caller, NewPolicy, Row, Transaction, Views
from handrail_gateway.application.registry import Registry
from handrail_gateway.application.times import rfc3339


class Policies:
    """The policies of one tenant."""

    def __init__(self, views: Views, once: Once, registry: Registry, tenant: str) -> None:
        self._views, self._once, self._registry, self._tenant = views, once, registry, tenant

    async def shown(self) -> dict[str, Any]:
        """Those in force, by name."""
        return {"items": [_shown(r) for r in await self._views.policies(self._tenant)], "next_cursor": None}

    async def versions(self, name: str) -> dict[str, Any]:
        """Every version of one, newest first. Raises Refusal policy-not-found."""
        rows = await self._views.policy_versions(self._tenant, name)
        if not rows:
            known = ", ".join(r["name"] for r in await self._views.policies(self._tenant)) or "there is none"
            raise Refusal("policy-not-found", f"Expected one of the policies ({known}), but found {quote(name)}.")
        return {"items": [_shown(r) for r in rows], "next_cursor": None}

    async def simulate(self, candidate: Policy, since: datetime | None) -> dict[str, Any]:
        """What the candidate would have asked of people, over past decisions. Changes nothing."""
        in_force = judged(await self._views.policies(self._tenant))
        now_ms = await self._views.now_ms()
        return await simulation.simulate(self._views, self._tenant, in_force, candidate, since, now_ms)

    async def suggestions(self, enough: int, days: int, since: datetime | None) -> dict[str, Any]:
        """Exemptions that people's decisions speak for, most approvals first."""
        in_force = judged(await self._views.policies(self._tenant))
        now = datetime.fromtimestamp(await self._views.now_ms() / 1000, UTC)
        found = await simulation.suggestions(
            self._views, self._tenant, in_force, enough=enough, days=days, since=since, now=now
        )
        return {"items": found, "next_cursor": None}

    async def apply(self, caller: Caller, request: PolicyRequest) -> Answer:
        """`201` with the version that is in force now; `200` when it says what the newest one says already. It holds for every
        workflow started after the answer, and within a second for those that run. Raises Refusal policy-version."""

        async def work(transaction: Transaction) -> Answer:
            stands = await transaction.newest_policy(caller.tenant, request.policy.name)
            policy = _numbered(request.policy, stands)
            if stands is not None and policy.version == stands["version"]:
                return Answer(200, orjson.dumps(_shown(stands)))
            body = orjson.dumps(policy.model_dump(mode="json", exclude_unset=True))
            new = NewPolicy(policy.name, policy.version, policy.blueprint, digest(body), body, request.comment)
            return Answer(201, orjson.dumps(_shown(await transaction.add_policy(caller, new))))

        answer = await self._once.run(caller, work)
        await self._registry.known(newest=True)
        return answer


def _numbered(policy: Policy, stands: Row | None) -> Policy:
    """The policy as the next version: the number may be left out, and must be the next one where it is given. One that says
    the same as the newest version is that version."""
    newest: int = stands["version"] if stands is not None else 0
    if stands is not None:
        same = policy.model_copy(update={"version": newest})
        if _says(same) == _says(Policy.model_validate_json(stands["body"])):
            return same
    if "version" not in policy.model_fields_set:
        return Policy.model_validate({**policy.model_dump(mode="json", exclude_unset=True), "version": newest + 1})
    if policy.version != newest + 1:
        raise Refusal(
            "policy-version",
            f"Expected version {newest + 1} of {policy.name}, the one after {newest or 'none'}, but found {policy.version}."
            " A version that stands is never changed; leave the number out to get the next one.",
            newest=newest,
        )
    return policy


def _says(policy: Policy) -> dict[str, Any]:
    return policy.model_dump(mode="json")


def _shown(r: Row) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(r["body"])
    return {
        "title": "",
        "description": "",
        "blueprint": None,
        "redact": [],
        "budget": None,
        **body,
        "name": r["name"],
        "version": r["version"],
        "digest": r["digest"],
        "comment": r["comment"],
        "actor": r["actor"],
        "channel": r["channel"],
        "applied_at": rfc3339(r["at"]),
    }
