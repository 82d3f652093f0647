"""What a task declares about retries, time limits and pauses, checked and put as the manifest says it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from handrail_contracts.pauses import misfit
from handrail_contracts.plan import EffectClass, Resolution, RetryPolicy, Timeouts
from handrail_sdk.failures import DefinitionError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_ACTION = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Proposal:
    """How a task is shown to a person who is asked before it runs. `summary` is one sentence with `{name}` or `{name:.2f}` for
    inputs; `domain` is what policies may match on; `affected` how many things it touches, a number or `args.<path>`."""

    summary: str
    domain: str | None = None
    affected: int | str | None = None

    def data(self) -> dict[str, Any]:
        """As the manifest has it."""
        told = {"summary": self.summary, "domain": self.domain, "affected": self.affected}
        return {k: v for k, v in told.items() if v is not None}


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The arguments of `Agent.task`, as given; None where nothing was."""

    retries: int | None = None
    backoff: str | None = None
    delay: float | str | None = None
    max_delay: float | str | None = None
    jitter: bool | None = None
    total_timeout: float | str | None = None
    non_retryable: tuple[str, ...] = ()
    timeout: float | str | None = None
    lease: float | str | None = None
    schedule_to_start: float | str | None = None
    effect: EffectClass | str = EffectClass.PURE
    context: dict[str, str] | None = None
    resolutions: tuple[Resolution, ...] = ()
    max_in_flight: int | None = None
    description: str | None = None
    untrusted: bool = False
    proposal: Proposal | None = None


def seconds(value: float | str, what: str) -> float:
    """A time span as seconds: a number, or a text such as "500ms", "30s", "1.5m". Raises DefinitionError."""
    if isinstance(value, str):
        found = _SPAN.fullmatch(value.strip())
        if found is None:
            raise DefinitionError(f'Expected a time such as "30s", "500ms" or 30 for {what}, but found {value[:80]!r}.')
        return float(found[1]) * _UNIT_S[found[2]]
    return float(value)


def retry_of(options: TaskOptions, where: str) -> dict[str, Any]:
    """The fields of RetryPolicy that were given. Raises DefinitionError."""
    given: dict[str, Any] = _given(
        max_attempts=options.retries,
        backoff=options.backoff,
        initial_delay_s=_span(options.delay, "delay"),
        max_delay_s=_span(options.max_delay, "max_delay"),
        jitter=None if options.jitter is None else "full" if options.jitter else "none",
        total_timeout_s=_span(options.total_timeout, "total_timeout"),
        non_retryable_errors=list(options.non_retryable) or None,
    )
    _checked(lambda: RetryPolicy.model_validate(given), where)
    return given


def timeouts_of(options: TaskOptions, where: str) -> dict[str, Any]:
    """The fields of Timeouts that were given. Raises DefinitionError."""
    given: dict[str, Any] = _given(
        schedule_to_start_s=_span(options.schedule_to_start, "schedule_to_start"),
        start_to_close_s=_span(options.timeout, "timeout"),
        lease_s=_span(options.lease, "lease"),
    )
    limits = _checked(lambda: Timeouts.model_validate(given), where)
    if limits.lease_s > limits.start_to_close_s:
        if options.lease is not None:
            raise DefinitionError(
                f"Expected a lease below the timeout on {where}, but the lease is {limits.lease_s:g} s "
                f"and the timeout {limits.start_to_close_s:g} s."
            )
        given["lease_s"] = max(limits.start_to_close_s, 0.2)
    return given


def effect_of(options: TaskOptions, where: str) -> EffectClass:
    """The effect class. Raises DefinitionError."""
    try:
        return EffectClass(options.effect)
    except ValueError as e:
        raise DefinitionError(
            f"Expected effect to be one of {', '.join(EffectClass)} on {where}, but found {options.effect!r}."
        ) from e


def check_limits(action: str, options: TaskOptions, where: str) -> None:
    """Raises DefinitionError for a name that no plan could use, or a limit that nothing could pass."""
    if not _ACTION.fullmatch(action):
        raise DefinitionError(
            f"Expected an action's name of 1 to 64 letters, digits, '_', '.' or '-', but found {action[:80]!r}."
        )
    if options.max_in_flight is not None and options.max_in_flight < 1:
        raise DefinitionError(f"Expected max_in_flight of at least 1 on {where}, but found {options.max_in_flight}.")


def check_pause(options: TaskOptions, fields: set[str] | None, where: str) -> None:
    """Raises DefinitionError where context or buttons name inputs that the task has not; `fields` None: it takes any."""
    for shown, path in (options.context or {}).items():
        parts = path.split(".")
        if parts[0] != "input" or len(parts) < 2 or not all(parts):
            raise DefinitionError(
                f"Expected context {shown!r} of {where} to be a path such as input.budget, but found {path!r}."
            )
        _known(parts[1], fields, f"context {shown!r} of {where}")
    seen: set[str] = set()
    for button in options.resolutions:
        if button.action_id in seen:
            raise DefinitionError(f"Expected each resolution once on {where}, but {button.action_id!r} stands twice.")
        seen.add(button.action_id)
        if (unfit := misfit(button)) is not None:
            raise DefinitionError(f"{unfit[1]} Change that button of {where}.")
        if button.sets is not None:
            _known(button.sets, fields, f"resolution {button.action_id!r} of {where}")


def _known(name: str, fields: set[str] | None, what: str) -> None:
    if fields is not None and name not in fields:
        raise DefinitionError(
            f"Expected {what} to name one of the inputs {', '.join(sorted(fields))}, but found {name!r}."
        )


def _span(value: float | str | None, what: str) -> float | None:
    return None if value is None else seconds(value, what)


def _given(**fields: Any) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if v is not None}


def _checked(make: Callable[[], _T], where: str) -> _T:
    try:
        return make()
    except ValidationError as e:
        first = e.errors()[0]
        names = {
            "max_attempts": "retries",
            "initial_delay_s": "delay",
            "start_to_close_s": "timeout",
            "lease_s": "lease",
        }
        name = str(first["loc"][0])
        raise DefinitionError(
            f"Expected a valid {names.get(name, name)} on {where}, but found {first['input']!r}: {first['msg']}."
        ) from e
