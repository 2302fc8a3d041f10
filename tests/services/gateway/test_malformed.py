"""Invalid HTTP gets a response and a log line in our format, without the client's bytes."""

import asyncio
import json
import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.services.gateway.stack import Stack, running_stack

SECRET = b"dear-diary"
LONG = SECRET * 1000
HOST = b"Host: x\r\n"
MANY = b"".join(b"X-%d: dear-diary\r\n" % n for n in range(300))


async def raw(stack: Stack, request: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Status, error and whole answer of bytes sent as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"application/json" in head
    return int(head.split(b" ", 2)[1]), json.loads(body)["error"], answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/models?" + LONG + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\n" + HOST + b"X-Note: " + LONG + b"\r\n\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\n" + HOST + LONG + b": 1\r\n\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\n" + HOST + MANY + b"\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\ndear-diary\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: dear-diary\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\x00dear-diary\r\n\r\n", 400),
        (b"GET /v1/models HTTP/9.9 dear-diary\r\n\r\n", 400),
        (b"GET http://[dear-diary HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"dear-diary\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01dear-diary\r\n\r\n", 400),
        (
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\ndear-diary\r\n\r\n",
            400,
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_read(
    request_: bytes, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    async with running_stack() as stack:
        with capture_logs() as logged:
            got, error, answer = await raw(stack, request_)
        assert got == status
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", "malformed_request")
        async with stack.client.get("/v1/models") as response:
            assert response.status == 200
    lines = [line for line in logged if line["event"] == "request refused"]
    assert [line["status"] for line in lines] == [status]
    assert caplog.records == []  # nothing goes round our own log
    for text in (str(logged), answer.decode(), *capfd.readouterr()):
        assert SECRET.decode() not in text
        assert "Traceback" not in text
