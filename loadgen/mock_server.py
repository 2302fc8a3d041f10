"""A deterministic OpenAI-compatible server with a number of workers, for tests of load generators.

Requests are served first come, first served, `workers` at a time. Each takes service_s: its tokens come at equal
intervals, the last at the end. When a worker becomes free is computed, not waited for, so the queue is exactly that of
queueing theory, whatever else this machine does. Faults are injected by the number of the request.
"""

import asyncio
import heapq
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from aiohttp import web

Fault = Literal["503", "429", "cut", "garbage", "stall", "error"]
FAULTS: Final = ("503", "429", "cut", "garbage", "stall", "error")
STALLED_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Mock:
    """Settings of the server.

    exponential: service times are random with mean service_s. burst: tokens per event. faults: by N; every N-th
    request has that fault.
    """

    workers: int = 1
    service_s: float = 0.1
    exponential: bool = False
    tokens: int = 4
    burst: int = 1
    api_key: str = ""
    seed: int = 1
    faults: Mapping[int, Fault] = field(default_factory=dict)


def application(mock: Mock) -> web.Application:
    """The server's aiohttp application."""
    server = _Server(mock)
    app = web.Application()
    app.router.add_get("/health", server.health)  # some load generators check it first
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/v1/completions", server.complete)
    app.router.add_post("/v1/chat/completions", server.complete)
    return app


class _Server:
    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._free_at = [0.0] * mock.workers  # a heap of times of the loop's clock
        self._rng = np.random.default_rng(mock.seed)
        self._seen = 0

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        mock = self._mock
        if mock.api_key and request.headers.get("Authorization") != f"Bearer {mock.api_key}":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        body = await request.json()
        self._seen += 1
        fault = next((fault for every, fault in mock.faults.items() if self._seen % every == 0), None)
        if fault in ("429", "503"):
            headers = {"Retry-After": "1"}
            return web.json_response({"error": {"message": "busy"}}, status=int(fault), headers=headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        tokens = min(int(body.get("max_tokens", mock.tokens)), mock.tokens)
        service_s = self._rng.exponential(mock.service_s) if mock.exponential else mock.service_s
        began = max(asyncio.get_running_loop().time(), self._free_at[0])
        heapq.heapreplace(self._free_at, began + service_s)
        with suppress(ConnectionResetError):  # the client has disconnected
            await response.prepare(request)
            await self._stream(request, response, body, tokens, began, service_s, fault)
        return response

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        body: Mapping[str, Any],
        tokens: int,
        began: float,
        service_s: float,
        fault: Fault | None,
    ) -> None:
        clock: Callable[[], float] = asyncio.get_running_loop().time
        chat = "messages" in body
        for first in range(0, tokens, self._mock.burst):
            sent = min(first + self._mock.burst, tokens)
            await asyncio.sleep(max(0.0, began + service_s * sent / tokens - clock()))
            if fault and sent * 2 >= tokens:
                await _break(request, response, fault)
                return
            text = "".join(f" word{number}" for number in range(first, sent))
            await response.write(_event([_choice(chat, text, "length" if sent == tokens else None)], None))
        usage = {"prompt_tokens": _prompt_tokens(body), "completion_tokens": tokens}
        await response.write(_event([], usage) + b"data: [DONE]\n\n")


async def _break(request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
    if fault == "stall":
        await asyncio.sleep(STALLED_S)
    elif fault == "garbage":
        await response.write(b"data: {not json\n\n")
    elif fault == "error":
        await response.write(b'data: {"error": {"message": "the model fell over"}}\n\n')
    elif fault == "cut":
        await response.write(b'data: {"choices": [{"text": "hal')
        if request.transport:
            request.transport.abort()


def _choice(chat: bool, text: str, finish: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
    return {"index": 0, "finish_reason": finish} | content


def _event(choices: list[dict[str, Any]], usage: Mapping[str, int] | None) -> bytes:
    return f"data: {json.dumps({'model': 'mock', 'choices': choices, 'usage': usage})}\n\n".encode()


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    """Words of the prompt, or its token ids."""
    prompt = body.get("prompt") or " ".join(str(m.get("content", "")) for m in body.get("messages", ()))
    return len(prompt) if isinstance(prompt, list) else len(str(prompt).split())
