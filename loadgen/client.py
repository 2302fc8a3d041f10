"""A streaming client of an OpenAI-compatible endpoint that keeps the times of what it sees."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from loadgen.request import ChatRequest, Chunk, Record


class Client:
    """One connection pool to one endpoint. Use as `async with Client(url) as client`."""

    def __init__(
        self,
        url: str,
        api_key: str = "",
        timeout_s: float = 600.0,
        on_event: Callable[[Record], None] | None = None,
    ) -> None:
        """on_event is called with a request's record after every event of its stream."""
        self._on_event = on_event
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def model(self) -> str:
        """Name of the first model the endpoint serves."""
        async with self._session.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            return str((await response.json())["data"][0]["id"])

    async def chat(self, request: ChatRequest, scheduled: float | None = None) -> Record:
        """Send one request and read its stream to the end. Never raises for what the endpoint does: see `error`.

        scheduled: when it should have been sent (time.perf_counter()); None = now.
        """
        sent = time.perf_counter()
        record = Record(request, scheduled if scheduled is not None else sent, sent)
        try:
            await self._stream(record)
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            record.error = record.error or f"{type(error).__name__}: {error}"
        record.ended = time.perf_counter()
        return record

    async def chat_all(self, requests: list[ChatRequest]) -> list[Record]:
        """All at once; records in the order of the requests."""
        return list(await asyncio.gather(*(self.chat(request) for request in requests)))

    async def _stream(self, record: Record) -> None:
        path = "/v1/completions" if record.request.raw else "/v1/chat/completions"
        async with self._session.post(self._url + path, json=body(record.request)) as response:
            if response.status != 200:
                record.error = f"HTTP {response.status}: {(await response.text())[:300]}"
                return
            async for raw in response.content:
                line = raw.strip()
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    take(record, json.loads(line[6:]), time.perf_counter())
                    if self._on_event:
                        self._on_event(record)
        if not record.finish and not record.error:
            record.error = "the stream ended without a finish reason"


def body(request: ChatRequest) -> dict[str, Any]:
    """The request as the endpoint takes it."""
    extra: dict[str, Any] = {"spans": True}
    if request.device:
        extra["device"] = request.device
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": request.prompt}]}
    if request.raw:
        asked = {"prompt": request.prompt}
    if request.ignore_eos:
        asked["ignore_eos"] = True
    return asked | {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "outrider": extra,
    }


def take(record: Record, event: dict[str, Any], now: float) -> None:
    """Apply one server-sent event to a record."""
    if "error" in event:
        record.error = str(event["error"].get("message", event["error"]))
        return
    speculative = (event.get("usage") or {}).get("speculative")
    if speculative:
        record.drafted_tokens = speculative["drafted_tokens"]
        record.accepted_tokens = speculative["accepted_tokens"]
        record.rounds = speculative["rounds"]
    detail = event.get("outrider") or {}
    for choice in event.get("choices", []):
        text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
        tokens = tuple(detail.get("tokens", ()))
        if text or tokens:
            record.chunks.append(Chunk(now, text, tokens, int(detail.get("accepted", 0))))
        record.finish = choice.get("finish_reason") or record.finish
