"""How an attempt ends without an answer, and what it says about the outside world.

    Exception
    ├── DefinitionError   the agent is written wrongly; raised while it is defined, never while it runs
    ├── Fail              definite: nothing happened, the agent vouches for it
    ├── Escalated         a person has to take over (`await ctx.escalate_to_human(...)`)
    ├── Proposed          a person has to approve first (`await ctx.propose(...)`)
    ├── Silence           the runtime says that it started, and never more; for tests of everybody else
    └── Garbage           the runtime answers something that is no result; likewise

Every other exception means doubt: it is not known whether the effect happened, and the effect class rules what follows.
"""

from __future__ import annotations

import math

from pydantic_core import ValidationError, to_jsonable_python

from handrail_contracts.model import Json
from handrail_contracts.tasks import Escalation, Failure, ProposedAction

INVALID_INPUT = "invalid-input"
INVALID_RESULT = "invalid-result"
SECOND_PROPOSAL = "second-proposal"
"""A task proposed another action after it had been let do one: what that did stands, and cannot be told apart from the second."""
NOT_FOUND = "NOT_FOUND"
"""What a look-up fails with when the effect provably did not happen."""


class DefinitionError(TypeError):
    """The agent or task cannot be defined so. The message says what was expected, what was found, what to do."""


class Fail(Exception):
    """Ends the attempt as a definite failure: the agent vouches that the effect did not happen.

    `code` is what policies and people match on; `message` becomes the pause's `failure_reason`; `evidence` is what the
    outside world said, shown verbatim (any value; what is not JSON is shown as text). `retryable=False` ends the retries.
    `retry_after_s` (seconds) replaces the policy's delay before the next attempt. A status (404) or an exception as code or
    message is its text; a time that is none is not heard.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        evidence: Json = None,
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = as_text(code)
        self.message = as_text(message)
        self.evidence = jsonable(evidence)
        self.retryable = bool(retryable)
        self.retry_after_s = as_number(retry_after_s)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code

    def failure(self) -> Failure:
        """The failure as it goes on the wire."""
        return Failure(
            code=self.code,
            message=self.message,
            evidence=self.evidence,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
        )


class Escalated(Exception):
    """The agent stops speaking; a person takes over."""

    def __init__(self, escalation: Escalation) -> None:
        super().__init__(escalation.reason)
        self.escalation = escalation


class Proposed(Exception):
    """The agent proposes instead of acting."""

    def __init__(self, proposed: ProposedAction) -> None:
        super().__init__(proposed.action)
        self.proposed = proposed


class Silence(Exception):
    """Makes the runtime never answer, as a worker that was lost would."""


class Garbage(Exception):
    """Makes the runtime answer a record that is not a result."""


def jsonable(value: object) -> Json:
    """The value as JSON-able Python; what cannot be one becomes its `repr`."""
    if value is None or isinstance(value, str | bool):
        return value
    try:
        return to_jsonable_python(value, fallback=repr)
    except ValueError:  # bytes that are no text, a circle
        return repr(value)


def as_text(value: object) -> str:
    """The value as text that can be written as UTF-8; nothing for None. What an attempt has to say must not fail for how it is
    said: it would end in doubt, or not at all."""
    if value is None:
        return ""
    try:
        said = value if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001  # a foreign __str__
        said = type(value).__name__
    return said.encode("utf-8", "replace").decode()


def as_number(value: object) -> float | None:
    """The value as a finite number, None where it is none."""
    try:
        found = float(value)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def first_fault(e: ValidationError) -> str:
    """Where and why a value does not fit its model, first fault, without the value."""
    fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}." if where else f"{fault['msg']}."
