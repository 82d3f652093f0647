"""A task: one action of an agent, its undo, and its look-up; run by the runtime, never by its author."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, overload

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypeVar

from handrail_contracts.model import Json
from handrail_contracts.plan import EffectClass
from handrail_sdk import signature
from handrail_sdk.context import Context
from handrail_sdk.failures import INVALID_INPUT, INVALID_RESULT, DefinitionError, Fail, first_fault
from handrail_sdk.options import TaskOptions, check_limits, check_pause, effect_of, retry_of, timeouts_of

if TYPE_CHECKING:
    from handrail_sdk.agent import Agent

__all__ = ["TaskDefinition", "TaskOptions"]

Out = TypeVar("Out", default=Any)
_MAX_FAULTS = 10


class TaskDefinition(Generic[Out]):
    """What `@agent.task` makes of a function. Called, it is the function itself; `run`, `undo` and `look_up` are the
    runtime's doors, which take and give JSON-able Python."""

    def __init__(
        self,
        agent: Agent,
        action: str,
        function: Callable[..., Awaitable[Out]],
        options: TaskOptions,
        scope: Mapping[str, Any],
    ) -> None:
        where = self._where = f"task {agent.name}.{action}"
        check_limits(action, options, where)
        read = signature.read(function, scope, 1, where)
        self.agent = agent
        self.action = action
        self.effect: EffectClass = effect_of(options, where)
        self.max_in_flight = options.max_in_flight
        self.function = function
        self.input_type: Any = read.first
        self.output_type: Any = read.gives
        self.wants_context = read.wants_context
        self._call = read.call
        self._inputs = signature.adapter(read.first, f"the inputs of {where}")
        self._output = signature.adapter(read.gives, f"the output of {where}")
        self._undo: signature.Call | None = None
        self._look_up: signature.Call | None = None
        self._retry = retry_of(options, where)
        self._timeouts = timeouts_of(options, where)
        self._context = options.context or {}
        self._resolutions = options.resolutions
        self._untrusted = options.untrusted
        self._proposal = options.proposal
        self._description = options.description or inspect.getdoc(function) or ""
        self.facts: dict[str, Any] = {}  # what the registry holds besides the manifest
        check_pause(options, signature.fields_of(read.first), where)

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Out]:
        """The function as it was written, without validation."""
        return self.function(*args, **kwargs)

    @property
    def compensatable(self) -> bool:
        """True when it has an undo."""
        return self._undo is not None

    @property
    def has_look_up(self) -> bool:
        """True when it can find out whether its effect happened."""
        return self._look_up is not None

    def compensate(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Declares the undo: `async def cancel(order: Order, placed: Placed | None, ctx: Context)`. Trailing parameters may
        be left out; `placed` is None when the outcome is unknown. It may be called twice. Raises DefinitionError.

        That it returns promises that nothing stands and nothing will come under `ctx.do_key`: a call of an attempt that was
        stopped may still be under way. Let the provider refuse the key, or wait longer than a call can take and look
        again; raise Fail where neither is possible, and a person is asked once its retries are used up.
        """
        if self._undo is not None:
            raise DefinitionError(f"Expected one compensation of {self._where}, but a second one is declared.")
        self._undo = self._read(function, 2, "compensation")
        return function

    @overload
    def look_up(self, inputs: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]: ...
    @overload
    def look_up(self, inputs: Mapping[str, Any], ctx: Context) -> Coroutine[Any, Any, Json]: ...
    def look_up(self, inputs: Any, ctx: Context | None = None) -> Any:
        """As a decorator declares how to find out whether the effect happened: `async def find(order: Order, ctx: Context)
        -> Placed`, which raises `Fail("NOT_FOUND")` when it provably did not, and no call is still under way. Raises
        DefinitionError.

        Called with inputs and context (by the runtime), does so and gives what the task would have given, JSON-able.
        """
        if ctx is not None:
            return self._find(inputs, ctx)
        if self._look_up is not None:
            raise DefinitionError(f"Expected one look-up of {self._where}, but a second one is declared.")
        self._look_up = self._read(inputs, 1, "look-up")
        return inputs

    async def run(self, inputs: Mapping[str, Any], ctx: Context | None) -> Json:
        """Runs the task once; `ctx` may be None unless it `wants_context`. Raises Fail `invalid-input` or `invalid-result`
        (not retryable) where a value does not fit what the task declares, and whatever the task raises."""
        taken = self._taken(inputs)
        if ctx is None:
            return self._given(await self._call((taken,), None))
        return self._given(await _heard(self._call((taken,), ctx), ctx))

    async def undo(self, inputs: Mapping[str, Any], output: Json, ctx: Context) -> Json:
        """Undoes the task once. `output` is what it had answered, None when that is unknown. Raises as `run` does."""
        if self._undo is None:
            raise Fail("not-compensatable", f"{self._where} has no compensation.", retryable=False)
        given = await _heard(self._undo((self._taken(inputs), self._remembered(output, ctx)), ctx), ctx)
        return _UNDONE.dump_python(given, mode="json", by_alias=True, fallback=repr)

    def manifest(self) -> dict[str, Any]:
        """What the registry holds about it: schemas, effect class, defaults, buttons. Raises DefinitionError."""
        if self.effect is EffectClass.QUERYABLE and self._look_up is None:
            raise DefinitionError(
                f"Expected a look-up on {self._where}, because its effect is queryable. Declare one with @task.look_up."
            )
        return {
            "input_schema": self._inputs.json_schema(),
            "output_schema": self._output.json_schema(mode="serialization"),
            "effect_class": self.effect.value,
            "retry": dict(self._retry),
            "timeouts": dict(self._timeouts),
            "resolutions": [r.model_dump(mode="json", by_alias=True, exclude_none=True) for r in self._resolutions],
            "context": dict(self._context),
            "compensatable": self.compensatable,
            "max_in_flight": self.max_in_flight,
            "agent_max_in_flight": self.agent.max_in_flight,
            "description": self._description,
            **({"untrusted": True} if self._untrusted else {}),
            **({"proposal": self._proposal.data()} if self._proposal is not None else {}),
        }

    def _read(self, function: Callable[..., Any], most: int, what: str) -> signature.Call:
        # Annotations may name types that are local to where the function stands: the caller of the decorator.
        scope = sys._getframe(2).f_locals  # pyright: ignore[reportPrivateUsage] there is no other way to a caller's scope
        return signature.read(function, scope, most, f"the {what} of {self._where}").call

    async def _find(self, inputs: Mapping[str, Any], ctx: Context) -> Json:
        if self._look_up is None:
            raise Fail("not-queryable", f"{self._where} has no look-up.", retryable=False)
        return self._given(await _heard(self._look_up((self._taken(inputs),), ctx), ctx))

    def _taken(self, inputs: Mapping[str, Any]) -> Any:
        try:
            return self._inputs.validator.validate_python(inputs)
        except ValidationError as e:
            raise Fail(
                INVALID_INPUT,
                f"Expected inputs that fit {self._where}, but {first_fault(e)}",
                evidence=_faults(e),
                retryable=False,
            ) from e

    def _given(self, output: Any) -> Json:
        try:
            return self._output.serializer.to_python(
                self._output.validator.validate_python(output), mode="json", by_alias=True, warnings="error"
            )
        except ValidationError as e:
            said, faults = first_fault(e), _faults(e)
        except ValueError as e:  # no JSON type, or a circle
            said, faults = f"it cannot be written as JSON: {e}.", None
        raise Fail(
            INVALID_RESULT, f"Expected an output that fits {self._where}, but {said}", evidence=faults, retryable=False
        )

    def _remembered(self, output: Json, ctx: Context) -> Any:
        """What the task gave; None, as for an unknown outcome, where a person stated another shape."""
        if output is None:
            return None
        try:
            return self._output.validate_python(output)
        except ValidationError:
            ctx.log.warning("the output to undo did not fit the task and counts as unknown")
            return None


async def _heard(work: Awaitable[Any], ctx: Context) -> Any:
    """What a function gives. One that has handed over, or proposed, ends so, whatever became of the exception: an agent framework
    may have made a word to its model of it, and nobody hears what was said since."""
    try:
        output = await work
    except Exception as e:
        if ctx.over is not None and e is not ctx.over:
            raise ctx.over from e
        raise
    if ctx.over is not None:
        raise ctx.over
    return output


_UNDONE: TypeAdapter[Any] = TypeAdapter(Any)


def _faults(e: ValidationError) -> list[dict[str, str]]:
    faults = e.errors(include_url=False, include_context=False, include_input=False)[:_MAX_FAULTS]
    return [
        {"pointer": "".join(f"/{part}" for part in f["loc"]), "code": f["type"], "message": f["msg"]} for f in faults
    ]
