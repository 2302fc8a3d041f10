"""Requests from programs on this machine, from proxies and from web pages."""

from collections.abc import Sequence

import pytest

from services.gateway.trust import FORWARDED, Sender, host_name, is_loopback

EVERYWHERE = "0.0.0.0"  # noqa: S104  # not a loopback address
OWN_PEERS = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
OWN_HOSTS = [
    "localhost",
    "localhost:8000",
    "LocalHost:8000",
    "localhost.:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:80",
    "[::ffff:127.0.0.1]:8000",
    "[::ffff:7f00:1]:8000",
]
FOREIGN_HOSTS = [
    "",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1:8000.evil.example",
    "10.0.0.1",
    "[::ffff:10.0.0.1]:8000",
    "[fe80::1]",
    "gateway:8000",
    "user@localhost",
    "localhost/evil",
    "localhost evil",
    "2130706433",
    "127.1",
]


@pytest.mark.parametrize("peer", OWN_PEERS)
@pytest.mark.parametrize("host", OWN_HOSTS)
def test_programs_here(peer: str, host: str) -> None:
    assert Sender(peer, [host, host], {"Accept": "*/*", "User-Agent": "x"}).foreign_reason() is None


@pytest.mark.parametrize(
    "peer", ["", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "localhost.evil.example", EVERYWHERE]
)
def test_addresses_elsewhere(peer: str) -> None:
    assert "it comes from" in (Sender(peer, ["localhost"], {}).foreign_reason() or "")


@pytest.mark.parametrize(
    "name", [*FORWARDED, "X-Forwarded-For", "x-forwarded-host", "X-FORWARDED-PROTO", "forwarded", "via"]
)
def test_proxies(name: str) -> None:
    assert name in (Sender("127.0.0.1", ["localhost"], {name: "127.0.0.1"}).foreign_reason() or "")


@pytest.mark.parametrize("hosts", [[], *([host] for host in FOREIGN_HOSTS), ["localhost", "evil.example"]])
def test_hosts_of_others(hosts: Sequence[str]) -> None:
    assert "asks for the host" in (Sender("127.0.0.1", hosts, {}).foreign_reason() or "")


def test_web_pages() -> None:
    page = Sender("127.0.0.1", ["localhost:8000"], {"Origin": "http://localhost:8000"})
    assert "web page" in (page.foreign_reason() or "")
    assert "web page" in (page.rebound_reason() or "")


def test_where_no_key_is_needed_a_name_that_others_made_still_is_refused() -> None:
    for host in (*OWN_HOSTS, "10.0.0.1:8000", "[fe80::1]:8000", "gateway:8000"):
        assert Sender("172.17.0.1", [host], {"X-Forwarded-For": "1.2.3.4"}).rebound_reason() is None
    for host in ("", "evil.example:8000", "127.0.0.1.evil.example", "localhost/evil", "user@localhost"):
        assert "asks for the host" in (Sender("172.17.0.1", [host], {}).rebound_reason() or "")


def test_loopback() -> None:
    assert all(map(is_loopback, (*OWN_PEERS, "localhost", "LOCALHOST")))
    assert not any(map(is_loopback, (EVERYWHERE, "::", "10.0.0.1", "", "localhost.evil.org")))


def test_names_of_hosts() -> None:
    assert [host_name(host) for host in ("a.b:80", "[::1]:80", "a.b.", " a ", "[::1", "a:b", "a:1:2")] == [
        "a.b",
        "::1",
        "a.b",
        "a",
        "",
        "",
        "",
    ]
