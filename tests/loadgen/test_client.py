"""What goes wrong at the endpoint: counted by kind, retried only when asked, never raised."""

import asyncio

import pytest

from loadgen.client import Client, begin
from loadgen.mock_server import Fault, Mock
from loadgen.request import Record
from tests.loadgen.mocked import requests, served


async def once(mock: Mock, count: int = 1, **options: float) -> list[Record]:
    async with served(mock) as url, Client(url, plain=True, **options) as client:  # type: ignore[arg-type]
        return [await client.chat(request) for request in requests(count)]


async def test_a_good_answer_is_counted_as_the_endpoint_counts() -> None:
    (record,) = await once(Mock(service_s=0.01, tokens=4))
    assert (record.error, record.count, len(record.chunks), record.finish) == ("", 4, 4, "length")
    assert record.prompt_tokens > 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", "http_429"),
        ("503", "http_503"),
        ("cut", "cut"),
        ("garbage", "garbage"),
        ("error", "stream"),
        ("stall", "stall"),
    ],
)
async def test_faults_by_kind(fault: Fault, kind: str) -> None:
    first, second = await once(Mock(service_s=0.01, faults={2: fault}), 2, stall_s=0.3)
    assert first.fault == ""
    assert (second.fault, bool(second.error)) == (kind, True)


async def test_nobody_there() -> None:
    async with Client("http://127.0.0.1:9", plain=True) as client:
        record = await client.chat(requests(1)[0])
    assert record.fault == "connect"


async def test_a_wrong_key() -> None:
    (record,) = await once(Mock(api_key="right"))
    assert (record.fault, "wrong key" in record.error) == ("http_401", True)


async def test_too_slow() -> None:
    (record,) = await once(Mock(service_s=5.0), timeout_s=0.2)
    assert record.fault == "timeout"


async def test_refusals_are_retried_only_when_asked() -> None:
    (first, refused) = await once(Mock(service_s=0.01, faults={2: "503"}), 2)
    assert (first.retries, refused.retries, refused.fault) == (0, 0, "http_503")
    (first, again) = await once(Mock(service_s=0.01, faults={2: "503"}), 2, retries=1)
    assert (again.retries, again.error, again.count) == (1, "", 4)
    assert again.chunks[0].at - again.sent >= 1.0  # as long as the endpoint asked for


async def test_a_request_that_is_cancelled_keeps_what_was_seen() -> None:
    async with served(Mock(service_s=1.0, tokens=10)) as url, Client(url, plain=True) as client:
        record = begin(requests(1)[0])
        task = asyncio.create_task(client.complete(record))
        await asyncio.sleep(0.6)
        assert client.flying
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not client.flying
    assert (record.fault, len(record.chunks)) == ("stopped", 2)
    assert record.ended > record.sent
