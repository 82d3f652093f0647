"""Pages of other origins that may use the API: those that were named (`HANDRAIL_CORS_ORIGINS`), and no others.

Off by default: without a name no CORS header is ever sent. There are no cookies, so credentials are never allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_MAX_AGE_S = b"600"
_METHODS = b"GET, HEAD, POST"
_REQUEST_HEADERS = (
    b"Accept, Authorization, Content-Type, Handrail-Actor, Handrail-Channel, Idempotency-Key, Last-Event-ID,"
    b" traceparent, tracestate"
)
_SHOWN = b"Idempotent-Replayed, Location, Retry-After"

RawHeaders = list[tuple[bytes, bytes]]


def origins_of(text: str) -> frozenset[str]:
    """The origins in `https://a.example, http://localhost:5173`, as browsers write them. Raises ValueError on what is
    not an origin; `*` is none, since it would let every page in the world press the buttons."""
    found: set[str] = set()
    for part in filter(None, map(str.strip, text.lower().split(","))):
        if _ORIGIN.fullmatch(part) is None:
            raise ValueError(f"Expected origins as https://app.example, separated by commas, but found {part[:80]!r}.")
        scheme = part.partition(":")[0]
        found.add(part.removesuffix(_DEFAULT_PORTS[scheme]))
    return frozenset(found)


class Cors:
    """What may be told to pages of `origins`."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origins)

    def allows(self, origin: str | None) -> bool:
        """Whether this `Origin` is one of them."""
        return origin is not None and origin.lower() in self._origins

    def headers(self, origin: str | None) -> RawHeaders:
        """For the answer to a request with this `Origin`; `Vary` wherever the answer depends on it."""
        if not self._origins:
            return []
        vary = (b"vary", b"Origin")
        if origin is None or not self.allows(origin):
            return [vary]
        shown = (b"access-control-expose-headers", _SHOWN)
        return [vary, (b"access-control-allow-origin", origin.encode("latin-1", "replace")), shown]

    def preflight(self, method: str, headers: Mapping[str, str]) -> RawHeaders | None:
        """The headers of the 204 to a preflight request of one of the origins; None where it is not one."""
        origin = headers.get("origin")
        if method != "OPTIONS" or not self.allows(origin) or "access-control-request-method" not in headers:
            return None
        return [
            *self.headers(origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", _MAX_AGE_S),
        ]
