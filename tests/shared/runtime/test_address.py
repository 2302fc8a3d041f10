"""Addresses that users type: valid ones, and the errors for invalid ones."""

import pytest

from shared.runtime.address import AddressError, broker_url, gateway_url


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://core.example/outrider/v1", "https://core.example/outrider"),
        ("https://core.example/outrider", "https://core.example/outrider"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("HTTP://localhost", "http://localhost"),
        ("http://my_core.lan.", "http://my_core.lan."),
        ("http://käse.example:80", "http://käse.example:80"),
    ],
)
def test_the_base_of_a_gateway_is_found_with_or_without_v1(text: str, base: str) -> None:
    assert gateway_url(text) == base


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notaurl", "begin with http:// or https://"),
        ("127.0.0.1:8000", "begin with http:// or https://"),
        ("localhost:8000", "begin with http:// or https://"),
        ("ftp://h", "begin with http:// or https://"),
        ("http:/h", "begin with http:// or https://"),
        ("http://", "no host"),
        ("http://:8000", "no host"),
        ("http://h:70000", "ports go from 1 to 65535"),
        ("http://h:eighty", "ports go from 1"),
        ("http://h:", "port"),
        ("http://h:0", "port"),
        ("http://h:-1", "port"),
        ("http://[::1", "cannot be read"),
        ("http://a b", "space"),
        ("http://h\n", "space"),
        ("http://a..b", "host name"),
        ("http://-h", "host name"),
        (f"http://{'a' * 64}", "host name"),
        ("http://u:p@h", "password"),
        ("http://h/?a=b", "after ?"),
        ("", "begin with"),
    ],
)
def test_what_is_no_gateway_says_why_and_gives_an_example(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=r"as in http://127\.0\.0\.1:8000") as raised:
        gateway_url(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["redis://h", "redis://h/", "redis://h:6379/0", "rediss://u:p@h:1/15?ssl_cert_reqs=none"],
)
def test_a_broker_is_taken_as_it_is(text: str) -> None:
    assert broker_url(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notaurl", "redis:// or rediss://"),
        ("http://h:6379", "redis:// or rediss://"),
        ("unix:///run/valkey.sock", "redis:// or rediss://"),
        ("redis://h:70000", "ports go from 1 to 65535"),
        ("redis:///0", "no host"),
        ("redis://h:6379/zero", "number of the database"),
    ],
)
def test_what_is_no_broker_says_why_and_gives_an_example(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=r"as in redis://127\.0\.0\.1:6379/0") as raised:
        broker_url(text)
    assert words in str(raised.value)


def test_a_password_is_never_repeated() -> None:
    for check in (gateway_url, broker_url):
        for text in (
            "http://u:secret@h:70000",
            "redis://u:secret@h:70000",
            "x://u:secret@h",
            "redis://:secret@",
        ):
            with pytest.raises(AddressError) as raised:
                check(text)
            assert "secret" not in str(raised.value)
