"""Addresses under which a server on this host is reached."""

import pytest

from engine.platform.http.addresses import build_base_url, loopback_for_wildcard


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - connected to, not bound
        ("::", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("sparky.example.org", "sparky.example.org"),
    ],
)
def test_a_wildcard_is_reached_by_its_own_familys_loopback(host: str, reached: str) -> None:
    assert loopback_for_wildcard(host) == reached


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:3000"), ("::1", "http://[::1]:3000"), ("a.b", "http://a.b:3000")]
)
def test_an_ipv6_address_stands_in_brackets(host: str, url: str) -> None:
    assert build_base_url(host, 3000) == url
