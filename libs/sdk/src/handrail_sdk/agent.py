"""An agent: a name, and the tasks that it can do."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from handrail_contracts.ids import AGENT_NAME
from handrail_contracts.plan import EffectClass, Resolution
from handrail_sdk.failures import DefinitionError
from handrail_sdk.options import Proposal
from handrail_sdk.task import TaskDefinition, TaskOptions

Out = TypeVar("Out")
Seconds = float | str
"""A time span: seconds as a number, or a text such as "500ms", "30s", "5m", "2h"."""


class Agent:
    """A named set of tasks. Define it at module level; the runtime finds its tasks in `tasks`.

    `name` is part of a topic's name: letters, digits, `_`, `-`, at most 64. `max_in_flight` bounds how many attempts of all
    its tasks run at once, over all workers (None: unbounded).
    """

    def __init__(self, name: str, *, version: str = "1", max_in_flight: int | None = None) -> None:
        if not re.match(AGENT_NAME, name):
            raise DefinitionError(
                f"Expected an agent's name of 1 to 64 letters, digits, '_' or '-', but found {name[:80]!r}."
            )
        if max_in_flight is not None and max_in_flight < 1:
            raise DefinitionError(f"Expected max_in_flight of at least 1 on {name!r}, but found {max_in_flight}.")
        self.name = name
        self.version = version
        self.max_in_flight = max_in_flight
        self.tasks: dict[str, TaskDefinition[Any]] = {}

    def task(
        self,
        *,
        name: str | None = None,
        retries: int | None = None,
        backoff: Literal["fixed", "linear", "exponential"] | None = None,
        delay: Seconds | None = None,
        max_delay: Seconds | None = None,
        jitter: bool | None = None,
        total_timeout: Seconds | None = None,
        non_retryable: Iterable[str] = (),
        timeout: Seconds | None = None,
        lease: Seconds | None = None,
        schedule_to_start: Seconds | None = None,
        effect: EffectClass | Literal["pure", "idempotent", "queryable", "unsafe"] = "pure",
        context: Mapping[str, str] | None = None,
        resolutions: Iterable[Resolution] = (),
        max_in_flight: int | None = None,
        description: str | None = None,
        untrusted: bool = False,
        proposal: Proposal | None = None,
    ) -> Callable[[Callable[..., Awaitable[Out]]], TaskDefinition[Out]]:
        """Declares a task: `async def order(order: Order, ctx: Context) -> Placed`; `ctx` may be left out.

        `retries` counts attempts (3 means three in all); `backoff`, `delay`, `max_delay`, `jitter` and `total_timeout` say
        when they come, `non_retryable` which codes end them. `timeout` is start to close, `lease` how long a silent worker
        is trusted. `effect` says what may be done when it is unknown whether the effect happened. `context` maps what a
        pause shows to paths in the inputs (`input.budget`); `resolutions` are the pause's buttons. `untrusted`: what it gives
        holds content from outside, so that side effects that follow from it ask a person. `proposal` is how it is shown to a
        person who is asked before it runs. What is left out is the engine's default. Raises DefinitionError.
        """
        options = TaskOptions(
            retries=retries,
            backoff=backoff,
            delay=delay,
            max_delay=max_delay,
            jitter=jitter,
            total_timeout=total_timeout,
            non_retryable=tuple(non_retryable),
            timeout=timeout,
            lease=lease,
            schedule_to_start=schedule_to_start,
            effect=effect,
            context=dict(context or {}),
            resolutions=tuple(resolutions),
            max_in_flight=max_in_flight if max_in_flight is not None else self.max_in_flight,
            description=description,
            untrusted=untrusted,
            proposal=proposal,
        )

        def decorate(function: Callable[..., Awaitable[Out]]) -> TaskDefinition[Out]:
            action = name or getattr(function, "__name__", "")
            if action in self.tasks:
                raise DefinitionError(f"Expected each action once, but {self.name!r} has two named {action!r}.")
            # Annotations may name types that are local to where the task stands.
            scope = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage] the documented way to a caller's scope
            made = TaskDefinition(self, action, function, options, scope)
            self.tasks[action] = made
            return made

        return decorate
