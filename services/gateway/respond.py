"""Writes a job's events as an HTTP response: complete, or as server-sent events, one per verdict."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiohttp import web
from pydantic_core import to_json

from services.gateway.admission import Job
from services.gateway.choice import Choice, Piece
from services.gateway.errors import ApiError, unavailable
from services.gateway.intake import Intake
from services.gateway.session import Emitted, Event, Failed
from services.gateway.stream import Stream
from services.gateway.tokenizer import TargetTokenizer
from services.gateway.usage import RequestTimer, Usage

SSE_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies must not buffer chunks
}

KEEPALIVE: Final = b": waiting for the next token\n\n"
LOGPROB_CHARS: Final = 32  # cost of formatting one logprob, in characters of text

REQUEST_ID: Final = web.RequestKey("request_id", str)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StreamTimeouts:
    """keepalive_s: longest silence in a stream. limit_s: limit for the client to read the whole stream."""

    keepalive_s: float
    limit_s: float


class Form(Protocol):
    """Response format of an endpoint."""

    @property
    def prefix(self) -> str:
        """Prefix of response ids."""
        ...

    @property
    def whole_object(self) -> str:
        """Field `object` of a complete response."""
        ...

    @property
    def chunk_object(self) -> str:
        """Field `object` of a stream's chunk."""
        ...

    def whole(self, index: int, piece: Piece) -> dict[str, Any]:
        """One choice of a complete response."""
        ...

    def delta(self, index: int, piece: Piece, first: bool) -> dict[str, Any]:
        """One choice of a stream's chunk."""
        ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """Fields that all responses and chunks of a request share."""

    id: str
    created: int
    model: str
    fingerprint: str

    def json(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A response or chunk with these choices."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


class Responder:
    """Builds the response to one request. usage, timer: its counts and times, complete when it has ended."""

    def __init__(
        self, job: Job, form: Form, envelope: Envelope, tokenizer: TargetTokenizer, began_at: float
    ) -> None:
        self.usage = Usage(prompt_tokens=job.prompt_tokens)
        self.timer = RequestTimer(began_at)
        self._job = job
        self._form = form
        self._envelope = envelope
        self._choices = [Choice(tokenizer, job.stops, request.stop_ids) for request in job.session_requests]

    async def whole(self, events: Stream, intake: Intake) -> web.Response:
        """The complete response. Raises ApiError."""
        pieces = [Piece() for _ in self._choices]
        async for event in events:
            index, piece = self._take(event, events)
            pieces[index].extend(piece)
        cost = sum(len(piece.text) + LOGPROB_CHARS * len(piece.logprobs) for piece in pieces)
        body = await intake.finish(cost * max(1, self._job.logprobs), lambda: self._whole(pieces))
        return web.Response(body=body, content_type="application/json")

    def _whole(self, pieces: list[Piece]) -> bytes:
        choices = [self._form.whole(index, piece) for index, piece in enumerate(pieces)]
        body = self._envelope.json(self._form.whole_object, choices)
        body["usage"] = self.usage.json()
        extras = [self._extra(index, piece, parallel=True) for index, piece in enumerate(pieces)]
        body["outrider"] = extras[0] if len(extras) == 1 else {"choices": extras}
        return to_json(body)

    async def stream(
        self, request: web.Request, events: Stream, timeouts: StreamTimeouts
    ) -> web.StreamResponse:
        """Stream one chunk per verdict. Headers go out before the first chunk, so later errors are sent as events.

        Raises ConnectionResetError when the client has disconnected or reads too slowly.
        """
        response = web.StreamResponse(headers={**SSE_HEADERS, "X-Request-Id": request[REQUEST_ID]})
        try:
            async with asyncio.timeout(timeouts.limit_s):
                await response.prepare(request)
                await self._send(response, events, request[REQUEST_ID], timeouts.keepalive_s)
                await response.write_eof()
        except TimeoutError:
            raise ConnectionResetError("the client reads too slowly") from None
        return response

    async def _send(
        self, response: web.StreamResponse, events: Stream, request_id: str, keepalive_s: float
    ) -> None:
        begun: set[int] = set()
        try:
            while (event := await _next(events, response, keepalive_s)) is not None:
                index, piece = self._take(event, events)
                if not self._worth_sending(piece):
                    continue
                await response.write(self._chunk(index, piece, first=index not in begun))
                begun.add(index)
            await response.write(self._tail())
        except (ConnectionResetError, TimeoutError):  # the client's
            raise
        except Exception as error:
            if not isinstance(error, ApiError):
                log.exception("stream failed", request=request_id)
                error = ApiError(500, "The server had an error while processing the request.")
            await response.write(_sse(error.payload()))

    def _take(self, event: Emitted | Failed, events: Stream) -> tuple[int, Piece]:
        """Feed one event into its choice. Raises ApiError when the session has failed."""
        if isinstance(event, Failed):
            raise failure(event)
        self.timer.tokens(len(event.tokens))
        self.usage.add(event)
        piece = self._choices[event.index].feed(event)
        self.usage.completion_tokens += len(piece.tokens)
        if piece.finish and not event.finish:  # a stop string, which only the gateway sees
            events.cut(event.index, "stop")
        return event.index, piece

    def _worth_sending(self, piece: Piece) -> bool:
        return bool(piece.text or piece.finish or piece.logprobs or self._job.spans)

    def _chunk(self, index: int, piece: Piece, first: bool) -> bytes:
        choice = self._form.delta(index, piece, first)
        body = self._envelope.json(self._form.chunk_object, [choice])
        if self._job.include_usage:  # as OpenAI does: otherwise a stream has no `usage`
            body["usage"] = self.usage.json() if self._job.usage_always else None
        if first or self._job.spans:
            body["outrider"] = self._extra(index, piece, parallel=False)
        return _sse(to_json(body))

    def _tail(self) -> bytes:
        """The last chunk with usage only, if requested, and the end marker."""
        done = b"data: [DONE]\n\n"
        if not self._job.include_usage:
            return done
        body = self._envelope.json(self._form.chunk_object, [])
        body["usage"] = self.usage.json()
        return _sse(to_json(body)) + done

    def _extra(self, index: int, piece: Piece, parallel: bool) -> dict[str, Any]:
        """The `outrider` object: the seed, and with `spans` the token ids and which are accepted drafts."""
        extra: dict[str, Any] = {"seed": self._job.session_requests[index].sampling.seed}
        if self._job.spans:
            extra["tokens"] = piece.tokens
            extra["accepted"] = piece.accepted if parallel else sum(piece.accepted)
            if not parallel:
                extra["accepted_chars"] = piece.accepted_chars
        return extra


def failure(event: Failed) -> ApiError:
    """The HTTP error for a failed session."""
    if event.reason == "deadline":
        # A retry would take as long again, so clients are told not to retry.
        return ApiError(504, event.message, code="deadline", headers={"x-should-retry": "false"})
    if event.reason in ("broker", "draining"):
        return unavailable(event.message)
    return ApiError(500, event.message, code="session_failed")


async def _next(events: Stream, response: web.StreamResponse, keepalive_s: float) -> Event | None:
    """The next event; None at the end. While waiting, sends comments that keep proxies from closing the stream."""
    while True:
        try:
            async with asyncio.timeout(keepalive_s):
                return await anext(events, None)
        except TimeoutError:
            await response.write(KEEPALIVE)


def _sse(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"
