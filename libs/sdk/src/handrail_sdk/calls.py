"""One logical call to Handrail over HTTP: repeated on a broken connection under one idempotency key, problems raised."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2
from pydantic_core import from_json, to_json

from handrail_sdk.client_errors import Problem, Unexpected, Unreachable

Query = Mapping[str, str | int | float | bool | list[str] | None]

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_PROBLEM = "application/problem+json"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CONNECT_TIMEOUT_S = 5.0


def path(*parts: str) -> str:
    """`/a/b`, each part escaped, so that no id can reach another route."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


class Calls:
    """The wire to one Handrail. `retries` counts repeats after the first try; `timeout_s` bounds each single try.

    Repeated are broken connections, timeouts, shed load and `request-in-progress`, with doubling jittered delays or
    after what `Retry-After` says. A POST always carries an idempotency key, so a repeat never does anything twice.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], timeout_s: float, retries: int, http: httpx2.AsyncClient | None
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = dict(headers)
        self._timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        self._retries = retries
        self._own = http is None
        self._http = http or _new_http(self.url)

    async def close(self) -> None:
        """Closes the connections, unless they were brought along. Idempotent."""
        if self._own:
            await self._http.aclose()

    async def get(self, path: str, query: Query | None = None, *, allow: tuple[int, ...] = ()) -> Any:
        """The JSON at `path`. Statuses in `allow` count as good. Raises ClientError."""
        return (await self._call("GET", path, query=query, allow=allow))[1]

    async def post(self, path: str, body: Mapping[str, Any] | None = None, key: str | None = None) -> Any:
        """Orders something; `key` is the idempotency key, drawn where None. Answers the JSON. Raises ClientError."""
        headers = {"Idempotency-Key": key or uuid4().hex, "Content-Type": "application/json"}
        return (await self._call("POST", path, body=to_json(body or {}), headers=headers))[1]

    @asynccontextmanager
    async def lines(self, path: str, query: Query | None = None) -> AsyncGenerator[httpx2.Response]:
        """An open NDJSON answer. Not repeated. Raises ClientError."""
        async with self.stream(path, {}, self._timeout, query) as response:
            if response.status_code != 200:
                raise await refusal(response)
            yield response

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], timeout: httpx2.Timeout, query: Query | None = None
    ) -> AsyncGenerator[httpx2.Response]:
        """One try of an answer that is read as it comes, whatever its status. Raises Unreachable when it breaks."""
        request = self._http.stream(
            "GET", self.url + path, params=_params(query), headers={**self._headers, **headers}, timeout=timeout
        )
        try:
            async with request as response:
                yield response
        except httpx2.TransportError as e:
            raise Unreachable(self.url, reason_of(e)) from e

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        allow: tuple[int, ...] = (),
    ) -> tuple[int, Any]:
        tried = 0
        while True:
            try:
                response = await self._http.request(
                    method,
                    self.url + path,
                    params=_params(query),
                    content=body,
                    headers={**self._headers, **(headers or {})},
                    timeout=self._timeout,
                )
            except httpx2.TransportError as e:
                failure: Unreachable | Problem | Unexpected = Unreachable(self.url, reason_of(e))
            except httpx2.InvalidURL as e:
                raise Unexpected(f"Expected an address as http://127.0.0.1:8080, but found {self.url[:80]!r}.") from e
            else:
                if response.status_code < 300 or response.status_code in allow:
                    return response.status_code, _json(response)
                failure = await refusal(response)
            if not failure.retriable or tried >= self._retries:
                raise failure
            await asyncio.sleep(_delay(tried, failure))
            tried += 1


async def refusal(response: httpx2.Response) -> Problem | Unexpected:
    """What a status other than 2xx means. Reads the body."""
    await response.aread()
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind != _PROBLEM:
        if response.status_code in (502, 503, 504):
            return Problem(response.status_code, {"type": "/problems/unavailable", "detail": _gateway(response)})
        return Unexpected(
            f"Expected Handrail at {response.request.url}, but what answered is not Handrail:"
            f" status {response.status_code}, {kind or 'no content type'}."
        )
    body = _json(response)
    if not isinstance(body, dict):
        return Unexpected("Expected a problem to be a JSON object, but it is not one.")
    waits = response.headers.get("retry-after", "")
    if "retry_after" not in body and waits.isdigit():
        body["retry_after"] = int(waits)
    return Problem(response.status_code, body)


def reason_of(error: httpx2.TransportError) -> str:
    """A transport error in three words."""
    match error:
        case httpx2.ConnectTimeout():
            return "connecting took too long"
        case httpx2.TimeoutException():
            return "no answer in time"
        case httpx2.ConnectError():
            return "connection refused or no such host"
        case _:
            return "the connection broke"


def _gateway(response: httpx2.Response) -> str:
    return f"A proxy answered {response.status_code}: what stands behind it is not up. Try again in a moment."


def _new_http(url: str) -> httpx2.AsyncClient:
    # A proxy from the environment is for the outside world; a loopback address is never meant to go through one.
    trust_env = urlsplit(url).hostname not in _LOOPBACK
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx2.AsyncClient(trust_env=trust_env, limits=limits, follow_redirects=False)


def _params(query: Query | None) -> dict[str, Any] | None:
    # None and not empty: an empty query would take the place of the one that an address of the server brings along.
    return {k: v for k, v in (query or {}).items() if v is not None and v != []} or None


def _json(response: httpx2.Response) -> Any:
    if not response.content:
        return None
    try:
        return from_json(response.content)
    except ValueError as e:
        raise Unexpected(f"Expected JSON from {response.request.url}, but the answer is not JSON.") from e


def _delay(tried: int, failure: Problem | Unreachable | Unexpected) -> float:
    jittered = min(_FIRST_DELAY_S * 2**tried, _LONGEST_DELAY_S) * random.uniform(0.5, 1.0)
    if isinstance(failure, Problem) and failure.retry_after is not None:
        return min(failure.retry_after, _LONGEST_DELAY_S) + jittered
    return jittered
