"""Converts a server's replies."""

from collections.abc import Sequence
from typing import Any

from shared.broker.contract import Entry


def entries_of(reply: Any) -> list[Entry]:
    """Entries in a reply of XREAD or XREADGROUP; [] after a time-out."""
    return [
        Entry(text(stream), text(id_), data(pairs))
        for stream, entries in reply or ()
        for id_, pairs in entries
    ]


def data(pairs: Sequence[bytes]) -> bytes:
    """The message of an entry; b"" when a foreign entry has no message field."""
    return next((value for field, value in zip(pairs[::2], pairs[1::2], strict=True) if field == b"d"), b"")


def text(value: bytes) -> str:
    """Bytes as text; invalid UTF-8 is replaced."""
    return value.decode(errors="replace")


def milliseconds(seconds: float) -> int:
    """Seconds as whole milliseconds, as commands take them."""
    return round(seconds * 1000)
