"""A streaming client of an OpenAI-compatible endpoint that records when tokens arrive."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from loadgen.client.completion_event import EventError, apply_event, body_error
from loadgen.client.sse import Event, EventDecoder, SseError
from loadgen.request import ChatRequest, Record

RETRIED: Final = frozenset({"connect", "http_429", "http_503"})
MAX_PAUSE_S: Final = 30.0
BAD_REQUEST: Final = frozenset({400, 422})  # a server's answer to an unknown field
ERROR_BODY_BYTES: Final = 64 * 1024
BODY_END_S: Final = 1.0  # for a body to end after `[DONE]`, so that its connection can be reused


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error. pause_s: how long to wait before a retry, from Retry-After."""

    status: int
    text: str
    pause_s: float

    def names(self, field: str) -> bool:
        """Whether the endpoint rejects this field of the request."""
        return self.status in BAD_REQUEST and field in self.text


class Client:
    """One connection pool to one endpoint. Use as `async with Client(url) as client`.

    timeout_s: of a whole request; stall_s: without a byte. retries: of a request refused before its first token. plain:
    send only OpenAI's fields. Token counts are always requested (`stream_options.include_usage`), unless the
    endpoint has rejected that field. in_flight: requests in progress, by id.
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
        self.in_flight: dict[str, Record] = {}
        self._on_event, self._retries, self._plain = on_event, retries, plain
        self._send_usage_option = True
        self._ending_bodies: set[asyncio.Task[None]] = set()
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
        for task in self._ending_bodies:
            task.cancel()
        await asyncio.gather(*self._ending_bodies, return_exceptions=True)
        await self._session.close()

    def now(self) -> float:
        """Seconds of the clock of all records: time.perf_counter()."""
        return time.perf_counter()

    async def model(self) -> str:
        """Name of the first model that the endpoint serves. Raises aiohttp.ClientError, ValueError."""
        return str((await self._models())["id"])

    async def is_outrider(self) -> bool:
        """Whether the endpoint is Outrider, whose streams report accepted drafts."""
        return (await self._models()).get("owned_by") == "outrider"

    async def set_policy(self, policy: str, k: int) -> None:
        """Set Outrider's policy. Raises aiohttp.ClientError if it cannot be reached, ValueError if it refuses."""
        payload = {"policy": policy, "k": k, "verifier_threads": 0, "draft_threads": 0}
        async with self._session.post(f"{self._url}/admin/policy", json=payload) as response:
            if response.status >= 400:
                raise ValueError(f"HTTP {response.status}: {body_error(await _error_body(response))[:300]}")

    async def chat(self, request: ChatRequest, scheduled: float | None = None) -> Record:
        """Send one request and read its stream to the end. Errors of the endpoint are in the record, not raised.

        scheduled: when it should have been sent (time.perf_counter()); None: now.
        """
        record = begin(request, scheduled)
        await self.complete(record)
        return record

    async def complete(self, record: Record) -> None:
        """Send the record's request and read its stream into the record, which stays usable after a cancellation."""
        self.in_flight[record.request.id] = record
        try:
            while True:
                pause_s = await self._try(record)
                if record.fault not in RETRIED or record.retries >= self._retries:
                    return
                record.retries += 1
                record.error, record.fault, record.ended = "", "", 0.0
                await asyncio.sleep(min(pause_s or 0.1 * 2**record.retries, MAX_PAUSE_S))
        except asyncio.CancelledError:
            record.fail("stopped", "the run ended first")
            raise
        finally:
            record.ended = record.ended or time.perf_counter()
            self.in_flight.pop(record.request.id, None)

    async def chat_all(self, requests: list[ChatRequest]) -> list[Record]:
        """Send all requests at once. Records are in the order of the requests."""
        return list(await asyncio.gather(*(self.chat(request) for request in requests)))

    async def _models(self) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            found = await response.json()
        models = found.get("data") if isinstance(found, dict) else None
        if not (isinstance(models, list) and models and isinstance(models[0], dict) and "id" in models[0]):
            raise ValueError("the answer is not a list of models with an `id` each")
        model: dict[str, Any] = models[0]
        return model

    async def _try(self, record: Record) -> float:
        """One attempt. Returns how many seconds to wait before a retry, 0 if the endpoint does not say."""
        try:
            return await self._stream(record)
        except aiohttp.SocketTimeoutError as error:
            record.fail("stall" if record.chunks else "timeout", f"no data arrived: {error}")
        except TimeoutError:
            record.fail("timeout", "the request took longer than its time limit")
        except aiohttp.ClientConnectorError as error:
            record.fail("connect", str(error))
        except (aiohttp.ClientError, ConnectionError) as error:
            record.fail("cut", f"{type(error).__name__}: {error}")
        except (SseError, EventError) as error:
            record.fail("garbage", str(error))
        except Exception as error:  # it ends this request only
            record.fail("internal", f"{type(error).__name__}: {error}")
        return 0.0

    async def _stream(self, record: Record) -> float:
        """Post the request, and again without `stream_options` if the endpoint rejects that field."""
        with_usage = self._send_usage_option
        refusal = await self._post(record, with_usage)
        if refusal and with_usage and refusal.names("stream_options"):
            self._send_usage_option = False
            refusal = await self._post(record, with_usage=False)
        if refusal is None:
            return 0.0
        record.fail(f"http_{refusal.status}", f"HTTP {refusal.status}: {refusal.text[:300]}")
        return refusal.pause_s

    async def _post(self, record: Record, with_usage: bool) -> Refusal | None:
        path = "/v1/completions" if record.request.raw else "/v1/chat/completions"
        payload = body(record.request, self._plain, with_usage)
        response = await self._session.post(self._url + path, json=payload)
        refusal, read = None, False
        try:
            if response.status == 200:
                await self._read(record, response)
            else:
                pause_s = _seconds(response.headers.get("Retry-After", ""))
                refusal = Refusal(response.status, await _error_body(response), pause_s)
            read = True
        finally:
            self._release(response, wait=read)
        return refusal

    async def _read(self, record: Record, response: aiohttp.ClientResponse) -> None:
        """Read events up to the one that ends the stream. The request ends there, whatever the server sends then."""
        decoder, ended = EventDecoder(), False
        async for data in response.content.iter_any():
            if ended := self._apply(record, decoder.feed(data)):
                break
        record.ended = time.perf_counter()
        if not record.finish and not (ended and record.chunks):
            kind = "cut" if record.chunks else "garbage"
            record.fail(
                kind, f"the stream ended without a finish reason (content type {response.content_type})"
            )

    def _release(self, response: aiohttp.ClientResponse, wait: bool) -> None:
        """Return a connection to the pool. wait: let a body that has not ended yet end in the background."""
        if not wait or response.content.at_eof():
            response.release()  # closes the connection if data is left to read
            return
        task = asyncio.create_task(_read_on(response))
        self._ending_bodies.add(task)
        task.add_done_callback(self._ending_bodies.discard)
        task.add_done_callback(lambda _: response.release())

    def _apply(self, record: Record, events: Iterator[Event]) -> bool:
        """Apply events that arrived together. Returns whether one of them ends the stream."""
        now = time.perf_counter()
        for event in events:
            ended = apply_event(record, event, now)
            if self._on_event:
                self._on_event(record)
            if ended:
                return True
        return False


