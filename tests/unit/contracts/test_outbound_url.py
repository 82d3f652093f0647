"""Addresses that may not be called: every spelling of them that an attacker has thought of."""

from __future__ import annotations

import pytest

from handrail_contracts.outbound_url import is_public, refused_rule

TRICKS = {
    "http://agents.example/hook": "scheme",
    "HTTP://agents.example/hook": "scheme",
    "ftp://agents.example/hook": "scheme",
    "file:///etc/passwd": "scheme",
    "gopher://agents.example/": "scheme",
    "//agents.example/hook": "scheme",
    "agents.example/hook": "scheme",
    "javascript:alert(1)": "scheme",
    "https://user@agents.example/": "userinfo",
    "https://user:pass@agents.example/": "userinfo",
    "https://agents.example@127.0.0.1/": "userinfo",
    "https://127.0.0.1/": "ip-literal",
    "https://127.0.0.1:443/": "ip-literal",
    "https://127.1/": "ip-literal",
    "https://127.0.1/": "ip-literal",
    "https://2130706433/": "ip-literal",
    "https://0x7f000001/": "ip-literal",
    "https://0x7f.0.0.1/": "ip-literal",
    "https://0177.0.0.1/": "ip-literal",
    "https://0/": "ip-literal",
    "https://10.0.0.5/": "ip-literal",
    "https://169.254.169.254/latest/meta-data/": "ip-literal",
    "https://8.8.8.8/": "ip-literal",
    "https://127.0.0.1./": "ip-literal",
    "https://[::1]/": "ip-literal",
    "https://[::ffff:127.0.0.1]/": "ip-literal",
    "https://[fe80::1%25eth0]/": "ip-literal",
    "https://[fd00::1]:443/": "ip-literal",
    "https://localhost/": "local-name",
    "https://LOCALHOST./": "local-name",
    "https://app.localhost/": "local-name",
    "https://printer.local/": "local-name",
    "https://metadata.google.internal/": "local-name",
    "https://kafka/": "local-name",
    "https://router.lan/": "local-name",
    "https://1.0.0.127.in-addr.arpa/": "local-name",
    "https://①②⑦.⓪.⓪.①/": "idn",
    "https://１２７.0.0.1/": "idn",
    "https://ex\u00e4mple.com/": "idn",
    "https://ex%61mple.com/": "idn",
    "https://agents.example:22/": "port",
    "https://agents.example:6379/": "port",
    "https://agents.example:99999/": "malformed",
    "https://agents.example:/": "malformed",
    "https:///hook": "malformed",
    "https://": "malformed",
    "https://agents.example\\@127.0.0.1/": "malformed",
    "https://agents.example/ hook": "malformed",
    "https://agents.example/\r\nHost: x": "malformed",
    "https://-agents.example/": "malformed",
    "https://agents..example/": "malformed",
    "https://agents_example.com/": "malformed",
    "https://[::1/": "malformed",
    "https://agents.example/" + "x" * 2_100: "too-long",
    "": "scheme",
}
FINE = [
    "https://agents.example/hook",
    "https://agents.example:8443/hook?id=1&x=2",
    "https://xn--exmple-cua.com/",
    "https://a.b.c.d.example.com./path#part",
    "HTTPS://Agents.Example/",
]
INSIDE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00::1"),
    *("ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "x"),
    *("2001:0:0:0:0:0:80ff:fffe", "2001:db8::1", "127.1", ""),
    *(
        "fec0::1",
        "fec0:0:0:ffff::1",
        "::127.0.0.1",
        "::10.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "::ffff:0:8.8.8.8",
    ),
    *("64:ff9b:1::7f00:1", "5f00::1", "4000::1", "0100::1", "::ffff:224.0.0.1", "64:ff9b::e000:1"),
]


@pytest.mark.parametrize(("url", "rule"), TRICKS.items(), ids=lambda v: v[:60])
def test_a_tricky_address_is_refused_and_the_rule_named(url: str, rule: str) -> None:
    assert refused_rule(url) == rule


@pytest.mark.parametrize("url", FINE)
def test_an_ordinary_address_is_fine(url: str) -> None:
    assert refused_rule(url) is None


@pytest.mark.parametrize("address", INSIDE)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
