"""A workflow written in Python: nodes, where their inputs come from, and in the end a blueprint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from handrail_contracts.blueprint import Blueprint, Match
from handrail_contracts.plan import Condition, Node, Plan
from handrail_sdk import signature
from handrail_sdk.failures import DefinitionError, jsonable
from handrail_sdk.references import Ref, default, written
from handrail_sdk.steps import valid_node
from handrail_sdk.task import TaskDefinition

__all__ = ["NodeHandle", "Ref", "Workflow", "default", "when"]


@dataclass(frozen=True, slots=True)
class NodeHandle:
    """A node of a workflow that is being written. `output` is what later nodes refer to."""

    id: str
    output: Ref


class Workflow:
    """A blueprint in the making. Nodes can only refer to nodes above them, so it never has a cycle.

    `input` is a pydantic model (or any type that makes a JSON Schema of an object); its defaults are the blueprint's.
    `examples` and `keywords` are what a person might say to mean it.
    """

    def __init__(
        self,
        name: str,
        *,
        input: Any = dict[str, Any],
        version: int = 1,
        title: str = "",
        description: str = "",
        examples: Iterable[str] = (),
        keywords: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.input = Ref("input", input, None)
        self._input_schema = signature.adapter(input, f"the input of workflow {name}").json_schema()
        self._about: dict[str, Any] = {"version": version, "title": title, "description": description}
        self._match = Match(examples=list(examples), keywords=list(keywords))
        self._nodes: dict[str, Node] = {}
        self._output: dict[str, Any] | None = None

    def node(
        self,
        id: str,
        task: TaskDefinition[Any] | str,
        inputs: Mapping[str, Any] | None = None,
        *,
        after: Iterable[NodeHandle] = (),
        **fields: Any,
    ) -> NodeHandle:
        """Adds a node. `task` is a task, or its name as `agent.action`. `inputs` are values and references.

        It comes after every node that it refers to, and after those in `after`. `fields` are the other fields of a node
        (`when`, `retry`, `compensation`, `irreversible`, …) and win over what the task declares. Raises DefinitionError.
        """
        if id in self._nodes:
            raise DefinitionError(f"Expected each node once in {self.name!r}, but there are two named {id!r}.")
        agent, action, output = _task(task)
        reads: set[str] = set()
        given = written(dict(inputs or {}), reads)
        if isinstance(task, TaskDefinition):
            _check_inputs(task, given, f"node {id!r} of {self.name!r}")
        if isinstance(fields.get("when"), Condition):
            reads |= {n for n in self._nodes if fields["when"].ref.startswith(f"nodes.{n}.output")}
        wanted = reads | {n.id for n in after}
        if strange := wanted - self._nodes.keys():
            raise DefinitionError(f"Expected nodes of {self.name!r}, but {sorted(strange)[0]!r} is not one of them.")
        depends_on = [n for n in self._nodes if n in wanted]
        made = valid_node(
            {
                "id": id,
                "agent": agent,
                "action": action,
                **({"depends_on": depends_on} if depends_on else {}),
                **({"inputs": jsonable(given)} if given else {}),
                **{k: _dumped(v) for k, v in fields.items()},
            },
            f"{id!r} in {self.name!r}",
        )
        self._nodes[id] = made
        return NodeHandle(id, Ref(f"nodes.{id}.output", output, id))

    def output(self, **values: Any) -> None:
        """Says what the workflow gives in the end; without it, the outputs of its last nodes by their ids."""
        seen: set[str] = set()
        self._output = written(values, seen)
        if strange := seen - self._nodes.keys():
            raise DefinitionError(f"Expected nodes of {self.name!r}, but {sorted(strange)[0]!r} is not one of them.")

    def blueprint(self) -> Blueprint:
        """The workflow as data. Raises DefinitionError where it has no nodes or its name cannot be one."""
        if not self._nodes:
            raise DefinitionError(f"Expected at least one node in {self.name!r}, but it has none.")
        try:
            return Blueprint.model_validate(
                {
                    "name": self.name,
                    **{k: v for k, v in self._about.items() if v},
                    "match": self._match,
                    "input_schema": self._input_schema,
                    "nodes": list(self._nodes.values()),
                    **({"output": self._output} if self._output is not None else {}),
                }
            )
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DefinitionError(f"Expected a valid blueprint {self.name[:80]!r}, but {where}: {first['msg']}.") from e

    def plan(self) -> Plan:
        """Its nodes as an explicit plan, as `Client.start(plan=…)` takes it."""
        made = self.blueprint()
        return Plan(nodes=made.nodes, output=made.output)

    def to_yaml(self) -> str:
        """The blueprint as a YAML file for HANDRAIL_ORCHESTRATOR__BLUEPRINTS_DIR. Raises ImportError where PyYAML is not installed."""
        import yaml  # an extra: nobody else needs it here

        data = self.blueprint().model_dump(mode="json", by_alias=True, exclude_unset=True)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def when(ref: Ref, **comparisons: Any) -> Condition:
    """A condition for a node: `when(check.output.balance, ge=100)`. All comparisons must hold: eq ne gt ge lt le in_ exists."""
    given = {k.removesuffix("_"): v for k, v in comparisons.items()}
    try:
        return Condition.model_validate({"ref": str(ref), **given})
    except ValidationError as e:
        first = e.errors()[0]
        raise DefinitionError(f"Expected comparisons on {ref}, but {first['loc'][-1]}: {first['msg']}.") from e


def _task(task: TaskDefinition[Any] | str) -> tuple[str, str, Any]:
    """(agent, action, type of the output)."""
    if isinstance(task, TaskDefinition):
        return task.agent.name, task.action, task.output_type
    agent, dot, action = task.partition(".")
    if not dot:
        raise DefinitionError(f"Expected a task, or a name such as bank.transfer, but found {task[:80]!r}.")
    return agent, action, Any


def _check_inputs(task: TaskDefinition[Any], given: Mapping[str, Any], where: str) -> None:
    known = signature.fields_of(task.input_type)
    if known is None:
        return
    for name in given:
        if name not in known:
            raise DefinitionError(
                f"Expected inputs of {where} to be among {', '.join(sorted(known))}, but found {name!r}."
            )
    missing = signature.required_of(task.input_type) - given.keys()
    if missing:
        raise DefinitionError(f"Expected {where} to give {', '.join(sorted(missing))}, but it does not.")


def _dumped(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, list | tuple):
        return [_dumped(v) for v in value]
    return value