async def _read_on(response: aiohttp.ClientResponse) -> None:
    """Read to the body's end, for at most BODY_END_S."""
    with suppress(aiohttp.ClientError, OSError, ValueError):  # a TimeoutError is an OSError
        async with asyncio.timeout(BODY_END_S):
            await response.content.readany()


async def _error_body(response: aiohttp.ClientResponse) -> str:
    """The first ERROR_BODY_BYTES of an HTTP error's body."""
    found = b""
    while len(found) < ERROR_BODY_BYTES and (data := await response.content.read(ERROR_BODY_BYTES)):
        found += data
    return found[:ERROR_BODY_BYTES].decode("utf-8", "replace")


def begin(request: ChatRequest, scheduled: float | None = None) -> Record:
    """A record of a request that is sent now; scheduled: None for now."""
    now = time.perf_counter()
    return Record(request, now if scheduled is None else scheduled, now)


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0


def body(request: ChatRequest, plain: bool = False, with_usage: bool = True) -> dict[str, Any]:
    """The request's JSON body. plain: only OpenAI's fields. with_usage: request token counts."""
    extra: dict[str, Any] = {"spans": True}
    if request.device:
        extra["device"] = request.device
    payload: dict[str, Any] = {"messages": [{"role": "user", "content": request.prompt}]}
    if request.raw:
        payload = {"prompt": request.prompt}
    if request.ignore_eos:
        payload["ignore_eos"] = True
    if not plain:
        payload["outrider"] = extra
    if with_usage:
        payload["stream_options"] = {"include_usage": True}
    return payload | {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stream": True,
    }
