"""The streaming client: errors of the endpoint are recorded by kind, retried only on request and never raised."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.client.streaming import Client, begin, body
from loadgen.mock_server import Fault, Mock
from loadgen.request import Record
from tests.loadgen.mock_runs import requests, served
from tests.loadgen.scripted_server import refuses, said, speaks, sse

DONE = b"data: [DONE]\n\n"


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


async def test_a_refused_connection() -> None:
    async with Client("http://127.0.0.1:9", plain=True) as client:
        record = await client.chat(requests(1)[0])
    assert record.fault == "connect"


async def test_a_wrong_key() -> None:
    (record,) = await once(Mock(api_key="right"))
    assert (record.fault, "wrong key" in record.error) == ("http_401", True)


async def test_a_request_over_its_time_limit() -> None:
    (record,) = await once(Mock(service_s=5.0), timeout_s=0.2)
    assert record.fault == "timeout"


async def test_refusals_are_retried_only_with_retries() -> None:
    (first, refused) = await once(Mock(service_s=0.01, faults={2: "503"}), 2)
    assert (first.retries, refused.retries, refused.fault) == (0, 0, "http_503")
    (first, again) = await once(Mock(service_s=0.01, faults={2: "503"}), 2, retries=1)
    assert (again.retries, again.error, again.count) == (1, "", 4)
    assert again.chunks[0].at - again.sent >= 1.0  # as long as the endpoint asked for


async def test_a_cancelled_request_keeps_what_arrived() -> None:
    async with served(Mock(service_s=1.0, tokens=10)) as url, Client(url, plain=True) as client:
        record = begin(requests(1)[0])
        task = asyncio.create_task(client.complete(record))
        await asyncio.sleep(0.6)
        assert client.in_flight
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not client.in_flight
    assert (record.fault, len(record.chunks)) == ("stopped", 2)
    assert record.ended > record.sent


async def record_from(*parts: bytes | float, **options: Any) -> Record:
    """The record of a request to a server that sends these parts."""
    async with speaks(*parts, **options) as url, Client(url, plain=True) as client:
        return await client.chat(requests(1)[0])


async def test_a_line_of_700_kilobytes_is_read() -> None:
    record = await record_from(sse(said("x" * 700_000, "stop")) + DONE)
    assert (record.error, len(record.text), record.finish) == ("", 700_000, "stop")


async def test_an_endless_line_is_an_error_of_its_request() -> None:
    record = await record_from(b"data: ", *[b"x" * 2**20] * 17)
    assert (record.fault, "longer than" in record.error) == ("garbage", True)


@pytest.mark.parametrize(
    "stream",
    [
        b'data:{"choices":[{"delta":{"content":"ab"},"finish_reason":"stop"}]}\n\ndata:[DONE]\n\n',
        b'\xef\xbb\xbfdata: {"choices":[{"delta":{"content":"ab"},"finish_reason":"stop"}]}\r\n\r\n',
        b'id: 1\nevent: message\ndata: {"choices":[{"delta":{"content":"ab"},\ndata: "finish_reason":"stop"}]}\n\n',
        b': PROCESSING\n\nretry: 5\n\ndata: {"choices":[{"text":"ab","finish_reason":"stop"}]}\r\r',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_every_syntax_of_a_stream_is_read(stream: bytes, size: int) -> None:
    record = await record_from(*(stream[i : i + size] for i in range(0, len(stream), size)))
    assert (record.fault, record.text, record.finish, len(record.chunks)) == ("", "ab", "stop", 1)


async def test_with_null_counts_pieces_are_counted() -> None:
    usage = {"prompt_tokens": None, "completion_tokens": None, "speculative": {"rounds": None}}
    record = await record_from(sse(said("a"), said("b", "stop"), {"choices": [], "usage": usage}) + DONE)
    assert (record.fault, record.count, record.prompt_tokens, record.rounds) == ("", 2, 0, 0)


async def test_the_first_token_is_the_first_of_any_kind() -> None:
    thought = {"choices": [{"delta": {"role": "assistant", "reasoning_content": "hm"}}]}
    record = await record_from(sse(thought), 0.3, sse(said("a", "stop")) + DONE)
    first, second = record.chunks
    assert (record.text, second.at - first.at) == ("a", pytest.approx(0.3, abs=0.15))


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        ({"error": None, "choices": None}, ""),
        ({"error": "out of memory"}, "stream"),
        ({"error": {"message": "out of memory"}}, "stream"),
        ({"error": {"code": ["out of memory"]}}, "stream"),
        ({"choices": "out of memory"}, "garbage"),
        (["out of memory"], "garbage"),
    ],
)
async def test_errors_of_any_shape_have_a_kind(event: Any, fault: str) -> None:
    record = await record_from(sse(said("a"), event, said("b", "stop")) + DONE)
    assert (record.fault, record.chunks[0].text) == (fault, "a")
    assert ("out of memory" in record.error) == bool(fault)


@pytest.mark.parametrize("end", [DONE, sse({"error": "late"})])
async def test_a_request_ends_at_done_even_if_the_server_continues(end: bytes) -> None:
    began = time.perf_counter()
    record = await record_from(sse(said("a", "stop")) + end, stays_open=True)
    assert record.ended - record.chunks[-1].at < 0.5
    assert time.perf_counter() - began < 5
    assert record.fault == ("" if end == DONE else "stream")


async def test_a_body_that_does_not_end_after_done_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of thousands of requests would leave as many connections and tasks behind."""
    monkeypatch.setattr("loadgen.client.streaming.BODY_END_S", 0.05)
    async with (
        speaks(sse(said("a", "stop")) + DONE, stays_open=True) as url,
        Client(url, plain=True) as client,
    ):
        assert (await client.chat(requests(1)[0])).fault == ""
        async with asyncio.timeout(5):
            while client._ending_bodies:
                await asyncio.sleep(0.01)


