"""Which addresses may be called on somebody's behalf (webhooks, callbacks): judged at the door by name, at delivery by address.

`refused_rule` reads the URL as a browser would, so that no other spelling of an inner address slips through. A public name may
still lead inside: whoever delivers resolves it once, asks `is_public` of every address, connects to that address and to no
other, follows no redirect, and does so anew each time (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

MAX_URL_CHARS = 2_048
PORTS = frozenset({443, 8443})
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_INSIDE = (
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "arpa",
    "onion",
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All that is given out of IPv6 to be reached by anybody."""


def refused_rule(url: str) -> str | None:
    """The name of the rule that refuses this URL, None for one that may be called: `too-long`, `malformed`, `scheme`,
    `userinfo`, `ip-literal`, `idn`, `local-name`, `port`. Pure: nothing is resolved."""
    if len(url) > MAX_URL_CHARS:
        return "too-long"
    if not url.isprintable() or any(c in url for c in ' \\"<>^`{|}'):
        return "malformed"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "malformed"
    if parts.scheme != "https":
        return "scheme"
    if "@" in parts.netloc:
        return "userinfo"
    if not host or parts.netloc.endswith(":"):
        return "malformed"
    if ":" in host or parts.netloc.startswith("["):
        return "ip-literal"
    return _refused_name(host) or ("port" if port is not None and port not in PORTS else None)


def _refused_name(host: str) -> str | None:
    if not host.isascii() or "%" in host:
        return "idn"
    labels = host.lower().rstrip(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return "ip-literal"  # the last label decides: 127.1, 0x7f000001 and 2130706433 are addresses too
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "malformed"
    return "local-name" if len(labels) < 2 or labels[-1] in _INSIDE else None


def is_public(address: str) -> bool:
    """True for an address that anybody on the Internet can reach: not private, link-local, shared, multicast, reserved, nor an
    IPv6 spelling of one that is. False for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if "%" in address:
            return False
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast
