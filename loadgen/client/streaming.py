"""A streaming client of an OpenAI-compatible endpoint that keeps the times of what it sees."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from loadgen.client.completion_event import EventError, body_error, take
from loadgen.client.sse import Event, EventDecoder, SseError
from loadgen.request import ChatRequest, Record

RETRIED: Final = frozenset({"connect", "http_429", "http_503"})
LONGEST_PAUSE_S: Final = 30.0
BAD_REQUEST: Final = frozenset({400, 422})  # what a server answers to a field it does not know
ERROR_BODY_BYTES: Final = 64 * 1024
LINGER_S: Final = 1.0  # that a body may take to end after `[DONE]`, for its connection to be used again


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no stream. pause_s: for how long the endpoint wants to be left alone."""

    status: int
    text: str
    pause_s: float

    def is_about(self, field: str) -> bool:
        """Whether it refuses this field of the request."""
        return self.status in BAD_REQUEST and field in self.text


class Client:
    """One connection pool to one endpoint. Use as `async with Client(url) as client`.

    timeout_s: of a whole request; stall_s: without a byte. retries: of requests refused before their first token, only
    if asked for. plain: an endpoint that knows no fields but OpenAI's. Token counts are always asked for
    (`stream_options.include_usage`), unless the endpoint has refused that field.
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
        self._asks_usage = True
        self._lingering: set[asyncio.Task[None]] = set()
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
        for task in self._lingering:
            task.cancel()
        await asyncio.gather(*self._lingering, return_exceptions=True)
        await self._session.close()

    async def model(self) -> str:
        """Name of the first model the endpoint serves. Raises aiohttp.ClientError, ValueError."""
        return str((await self._models())["id"])

    async def is_outrider(self) -> bool:
        """Whether the endpoint is Outrider's own, and tells what speculation did."""
        return (await self._models()).get("owned_by") == "outrider"

    async def set_policy(self, policy: str, k: int) -> None:
        """Outrider's own endpoint. Raises aiohttp.ClientError when it cannot be reached, ValueError with its words."""
        wanted = {"policy": policy, "k": k, "verifier_threads": 0, "draft_threads": 0}
        async with self._session.post(f"{self._url}/admin/policy", json=wanted) as response:
            if response.status >= 400:
                raise ValueError(f"HTTP {response.status}: {body_error(await _error_body(response))[:300]}")

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
                record.error, record.fault, record.ended = "", "", 0.0
                await asyncio.sleep(min(pause_s or 0.1 * 2**record.retries, LONGEST_PAUSE_S))
        except asyncio.CancelledError:
            record.fail("stopped", "the run was over first")
            raise
        finally:
            record.ended = record.ended or time.perf_counter()
            self.flying.pop(record.request.id, None)

    async def chat_all(self, requests: list[ChatRequest]) -> list[Record]:
        """All at once; records in the order of the requests."""
        return list(await asyncio.gather(*(self.chat(request) for request in requests)))

    async def _models(self) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            found = await response.json()
        models = found.get("data") if isinstance(found, dict) else None
        if not (isinstance(models, list) and models and isinstance(models[0], dict) and "id" in models[0]):
            raise ValueError("no list of models with an `id` each")
        model: dict[str, Any] = models[0]
        return model

    async def _try(self, record: Record) -> float:
        """Once. Returns the seconds the endpoint wants to be left alone for."""
        try:
            return await self._stream(record)
        except aiohttp.SocketTimeoutError as error:
            record.fail("stall" if record.chunks else "timeout", f"nothing came: {error}")
        except TimeoutError:
            record.fail("timeout", "it took too long")
        except aiohttp.ClientConnectorError as error:
            record.fail("connect", str(error))
        except (aiohttp.ClientError, ConnectionError) as error:
            record.fail("cut", f"{type(error).__name__}: {error}")
        except (SseError, EventError) as error:  # whatever else than events came
            record.fail("garbage", str(error))
        except Exception as error:  # of this request alone: the others go on
            record.fail("internal", f"{type(error).__name__}: {error}")
        return 0.0

    async def _stream(self, record: Record) -> float:
        """Ask, and once more without asking for token counts if the endpoint refuses that field."""
        with_usage = self._asks_usage
        refusal = await self._ask(record, with_usage)
        if refusal and with_usage and refusal.is_about("stream_options"):
            self._asks_usage = False
            refusal = await self._ask(record, with_usage=False)
        if refusal is None:
            return 0.0
        record.fail(f"http_{refusal.status}", f"HTTP {refusal.status}: {refusal.text[:300]}")
        return refusal.pause_s

    async def _ask(self, record: Record, with_usage: bool) -> Refusal | None:
        path = "/v1/completions" if record.request.raw else "/v1/chat/completions"
        asked = body(record.request, self._plain, with_usage)
        response = await self._session.post(self._url + path, json=asked)
        refusal, read = None, False
        try:
            if response.status == 200:
                await self._read(record, response)
            else:
                pause_s = _seconds(response.headers.get("Retry-After", ""))
                refusal = Refusal(response.status, await _error_body(response), pause_s)
            read = True
        finally:
            self._let_go(response, wait=read)
        return refusal

    async def _read(self, record: Record, response: aiohttp.ClientResponse) -> None:
        """Events up to the one that ends the stream, at which the request ends, whatever the server does then."""
        decoder, over = EventDecoder(), False
        async for data in response.content.iter_any():
            if over := self._take(record, decoder.feed(data)):
                break
        record.ended = time.perf_counter()
        if not record.finish and not (over and record.chunks):
            kind = "cut" if record.chunks else "garbage"
            record.fail(
                kind, f"the stream ended without a finish reason (content type {response.content_type})"
            )

    def _let_go(self, response: aiohttp.ClientResponse, wait: bool) -> None:
        """Give a connection back. wait: beside everything else, for a body that has not quite ended."""
        if not wait or response.content.at_eof():
            response.release()  # closes it where something is left to read
            return
        task = asyncio.create_task(_read_on(response))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)
        task.add_done_callback(lambda _: response.release())

    def _take(self, record: Record, events: Iterator[Event]) -> bool:
        """Events that came together. Returns whether one of them ends the stream."""
        now = time.perf_counter()
        for event in events:
            over = take(record, event, now)
            if self._on_event:
                self._on_event(record)
            if over:
                return True
        return False


async def _read_on(response: aiohttp.ClientResponse) -> None:
    """To the body's end, if it comes in time."""
    with suppress(aiohttp.ClientError, OSError, ValueError):  # a TimeoutError is an OSError
        async with asyncio.timeout(LINGER_S):
            await response.content.readany()


async def _error_body(response: aiohttp.ClientResponse) -> str:
    """The beginning of an answer that is no stream."""
    found = b""
    while len(found) < ERROR_BODY_BYTES and (data := await response.content.read(ERROR_BODY_BYTES)):
        found += data
    return found[:ERROR_BODY_BYTES].decode("utf-8", "replace")


def begin(request: ChatRequest, scheduled: float | None = None) -> Record:
    """A record of a request that is sent now."""
    now = time.perf_counter()
    return Record(request, now if scheduled is None else scheduled, now)


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0


def body(request: ChatRequest, plain: bool = False, with_usage: bool = True) -> dict[str, Any]:
    """The request as the endpoint takes it. plain: with OpenAI's fields alone. with_usage: ask for token counts."""
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
    if with_usage:
        asked["stream_options"] = {"include_usage": True}
    return asked | {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stream": True,
    }
