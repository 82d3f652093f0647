"""The blueprints that ship fit the agents that ship, and are found by what people say."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from handrail_agents.catalog import agents
from handrail_contracts.blueprint import Blueprint
from handrail_contracts.plan import Plan
from handrail_engine.plan import compile_plan, validate
from handrail_gateway.application.matching import Candidate, best
from handrail_gateway.application.schemas import check, defaults
from handrail_orchestrator.adapters.blueprint_files import blueprint_files
from handrail_simulators import World

BLUEPRINTS: dict[str, Blueprint] = {s.blueprint.name: s.blueprint for s in blueprint_files(None)}
NAMES = ("bank-transfer", "employee-onboarding", "refund-support")


@pytest.fixture(scope="module")
def registry() -> dict[tuple[str, str], dict[str, Any]]:
    nowhere: Any = None
    return {(a.name, t.action): t.manifest() for a in agents(World(nowhere, "default")) for t in a.tasks.values()}


def compiled(name: str, registry: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    b = BLUEPRINTS[name]
    return {n["id"]: n for n in compile_plan(Plan(nodes=b.nodes, output=b.output), registry)["nodes"]}


def test_three_blueprints_ship() -> None:
    assert sorted(BLUEPRINTS) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_blueprint_fits_the_agents(name: str, registry: Any) -> None:
    b = BLUEPRINTS[name]
    assert validate(Plan(nodes=b.nodes, output=b.output), registry, input_schema=b.input_schema) == []
    check(b.input_schema)
    compiled(name, registry)


def test_onboarding_runs_from_an_intent_alone() -> None:
    b = BLUEPRINTS["employee-onboarding"]
    filled = {**defaults(b.input_schema), **b.defaults}
    jsonschema.validate(filled, b.input_schema)
    assert filled == {
        "employee": "New Engineer",
        "department": "Engineering",
        "sku": "MBP-16",
        "budget": 2500,
        "fail_compensation": None,
    }


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("employee-onboarding", {"employee": "Ada", "department": "Engineering", "sku": "MBP-16", "budget": 2500}),
        ("employee-onboarding", {"sku": "MBP-OUT-OF-STOCK", "fail_compensation": "email"}),
        ("bank-transfer", {"from": "checking", "to": "Alice", "amount": 50}),
        ("refund-support", {"order_id": "12345", "message": "I was charged twice, I want a person"}),
    ],
)
def test_the_inputs_of_the_contract_are_allowed(name: str, given: dict[str, Any]) -> None:
    jsonschema.validate(given, BLUEPRINTS[name].input_schema)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("employee-onboarding", {"sky": "MBP-16"}),
        ("employee-onboarding", {"budget": "much"}),
        ("employee-onboarding", {"fail_compensation": "hr"}),
        ("bank-transfer", {"to": "Alice"}),
        ("bank-transfer", {"to": "Alice", "amount": 0}),
        ("refund-support", {"order_id": "1"}),
    ],
)
def test_other_inputs_are_refused(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(given, BLUEPRINTS[name].input_schema)


@pytest.mark.parametrize(
    ("intent", "name"),
    [
        ("Please onboard our new engineer and get her a laptop", "employee-onboarding"),
        ("Onboard a new employee and provision their hardware", "employee-onboarding"),
        ("onboard Ada", "employee-onboarding"),
        ("Transfer 500 to Alice by bank transfer", "bank-transfer"),
        ("send money to Bob", "bank-transfer"),
        ("I was charged twice, I want a person", "refund-support"),
        ("a customer wants a refund", "refund-support"),
        ("Water the plants", None),
        ("", None),
    ],
)
def test_an_intent_finds_its_blueprint_or_none(intent: str, name: str | None) -> None:
    candidates = [Candidate(b.name, b.match.examples, b.match.keywords) for b in BLUEPRINTS.values()]
    assert best(intent, candidates) == name


def test_every_step_of_an_onboarding_but_the_welcome_can_be_undone(registry: Any) -> None:
    nodes = compiled("employee-onboarding", registry)
    assert list(nodes) == ["hr_record", "email_account", "hardware_procurement", "payroll", "welcome"]
    assert [n for n in nodes if "compensation" in nodes[n]] == list(nodes)[:-1]
    assert nodes["hardware_procurement"]["depends_on"] == ["hr_record"]


def test_the_pause_of_the_laptop_offers_what_the_contract_says(registry: Any) -> None:
    laptop = compiled("employee-onboarding", registry)["hardware_procurement"]
    shown = ("action_id", "display_text", "requires_input", "input_schema")
    assert [{k: r[k] for k in shown if k in r} for r in laptop["resolutions"]] == [
        {"action_id": "RES_SKIP", "display_text": "Skip Hardware Step", "requires_input": False},
        {
            "action_id": "RES_MANUAL_SKU",
            "display_text": "Provide Custom Vendor Link",
            "requires_input": True,
            "input_schema": "url",
        },
        {"action_id": "RES_ABORT_SAGA", "display_text": "Abort and Rollback Onboarding", "requires_input": False},
    ]
    assert laptop["context"] == {"requested_budget": "input.budget", "user_department": "input.department"}
    assert laptop["agent"] == "hardware_procurement_bot"


def test_the_simulator_may_be_given_any_effect_class(registry: Any) -> None:
    for effect in ("pure", "idempotent", "queryable", "unsafe"):
        plan = Plan.model_validate(
            {"nodes": [{"id": "a", "agent": "simulator", "action": "script", "effect_class": effect}]}
        )
        assert validate(plan, registry) == []
