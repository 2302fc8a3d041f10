"""A streaming client of an OpenAI-compatible endpoint that keeps the times of what it sees."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from loadgen.request import ChatRequest, Chunk, Record

RETRIED: Final = frozenset({"connect", "http_429", "http_503"})
LONGEST_PAUSE_S: Final = 30.0


class Client:
    """One connection pool to one endpoint. Use as `async with Client(url) as client`.

    timeout_s: of a whole request; stall_s: without a byte. retries: of requests refused before their first token, only
    if asked for. plain: an endpoint that knows no fields but OpenAI's.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        timeout_s: float = 600.0,
        on_event: Callable[[Record], None] | None = None,
        stall_s: float | None = None,
        retries: int = 0,
        plain: bool = False,
    ) -> None:
        """on_event is called with a request's record after every event of its stream."""
        self.flying: dict[str, Record] = {}  # requests under way by id
        self._on_event, self._retries, self._plain = on_event, retries, plain
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_read=stall_s),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def model(self) -> str:
        """Name of the first model the endpoint serves."""
        return str((await self._models())["id"])

    async def is_outrider(self) -> bool:
        """Whether the endpoint is Outrider's own, and tells what speculation did."""
        return (await self._models()).get("owned_by") == "outrider"

    async def set_policy(self, policy: str, k: int) -> None:
        """Outrider's own endpoint. Raises aiohttp.ClientError when there is none, ValueError with its words."""
        wanted = {"policy": policy, "k": k, "verifier_threads": 0, "draft_threads": 0}
        async with self._session.post(f"{self._url}/admin/policy", json=wanted) as response:
            if response.status == 400:
                raise ValueError((await response.json())["error"]["message"])
            response.raise_for_status()

    async def chat(self, request: ChatRequest, scheduled: float | None = None) -> Record:
        """Send one request and read its stream to the end. Never raises for what the endpoint does: see `error`.

        scheduled: when it should have been sent (time.perf_counter()); None = now.
        """
        record = begin(request, scheduled)
        await self.complete(record)
        return record

    async def complete(self, record: Record) -> None:
        """The same into a record that the caller has already: what was seen is kept when this is cancelled."""
        self.flying[record.request.id] = record
        try:
            while True:
                pause_s = await self._try(record)
                if record.fault not in RETRIED or record.retries >= self._retries:
                    return
                record.retries += 1
                record.error = record.fault = ""
                await asyncio.sleep(min(pause_s or 0.1 * 2**record.retries, LONGEST_PAUSE_S))
        except asyncio.CancelledError:
            _fail(record, "stopped", "the run was over first")
            raise
        finally:
            record.ended = time.perf_counter()
            del self.flying[record.request.id]

    async def chat_all(self, requests: list[ChatRequest]) -> list[Record]:
        """All at once; records in the order of the requests."""
        return list(await asyncio.gather(*(self.chat(request) for request in requests)))

    async def _models(self) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            model: dict[str, Any] = (await response.json())["data"][0]
            return model

    async def _try(self, record: Record) -> float:
        """Once. Returns the seconds the endpoint wants to be left alone for."""
        try:
            return await self._stream(record)
        except aiohttp.SocketTimeoutError as error:
            _fail(record, "stall" if record.chunks else "timeout", f"nothing came: {error}")
        except TimeoutError:
            _fail(record, "timeout", "it took too long")
        except aiohttp.ClientConnectorError as error:
            _fail(record, "connect", str(error))
        except (aiohttp.ClientError, ConnectionError) as error:
            _fail(record, "cut", f"{type(error).__name__}: {error}")
        except (ValueError, TypeError, AttributeError, KeyError) as error:  # whatever else than events came
            _fail(record, "garbage", f"{type(error).__name__}: {error}")
        return 0.0

    async def _stream(self, record: Record) -> float:
        path = "/v1/completions" if record.request.raw else "/v1/chat/completions"
        asked = body(record.request, self._plain)
        async with self._session.post(self._url + path, json=asked) as response:
            if response.status != 200:
                _fail(
                    record,
                    f"http_{response.status}",
                    f"HTTP {response.status}: {(await response.text())[:300]}",
                )
                return _seconds(response.headers.get("Retry-After", ""))
            async for raw in response.content:
                line = raw.strip()
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    take(record, json.loads(line[6:]), time.perf_counter())
                    if self._on_event:
                        self._on_event(record)
        if not record.finish and not record.error:
            _fail(record, "cut" if record.chunks else "garbage", "the stream ended without a finish reason")
        return 0.0


def begin(request: ChatRequest, scheduled: float | None = None) -> Record:
    """A record of a request that is sent now."""
    now = time.perf_counter()
    return Record(request, now if scheduled is None else scheduled, now)


def _fail(record: Record, fault: str, error: str) -> None:
    """The first error counts: what comes after it is its consequence."""
    if not record.error:
        record.fault, record.error = fault, error


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0


def body(request: ChatRequest, plain: bool = False) -> dict[str, Any]:
    """The request as the endpoint takes it. plain: with OpenAI's fields alone."""
    extra: dict[str, Any] = {"spans": True}
    if request.device:
        extra["device"] = request.device
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": request.prompt}]}
    if request.raw:
        asked = {"prompt": request.prompt}
    if request.ignore_eos:
        asked["ignore_eos"] = True
    if not plain:
        asked["outrider"] = extra
    return asked | {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def take(record: Record, event: dict[str, Any], now: float) -> None:
    """Apply one server-sent event to a record."""
    if "error" in event:
        _fail(record, "stream", str(event["error"].get("message", event["error"])))
        return
    usage = event.get("usage") or {}
    record.prompt_tokens = usage.get("prompt_tokens", record.prompt_tokens)
    record.completion_tokens = usage.get("completion_tokens", record.completion_tokens)
    speculative = usage.get("speculative")
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
