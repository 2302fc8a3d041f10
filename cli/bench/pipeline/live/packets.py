"""What goes over the links of a live pipeline, and its encoding: msgpack of [tag, field, …] in a Result message.

A packet has the time at which it was posted, on the clock that all processes of a machine share.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from services.verifier.stages.link import LinkBroken
from services.verifier.stages.messages import Result
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Pass


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows on their way. hidden: [rows, ROW_NUMBERS] float16 as bytes; empty on the first link, which has ids alone.

    held: in lock-step; a stage keeps it until the next Turn. Each stage sends one a turn, with rows or without.
    """

    rows: tuple[Row, ...]
    hidden: bytes = b""
    held: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """The node `root` of a user is the last committed token: rows that are not below it are dead."""

    user: int
    root: int


@dataclass(frozen=True, slots=True)
class Turn:
    """In lock-step, from rank 0 to each stage: compute the piece that you hold and send it on."""


@dataclass(frozen=True, slots=True)
class TurnOver:
    """In lock-step, from each stage to rank 0: it has sent on what it held."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Passed on around the ring, to measure it."""


@dataclass(frozen=True, slots=True)
class Report:
    """Behind the last piece of a run: each stage adds its passes and what it sent, and forgets them and all rows."""

    passes: tuple[Pass, ...] = ()
    messages: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """The processes end."""


Packet = Piece | Decided | Turn | TurnOver | Probe | Report | End
TAGS: Final[dict[type[Any], int]] = {Piece: 1, Decided: 2, Turn: 3, TurnOver: 4, Report: 5, End: 6, Probe: 7}


def pack(packet: Packet, posted_s: float) -> Result:
    """The packet as a message of the ring. posted_s: on the loop's clock."""
    fields: tuple[object, ...] = ()
    match packet:
        case Piece():
            fields = (packet.rows, packet.hidden, packet.held)
        case Decided():
            fields = (packet.user, packet.root)
        case Report():
            fields = (packet.passes, packet.messages, packet.bytes)
    return Result(round(1e6 * posted_s), msgpack.packb((TAGS[type(packet)], *fields)))


def unpack(message: object) -> tuple[Packet, float]:
    """The packet of a message, and when it was posted in s. Raises LinkBroken for another message."""
    if not isinstance(message, Result):
        raise LinkBroken(f"a {type(message).__name__} is no packet of a live pipeline")
    try:
        tag, *fields = msgpack.unpackb(message.hidden, use_list=False)
        return _packet(tag, fields), message.number / 1e6
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise LinkBroken(f"not a packet of a live pipeline: {error}") from None


def _packet(tag: int, fields: list[Any]) -> Packet:
    kind = next((kind for kind, known in TAGS.items() if known == tag), None)
    if kind is None:
        raise ValueError(f"tag {tag}")
    found: Packet = kind(*fields)
    if isinstance(found, Piece):
        return Piece(tuple(Row(*row) for row in found.rows), found.hidden, found.held)
    if isinstance(found, Report):
        return Report(tuple(Pass(*one) for one in found.passes), found.messages, found.bytes)
    return found
