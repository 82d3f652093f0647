"""Webhooks and callbacks, signed as Standard Webhooks says, sent only to addresses that anybody may call.

Each delivery resolves the name anew, asks of every address whether it is public, and connects to the first of exactly these, with
the name in SNI and Host (no DNS rebinding); it follows no redirect, reads at most 64 KiB and shows nothing of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

import httpx2
from standardwebhooks import Webhook

from handrail_contracts.outbound_url import is_public, refused_rule
from handrail_notifier.outbound.notices import GiveUp, Kind, Notice, TryLater, webhook_body

TIMEOUT_S = 15.0
MOST_BYTES = 64 * 1024
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Webhooks:
    """Delivers to the configured addresses and to the callbacks of escalations. `keys`: the newest first; all of them sign."""

    def __init__(
        self,
        urls: dict[str, str],
        keys: Sequence[str],
        inner_hosts: frozenset[str],
        resolver: Resolve = resolve,
        *,
        ca_file: str = "",
        proxy: str = "",
    ) -> None:
        self._urls, self._inner, self._resolve = urls, inner_hosts, resolver
        self._ca_file, self._proxy = ca_file, proxy
        self._keys = [Webhook(key) for key in keys]
        self._client: httpx2.AsyncClient | None = None

    async def deliver(self, notice: Notice) -> None:
        """One try. Raises TryLater, GiveUp."""
        url = notice.body["url"] if notice.kind is Kind.CALLBACK else self._urls[notice.channel]
        body = webhook_body(notice)
        target, host, pinned = await self._target(url)
        if self._client is None:
            self._client = self._connected()
        headers = {"host": host, "content-type": "application/json", "user-agent": "handrail-webhook/1"}
        extensions = {"sni_hostname": pinned} if pinned else {}
        try:
            async with asyncio.timeout(TIMEOUT_S):
                request = self._client.build_request(
                    "POST",
                    target,
                    content=body,
                    headers=headers | self.signature(notice.id, body),
                    extensions=extensions,
                )
                answer = await self._client.send(request, stream=True)
                try:
                    await _drained(answer)
                finally:
                    await answer.aclose()
        except (httpx2.HTTPError, TimeoutError, OSError) as e:
            raise TryLater(f"{type(e).__name__}") from e
        _judge(answer)

    def signature(self, notice_id: str, body: bytes) -> dict[str, str]:
        """The three headers of Standard Webhooks; the id is the notice's, at every try."""
        now = datetime.now(UTC)
        # A dot would make `id.timestamp.body` ambiguous, a slash and others are not everybody's idea of an id.
        id_ = "".join(c if c.isalnum() else "_" for c in notice_id)
        signatures = " ".join(key.sign(id_, now, body.decode()) for key in self._keys)
        return {"webhook-id": id_, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signatures}

    async def close(self) -> None:
        """Lets go of connections. Idempotent."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _connected(self) -> httpx2.AsyncClient:
        trust = httpx2.create_ssl_context(trust_env=False)
        if self._ca_file:
            trust.load_verify_locations(self._ca_file)
        # No connection is used twice: it is known by its address, and was proven for one name only.
        alone = httpx2.Limits(max_keepalive_connections=0)
        return httpx2.AsyncClient(
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            verify=trust,
            limits=alone,
            proxy=self._proxy or None,
        )

    async def _target(self, url: str) -> tuple[str, str, str]:
        """The URL to connect to, the Host to name, and the name that the certificate must have."""
        parts = urlsplit(url)
        if parts.netloc.lower() in self._inner and parts.scheme in ("http", "https"):
            return url, parts.netloc, ""
        rule = refused_rule(url)
        if rule is not None:
            raise GiveUp(f"webhook-url-rejected: {rule}")
        name = parts.hostname or ""
        port = parts.port or 443
        try:
            addresses = await self._resolve(name, port)
        except OSError as e:
            raise TryLater(f"the name does not resolve: {type(e).__name__}") from e
        if not addresses or not all(is_public(address) for address in addresses):
            raise TryLater("webhook-url-rejected: it leads to an address that is not public")
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return urlunsplit(("https", f"{address}:{port}", parts.path, parts.query, "")), parts.netloc, name


async def _drained(answer: httpx2.Response) -> None:
    read = 0
    async for piece in answer.aiter_raw():
        read += len(piece)
        if read > MOST_BYTES:
            return


def _judge(answer: httpx2.Response) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    if status == 410:
        raise GiveUp("the receiver says that it is gone (410)")
    raise TryLater(f"the receiver answered {status}", _retry_after(answer.headers.get("retry-after")))


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)) / timedelta(seconds=1))
    except (TypeError, ValueError):
        return None