async def test_done_ends_a_stream_without_a_finish_reason_but_not_one_without_tokens() -> None:
    assert (await record_from(sse(said("a")) + DONE)).fault == ""
    assert (await record_from(sse(said("a")))).fault == "cut"
    assert (await record_from(DONE)).fault == "garbage"


async def test_an_answer_that_is_not_a_stream_is_reported() -> None:
    record = await record_from(b'{"choices": []}', headers={"Content-Type": "application/json"})
    assert (record.fault, "application/json" in record.error) == ("garbage", True)


async def test_invalid_gzip_is_an_error_of_its_request() -> None:
    record = await record_from(sse(said("a", "stop")), headers={"Content-Encoding": "gzip"})
    assert record.fault


async def test_only_the_beginning_of_an_error_body_is_read() -> None:
    began = time.perf_counter()
    record = await record_from(b"no \xff " * 20_000, status=500, stays_open=True)
    assert (record.fault, record.error[:17]) == ("http_500", "HTTP 500: no \ufffd no")
    assert len(record.error) < 400
    assert time.perf_counter() - began < 10


async def test_connections_are_reused_unless_the_server_keeps_them_busy() -> None:
    async with served(Mock(service_s=0.01, tokens=1)) as url, Client(url, plain=True) as client:
        for request in requests(5):
            assert not (await client.chat(request)).error
            await asyncio.sleep(0.02)
        connector = client._session.connector
        assert connector is not None
        assert sum(len(ready) for ready in connector._conns.values()) == 1


async def test_an_internal_fault_is_an_error_of_its_request() -> None:
    def look(_: Record) -> None:
        raise RuntimeError("the observer fell over")

    async with served(Mock(service_s=0.01)) as url, Client(url, plain=True, on_event=look) as client:
        record = await client.chat(requests(1)[0])
    assert (record.fault, record.error) == ("internal", "RuntimeError: the observer fell over")


@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"data": null}', '{"data": ["m"]}', '{"data": [{}]}', '{"data": {"id": "m"}}']
)
async def test_an_invalid_list_of_models_is_reported(body: str) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server, Client(str(server.make_url(""))) as client:
        with pytest.raises(ValueError, match="not a list of models"):
            await client.is_outrider()


@pytest.mark.parametrize("plain", [True, False])
def test_token_counts_are_requested(plain: bool) -> None:
    assert body(requests(1)[0], plain)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("status", [400, 422])
async def test_a_request_is_repeated_without_a_refused_usage_option(status: int) -> None:
    bodies: list[dict[str, Any]] = []
    async with refuses("stream_options", status, bodies) as url, Client(url, plain=True) as client:
        records = [await client.chat(request) for request in requests(3)]
    assert [(record.fault, record.text, record.count) for record in records] == [("", "a", 1)] * 3
    assert ["stream_options" in body for body in bodies] == [True, False, False, False]


async def test_other_refusals_are_not_repeated() -> None:
    bodies: list[dict[str, Any]] = []
    async with refuses("top_p", 400, bodies) as url, Client(url, plain=True) as client:
        record = await client.chat(requests(1)[0])
    assert (record.fault, len(bodies)) == ("http_400", 1)
