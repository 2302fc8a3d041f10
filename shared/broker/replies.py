"""What a server answers, as we take it."""

from collections.abc import Sequence
from typing import Any

from shared.broker.contract import Entry


def entries_of(reply: Any) -> list[Entry]:
    """Of XREAD and XREADGROUP; [] when they timed out."""
    return [
        Entry(text(stream), text(id_), data(pairs))
        for stream, entries in reply or ()
        for id_, pairs in entries
    ]


def data(pairs: Sequence[bytes]) -> bytes:
    """The message of an entry; b"" (no message) when a stranger's entry has no such field."""
    return next((value for field, value in zip(pairs[::2], pairs[1::2], strict=True) if field == b"d"), b"")


def text(value: bytes) -> str:
    """Whatever it is."""
    return value.decode(errors="replace")


def milliseconds(seconds: float) -> int:
    """As commands take them."""
    return round(seconds * 1000)
