"""Streams start at once and send keep-alives; a client that does not read is disconnected."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from services.gateway.respond import StreamTimeouts
from services.gateway.sessions import OVERDUE_S
from shared.protocol.messages import Close
from tests.services.gateway.reading import TEXT, text_of
from tests.services.gateway.stack import MODEL, Stack, running_stack, until

BODY = {"model": MODEL, "prompt": "say it", "max_tokens": 100, "stream": True}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_headers_come_before_the_first_token_then_comments(path: str) -> None:
    async with running_stack(keepalive_s=0.05) as stack:
        stack.core.hold.clear()
        chat = {"messages": [{"role": "user", "content": "say it"}]}
        body = BODY if path == "/v1/completions" else {**BODY, "prompt": None} | chat
        body = {name: value for name, value in body.items() if value is not None}
        async with asyncio.timeout(10), stack.client.post(path, json=body) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            for _ in range(3):
                assert (await response.content.readline()).startswith(b":")
                assert await response.content.readline() == b"\n"
            stack.core.hold.set()
            events = [event for event in (await response.text()).split("\n\n") if event.startswith("data: ")]
        assert events.pop() == "data: [DONE]"
        chunks = [json.loads(event[6:]) for event in events]
        if path == "/v1/completions":
            assert text_of(chunks) == TEXT


async def test_what_fails_later_is_an_event() -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        async with stack.client.post("/v1/completions", json=BODY) as response:
            assert response.status == 200
            session, address = stack.core.submits[0].session, stack.gateway.sessions.address
            await stack.link.broker.sessions.end(
                session, Close(session, 1, "error", "no pages"), "", "", address
            )
            events = (await response.text()).split("\n\n")
        assert [json.loads(event[6:])["error"]["message"] for event in events if event] == ["no pages"]


async def test_what_is_refused_at_once_has_its_own_status() -> None:
    async with running_stack() as stack:
        for fields, status in (({"prompt": ""}, 400), ({"model": "other"}, 404)):
            async with stack.client.post("/v1/completions", json=BODY | fields) as response:
                assert response.status == status
        stack.link.server.full = True
        async with stack.client.post("/v1/completions", json=BODY) as response:
            assert response.status == 503


def ask_and_never_read(stack: Stack) -> socket.socket:
    """A client whose buffer is small and soon full."""
    body = json.dumps(BODY | {"max_tokens": 400, "logprobs": 2}).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", stack.gateway.port))
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: %d\r\n\r\n"
    sock.sendall(head % len(body) + body)
    return sock


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text("secret\n")
    return str(path)


async def test_a_client_that_never_reads_gives_back_its_keys_places(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.respond.KEEPALIVE", b": " + b"x" * 100_000 + b"\n\n")
    settings: dict[str, Any] = {
        "api_keys_file": keys,
        "key_concurrency": 2,
        "keepalive_s": 0.01,
        "write_timeout_s": 0.2,
    }
    async with running_stack(**settings) as stack:
        stack.core.hold.clear()
        clients = [ask_and_never_read(stack) for _ in range(2)]
        await until(lambda: len(stack.core.submits) == 2)
        await until(lambda: len(stack.gateway.sessions) == 0)
        await until(lambda: len(stack.core.cancels) == 2)
        assert stack.gateway.api.api_keys.budget("Bearer secret").under_way == 0
        for client in clients:
            client.close()


async def test_nor_does_one_that_reads_slowly_keep_them_past_the_deadline(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads a little, again and again, so it is not gone; and nothing else ends its session."""
    monkeypatch.setattr("services.gateway.respond.KEEPALIVE", b": " + b"x" * 100_000 + b"\n\n")
    async with running_stack(api_keys_file=keys) as stack:
        assert stack.gateway.api.timeouts == StreamTimeouts(10.0, 600.0 + OVERDUE_S + 30.0)
        object.__setattr__(stack.gateway.api, "timeouts", StreamTimeouts(0.01, 0.5))
        stack.core.hold.clear()
        loop = asyncio.get_running_loop()
        with ask_and_never_read(stack) as client:
            client.setblocking(False)
            await until(lambda: stack.core.submits)
            budget = stack.gateway.api.api_keys.budget("Bearer secret")
            assert budget.under_way == 1
            async with asyncio.timeout(10):
                while budget.under_way:
                    await loop.sock_recv(client, 100_000)
                    await asyncio.sleep(0.01)
        await until(lambda: stack.core.cancels)
        requests = {"endpoint": "/v1/completions", "status": "499"}
        assert stack.gateway._registry.get_sample_value("outrider_gateway_requests_total", requests) == 1
