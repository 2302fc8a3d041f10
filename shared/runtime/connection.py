"""One client's connection around aiohttp's protocol, with limits on sending a request and reading a response."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, cast

REFUSED_S: Final = 1.0  # time for a refused client to send its request, so that it reads the response
_TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_BUSY: Final = (
    b'{"error": {"message": "too many connections", "type": "service_unavailable", "param": null, '
    b'"code": "too_busy"}}'
)
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)
)

# idle: nothing of the next request has arrived. header: a part has. body: it is being handled, and its body is not
# complete. busy: it is being handled, and its body is complete.
Phase = Literal["idle", "header", "body", "busy"]


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """Limits for the clients of one listener.

    connections: open at once. header_s: from a request's first byte, or the connection's beginning, to the end of its
    headers. idle_s: between two requests. write_s: a client that reads nothing for this long is disconnected.
    """

    connections: int
    header_s: float
    idle_s: float
    write_s: float


class Connection(asyncio.Protocol):
    """Passes everything on to `inner`. The listener calls `began` and `ended` around a request's handling.

    changed: called when the phase changes. lost: called once, when the connection is closed.
    count: called with the name of a bound that closed it.
    """

    def __init__(
        self,
        inner: asyncio.Protocol,
        bounds: ConnectionBounds,
        changed: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
        count: Callable[[str], None],
    ) -> None:
        self.phase: Phase = "idle"
        self.transport: asyncio.Transport | None = None
        self._inner = inner
        self._bounds = bounds
        self._changed = changed
        self._lost = lost
        self._count = count
        self._header: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = (
            None  # runs while nothing is handled, or a reader does not keep up
        )
        self._paused = False
        self._unread = 0  # bytes that were waiting to be sent when that timer was set

    # --- asyncio's side -----------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)
        self._header = self._later(self._bounds.header_s, self._header_late)
        self._changed(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.phase == "idle":
            self._enter("header")
            if self._header is None:
                self._header = self._later(self._bounds.header_s, self._header_late)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client reads more slowly than it is sent to."""
        self._paused = True
        self._watch_flush()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._paused = False
        if self.phase in ("body", "busy"):
            self._flush = _stopped(self._flush)
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._header, self._flush = _stopped(self._header), _stopped(self._flush)
        self._inner.connection_lost(exc)
        self._lost(self)
        self.transport = None  # a handler that is cancelled by this ends later

    # --- the listener's side ------------------------------------------------------------------------
    def began(self, whole: bool) -> None:
        """Handling of a request has begun. whole: its body is complete."""
        self._header = _stopped(self._header)
        if not self._paused:
            self._flush = _stopped(self._flush)
        self._enter("busy" if whole else "body")

    def received(self) -> None:
        """The request's body is complete."""
        if self.phase == "body":
            self._enter("busy")

    def ended(self) -> None:
        """The handler has ended. Part of its response may still be unsent."""
        self._enter("idle")
        self._watch_flush()

    @property
    def expendable(self) -> bool:
        """Whether closing it now loses no response, because the client has yet to send data."""
        return (
            self.phase != "busy" and self.transport is not None and not self.transport.get_write_buffer_size()
        )

    def drop(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    # --- bounds -------------------------------------------------------------------------------------
    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if self.transport is not None:
            self._changed(self)

    def _later(self, delay_s: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, then)

    def _header_late(self) -> None:
        self._header = None
        if self.transport is None or self.transport.is_closing():
            return
        self._count("header_timeout")
        if self.phase == "header":
            self.transport.write(_TIMED_OUT)
        self.transport.close()
        self._watch_flush()

    def _watch_flush(self) -> None:
        self._flush = _stopped(self._flush)
        if self.transport is None:
            return
        self._unread = self.transport.get_write_buffer_size()
        self._flush = self._later(self._bounds.write_s, self._flush_late)

    def _flush_late(self) -> None:
        """Close if the client has read nothing since the last check. A handler that goes on writing soon blocks."""
        self._flush = None
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if self.transport is None or not waiting:
            return
        if waiting != self._unread:
            self._watch_flush()
            return
        self._count("write_timeout")
        self.transport.abort()


class Refusal(asyncio.Protocol):
    """Answers any request with 503 and closes. For clients beyond the limit of connections."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._end: asyncio.TimerHandle | None = None
        self._answered = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._end = asyncio.get_running_loop().call_later(REFUSED_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The rest of a request is read, so that the client gets to read the answer."""
        if not self._answered and self._transport is not None:
            self._answered = True
            self._transport.write(_REFUSAL)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._end = _stopped(self._end)
        self._lost()


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, if any. Returns None."""
    if timer is not None:
        timer.cancel()
    return None
