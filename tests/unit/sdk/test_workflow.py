"""A workflow in Python is a blueprint that fits its agents, and mistakes are told where they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from handrail_contracts.blueprint import Blueprint
from handrail_contracts.plan import Compensation, Plan, RetryPolicy
from handrail_engine.plan import validate
from handrail_sdk import Agent, DefinitionError, Workflow
from handrail_sdk.workflow import default, when


class Hire(BaseModel):
    employee: str = "Ada"
    sku: str
    tags: list[str] = Field(default_factory=list)


class Order(BaseModel):
    sku: str
    for_whom: str = Field(default="x", alias="for")
    note: Any = None


class Placed(BaseModel):
    po: str
    price: int | None = None
    sent_to: str = Field(default="", alias="to")


class Lines(TypedDict):
    lines: list[Placed]


@dataclass
class Point:
    x: int


hardware = Agent("hardware")


@hardware.task()
async def order(order: Order) -> Placed: ...  # pyright: ignore[reportReturnType] never run


@hardware.task()
async def lines(inputs: dict[str, Any]) -> Lines: ...  # pyright: ignore[reportReturnType] never run


@hardware.task()
async def point(inputs: dict[str, Any]) -> Point | None: ...


REGISTRY = {("hardware", t.action): t.manifest() for t in hardware.tasks.values()} | {("bank", "transfer"): {}}


@pytest.fixture
def wf() -> Workflow:
    return Workflow("hire", input=Hire, title="Hire", examples=["hire somebody"], keywords=["hire"])


def test_nodes_come_after_what_they_read(wf: Workflow) -> None:
    laptop = wf.node("laptop", order, {"sku": wf.input.sku, "for": wf.input.employee})
    desk = wf.node("desk", order, {"sku": "DESK"})
    pay = wf.node(
        "pay",
        "bank.transfer",
        {"amount": default(laptop.output.price, 0), "text": ["po", laptop.output.po]},
        after=[desk],
        compensation=Compensation(retry=RetryPolicy(max_attempts=5)),
        irreversible=False,
    )
    wf.node("big", order, {"sku": "BAG"}, when=when(laptop.output.price, gt=100))
    wf.output(po=laptop.output.po, paid=pay.output["amount"])
    made = wf.blueprint()
    assert [n.model_dump(mode="json", by_alias=True, exclude_unset=True) for n in made.nodes] == [
        {
            "id": "laptop",
            "agent": "hardware",
            "action": "order",
            "inputs": {"sku": {"$from": "input.sku"}, "for": {"$from": "input.employee"}},
        },
        {"id": "desk", "agent": "hardware", "action": "order", "inputs": {"sku": "DESK"}},
        {
            "id": "pay",
            "agent": "bank",
            "action": "transfer",
            "depends_on": ["laptop", "desk"],
            "inputs": {
                "amount": {"$from": "nodes.laptop.output.price", "default": 0},
                "text": ["po", {"$from": "nodes.laptop.output.po"}],
            },
            "compensation": {"retry": {"max_attempts": 5}},
            "irreversible": False,
        },
        {
            "id": "big",
            "agent": "hardware",
            "action": "order",
            "depends_on": ["laptop"],
            "inputs": {"sku": "BAG"},
            "when": {"ref": "nodes.laptop.output.price", "gt": 100.0},
        },
    ]
    assert made.output == {"po": {"$from": "nodes.laptop.output.po"}, "paid": {"$from": "nodes.pay.output.amount"}}
    assert (made.title, made.match.examples, made.match.keywords) == ("Hire", ["hire somebody"], ["hire"])
    assert made.input_schema["required"] == ["sku"]
    assert validate(wf.plan(), REGISTRY, input_schema=made.input_schema) == []


def test_a_yaml_file_says_the_same(wf: Workflow) -> None:
    laptop = wf.node("laptop", order, {"sku": wf.input.sku, "note": None})
    wf.node("again", order, {"sku": "x", "note": default(laptop.output, None)}, when=when(laptop.output.po, in_=["1"]))
    read = Blueprint.model_validate(yaml.safe_load(wf.to_yaml()))
    assert read == wf.blueprint()
    assert read.nodes[1].inputs["note"] == {"$from": "nodes.laptop.output", "default": None}
    assert wf.plan() == Plan(nodes=read.nodes, output=None)


def test_references_follow_the_types(wf: Workflow) -> None:
    placed = wf.node("p", order, {"sku": "x"}).output
    rows = wf.node("l", lines).output
    anything = wf.node("b", "bank.transfer").output
    spot = wf.node("s", point).output
    assert str(rows.lines[0].po) == "nodes.l.output.lines.0.po"
    assert str(anything.what["ever"][3]) == "nodes.b.output.what.ever.3"
    assert str(spot.x) == "nodes.s.output.x"
    assert str(wf.input.tags[0]) == "input.tags.0"
    assert str(placed.sent_to) == str(placed["to"]) == "nodes.p.output.to"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda wf, p: wf.input.sky, "a part 'sky', but it has employee, sku, tags"),
        (lambda wf, p: p.output.price.cents, "a part 'cents', but it has no parts"),
        (lambda wf, p: wf.input.tags.first, "an index into input.tags"),
        (lambda wf, p: wf.node("q", order, {"sku": "x", "size": 1}), "to be among for, note, sku, but found 'size'"),
        (lambda wf, p: wf.node("q", order, {}), "to give sku"),
        (lambda wf, p: wf.node("p", order, {"sku": "x"}), "two named 'p'"),
        (lambda wf, p: wf.node("q", "transfer"), "such as bank.transfer"),
        (lambda wf, p: wf.node("a/b", "bank.transfer"), "a valid node 'a/b'"),
        (lambda wf, p: wf.node("q", "bank.transfer", retries=3), "a valid node 'q' in 'hire', but retries"),
        (lambda wf, p: when(p.output.po, above=3), "but above"),
        (
            lambda wf, p: wf.node("q", "bank.transfer", {"a": Workflow("w").node("other", "bank.transfer").output.a}),
            "'other' is not one of them",
        ),
        (
            lambda wf, p: wf.output(a=Workflow("w").node("other", "bank.transfer").output.a),
            "'other' is not one of them",
        ),
        (lambda wf, p: Workflow("w").blueprint(), "at least one node"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(wf: Workflow, wrong: Any, says: str) -> None:
    placed = wf.node("p", order, {"sku": "x"})
    with pytest.raises(DefinitionError, match=says):
        wrong(wf, placed)


def test_a_name_that_is_no_blueprint_name_is_told() -> None:
    wf = Workflow("Two Words")
    wf.node("a", "bank.transfer")
    with pytest.raises(DefinitionError, match="a valid blueprint 'Two Words'"):
        wf.blueprint()


def test_a_reference_has_no_value_yet(wf: Workflow) -> None:
    with pytest.raises(TypeError, match="tested"):
        bool(wf.input.sku)
    with pytest.raises(TypeError, match="iterated"):
        list(wf.input.tags)
