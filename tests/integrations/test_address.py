"""The visitor's address: from the connection, or from a trusted proxy's header."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from conftest import with_each
from hypothesis import example, given, settings
from hypothesis import strategies as st

from umami.integrations._address import ClientAddress, anonymized, parsed
from umami.integrations._request import Headers

TRUSTED = ["10.0.0.0/8", "2001:db8::/32"]


def of(peer: str | None, *written: str, name: str = "x-forwarded-for", **options: Any) -> str | None:
    return ClientAddress(**options).of(peer, Headers([(name, each) for each in written]))


@with_each(
    ("text", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9:4711 ", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("203.0.113.9, 10.0.0.1", None),
    ],
)
def test_an_address_is_read_however_a_proxy_writes_it(text: str, address: str | None) -> None:
    found = parsed(text)
    assert (None if found is None else str(found)) == address


@with_each(
    ("peer", "written", "options", "address"),
    [
        ("198.51.100.7", ["203.0.113.9"], {}, "198.51.100.7"),
        ("198.51.100.7", ["203.0.113.9"], {"trusted_proxies": TRUSTED}, "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9"], {"trusted_proxies": TRUSTED}, "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9, 10.0.0.2"], {"trusted_proxies": TRUSTED}, "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9", "10.0.0.2"], {"trusted_proxies": TRUSTED}, "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], {"trusted_proxies": TRUSTED}, "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9"], {"trusted_proxies": ["::ffff:10.0.0.0/104"]}, "203.0.113.9"),
        ("10.0.0.1", [], {"trusted_proxies": TRUSTED}, "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], {"trusted_proxies": TRUSTED}, "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9, unknown"], {"trusted_proxies": TRUSTED}, None),
        (None, ["203.0.113.9"], {"trusted_proxies": TRUSTED}, None),
        (None, ["203.0.113.9"], {"trusted_proxies": ["unix"]}, "203.0.113.9"),
        ("", ["203.0.113.9"], {"trusted_proxies": ["unix"]}, "203.0.113.9"),
        ("localhost", ["203.0.113.9"], {"trusted_proxies": ["unix"]}, "203.0.113.9"),
        ("unknown", ["203.0.113.9"], {"trusted_proxies": ["unix"]}, None),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], {"trusted_hops": 1}, "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9, 10.0.0.2"], {"trusted_hops": 2}, "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9"], {"trusted_hops": 2}, "10.0.0.1"),
        (None, ["203.0.113.9"], {"trusted_hops": 1}, "203.0.113.9"),
    ],
)
def test_the_header_is_read_from_the_right_and_only_from_a_trusted_peer(
    peer: str | None, written: list[str], options: dict[str, Any], address: str | None
) -> None:
    assert of(peer, *written, **options) == address


def test_forwarded_is_read_by_option_alone() -> None:
    written = 'for="[2001:db8::1]:4711";proto=https, For = 203.0.113.9 ; by=10.0.0.2, for=10.0.0.2'
    assert of("10.0.0.1", written, name="forwarded", trusted_proxies=["10.0.0.0/8"]) == "10.0.0.1"
    assert (
        of("10.0.0.1", written, name="forwarded", trusted_proxies=["10.0.0.0/8"], header="Forwarded")
        == "203.0.113.9"
    )


@with_each(
    "written",
    [
        'for=203.0.113.9;host="a,for=6.6.6.6;for=6.6.6.6"',
        'host="a;for=6.6.6.6";for=203.0.113.9',
        r'for=203.0.113.9;host="a\",for=6.6.6.6;for=6.6.6.6"',
        r'host="a\\";for=203.0.113.9',
        'for=", for=203.0.113.9',
        'for="6.6.6.6;, for=203.0.113.9, for=10.0.0.2;host=""',
    ],
)
def test_what_a_visitor_has_a_proxy_quote_is_no_entry_of_forwarded(written: str) -> None:
    options: dict[str, Any] = {"trusted_proxies": TRUSTED, "header": "Forwarded"}
    assert of("10.0.0.1", written, name="forwarded", **options) == "203.0.113.9"


def test_a_header_of_its_own_counts_from_a_trusted_peer_alone() -> None:
    options: dict[str, Any] = {"trusted_proxies": TRUSTED, "client_ip_header": "CF-Connecting-IP"}
    assert of("10.0.0.1", "203.0.113.9", name="cf-connecting-ip", **options) == "203.0.113.9"
    assert of("198.51.100.7", "203.0.113.9", name="cf-connecting-ip", **options) == "198.51.100.7"
    assert of("10.0.0.1", "203.0.113.9", **options) is None


addresses = st.ip_addresses(v=4).filter(lambda address: address not in ip_network("10.0.0.0/8"))


@pytest.mark.slow
@settings(max_examples=30)
@given(
    forged=st.lists(st.one_of(st.text(max_size=30), addresses.map(str)), max_size=60),
    visitor=addresses,
    proxies=st.lists(st.integers(0, 255), max_size=5),
)
def test_what_a_visitor_forges_changes_nothing(forged: list[str], visitor: Any, proxies: list[int]) -> None:
    written = ", ".join([*forged, str(visitor), *(f"10.0.0.{number}" for number in proxies)])
    assert of("10.1.1.1", written, trusted_proxies=TRUSTED) == str(visitor)
    assert of("10.1.1.1", written, trusted_hops=len(proxies) + 1) == str(visitor)


@given(st.ip_addresses())
@example(ip_address("::ffff:203.0.113.7"))
def test_an_anonymized_address_has_nothing_of_its_last_part(address: Any) -> None:
    cut = ip_address(anonymized(str(address)))
    address = getattr(address, "ipv4_mapped", None) or address
    bits = 8 if address.version == 4 else 80
    assert int(cut) == int(address) >> bits << bits
