"""Decodes server-sent events from bytes, as the WHATWG standard defines event streams. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_EVENT_BYTES: Final = 16 * 2**20
MAX_RETRY_DIGITS: Final = 15
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class SseError(ValueError):
    """A line or an event of a stream exceeds the limit."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. type: "message" unless the stream sets another; id: the last one that the stream set."""

    data: str
    type: str = "message"
    id: str = ""


class EventDecoder:
    """Takes bytes, split anywhere, and yields every event at the blank line that ends it.

    An event without a blank line at the end of the stream is dropped. max_bytes limits every line, and the data of
    every event. retry_ms: the reconnection time that the stream set, None if it set none.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self.retry_ms: int | None = None
        self._max_bytes = max_bytes
        self._line = bytearray()  # incomplete
        self._after_cr = False  # then a line feed that comes next belongs to the same line end
        self._at_start = True
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._type = b""
        self._id = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that these bytes complete; consume all of them before feeding more. Raises SseError."""
        if not data:
            return
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        *lines, rest = _LINE_END.split(data) if b"\r" in data else data.split(b"\n")
        for part in lines:
            self._extend_line(part)
            line, self._line = bytes(self._line), bytearray()
            if (event := self._interpret(line)) is not None:
                yield event
        self._extend_line(rest)

    def _extend_line(self, part: bytes) -> None:
        if len(self._line) + len(part) > self._max_bytes:
            raise SseError(f"a line of the event stream is longer than {self._max_bytes} bytes")
        self._line += part

    def _interpret(self, line: bytes) -> Event | None:
        """One complete line. Comments (lines that begin with a colon) and unknown fields are ignored."""
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data_bytes += len(value) + 1
                if self._data_bytes > self._max_bytes + 1:
                    raise SseError(f"an event of the stream is larger than {self._max_bytes} bytes")
                self._data.append(value)
            case b"event":
                self._type = value
            case b"id" if b"\0" not in value:
                self._id = value
            case b"retry" if value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Event | None:
        """The event that a blank line ends; None if it has no data field."""
        lines, kind = self._data, self._type
        self._data, self._data_bytes, self._type = [], 0, b""
        if not lines:
            return None
        return Event(_text(b"\n".join(lines)), _text(kind) or "message", _text(self._id))


def _text(data: bytes) -> str:
    """Decoded as the standard demands: invalid UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")
