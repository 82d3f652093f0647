"""When the next attempt may come. Deterministic: the jitter is a hash of trace, node and attempt, so a replay waits the same."""

from __future__ import annotations

import math
import zlib

from handrail_contracts.plan import RetryPolicy
from handrail_contracts.tasks import Failure


def jitter_fraction(trace_id: str, node_id: str, attempt: int) -> float:
    """A fraction in [0, 1) that is the same whenever it is asked for the same attempt."""
    return zlib.crc32(f"{trace_id}/{node_id}/{attempt}".encode()) / 2**32


def delay_s(policy: RetryPolicy, done: int, trace_id: str, node_id: str, attempt: int) -> float:
    """Seconds to wait after the `done`-th attempt of this round (1, 2, …).

    Full jitter draws from [0, delay) as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    match policy.backoff:
        case "fixed":
            delay = policy.initial_delay_s
        case "linear":
            delay = policy.initial_delay_s * done
        case "exponential":
            # the exponent is capped so that a thousand attempts do not overflow; max_delay_s rules long before
            delay = policy.initial_delay_s * policy.multiplier ** min(done - 1, 60)
    delay = min(delay, policy.max_delay_s)
    return delay * jitter_fraction(trace_id, node_id, attempt) if policy.jitter == "full" else delay


RETRY_AFTER_MAX_S = 7 * 86_400.0


def wait_s(policy: RetryPolicy, error: Failure, done: int, trace_id: str, node_id: str, attempt: int) -> float:
    """Seconds until the next attempt: what the agent asked for (0 to a week; nonsense is not heard), else the policy's."""
    asked = error.retry_after_s
    if asked is not None and math.isfinite(asked) and asked >= 0:
        return min(asked, RETRY_AFTER_MAX_S)
    return delay_s(policy, done, trace_id, node_id, attempt)


def may_retry(
    policy: RetryPolicy, error: Failure, done: int, round_ms: int, now_ms: int, wait: float, *, doubt: bool
) -> bool:
    """Whether another attempt may follow after `wait` seconds. `round_ms` is when this round's first attempt was sent."""
    if error.code in policy.non_retryable_errors or not (error.retryable or doubt) or done >= policy.max_attempts:
        return False
    budget = policy.total_timeout_s
    return budget is None or now_ms + wait * 1000 <= round_ms + budget * 1000


RESEND_FIRST_S = 10.0
RESEND_MAX_S = 300.0
GIVE_UP_AFTER_MS = 2_000
"""An attempt is given up only this long after its last `start_before`: the slowest allowed claim has answered by then."""


def resend_s(out_s: float) -> float:
    """Seconds until an unclaimed attempt that has been out for `out_s` is sent again: 10, 20, 40 … 300. It never counts as a
    retry. A function of time, not of a count, so that an owner who was not there at the sends knows them."""
    return min(RESEND_FIRST_S + max(out_s, 0.0), RESEND_MAX_S)


def start_window_s(out_s: float) -> float:
    """Seconds that such a send may still be claimed: twice the time to the next send, so copies overlap and none is lost."""
    return max(30.0, 2 * resend_s(out_s))
