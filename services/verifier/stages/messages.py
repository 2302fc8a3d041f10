"""The messages of a pipeline's ring, and their encoding: msgpack of [tag, field, field, …].

Every message runs from rank 0 through all stages and back to rank 0. Links keep the order, so a stage's KV is a
function of the messages that it has read. Slots are those of the KV pool (page · page_tokens + i), the same in every
stage; rank 0 alone gives them out.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Annotated, Any, Final

import msgpack
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]
Parent = Annotated[int, Field(strict=True, ge=-1, lt=1 << 20)]
Line = Annotated[str, Field(strict=True, max_length=2048)]
Blob = Annotated[bytes, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Milliseconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]

MAX_BYTES: Final = 1 << 30  # of one message


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rank is, at the start. All but the device and the times must be equal in all ranks.

    model: digest of the model's files. layer_ms, token_ms: time of one layer for one token, and for each further one; 0
    for rank 0.
    """

    rank: Count
    release: Line
    libraries: Line
    model: Line
    dtype: Line
    kv_tokens: Count
    page_tokens: Count
    device: Line
    layer_ms: Milliseconds = 0.0
    token_ms: Milliseconds = 0.0


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message; each rank adds its facts."""

    facts: tuple[Facts, ...] = ()


@dataclass(frozen=True, slots=True)
class Assign:
    """Which layers each stage loads, by their numbers: stage i those after the layers of the stages before it.

    call_cost: of rank 0's packing, so that all ranks pack alike.
    """

    layers: tuple[Count, ...]
    call_cost: Count


@dataclass(frozen=True, slots=True)
class Ready:
    """Each stage passes it on when its layers are loaded."""


@dataclass(frozen=True, slots=True)
class PieceRow:
    """One row's new tokens: `count`, of which the first `committed` are no draft. See TargetRow for the other fields.

    table: the session's pages.
    """

    start: Count
    count: Count
    committed: Count
    parents: tuple[Parent, ...]
    open: tuple[Parent, ...]
    table: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows to compute. KV of the slots `sources` is copied to `targets` first, all read before one is written.

    hidden: what the layers so far made of the rows' tokens, [tokens, hidden] in the model's dtype. times_us: of each
    stage so far, how long the piece waited there and how long it was computed. dead: tokens that are left out since,
    counted over all rows; `hidden` has the others.
    """

    number: Count
    sources: tuple[Count, ...]
    targets: tuple[Count, ...]
    rows: tuple[PieceRow, ...]
    hidden: Blob
    times_us: tuple[Count, ...] = ()
    dead: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class Dead:
    """Tokens of a piece under way that need not be computed any more. Passed on at once, even during a pass."""

    number: Count
    tokens: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A piece after the last layer. hidden: [tokens, hidden] before the last norm. times_us, dead: see Piece."""

    number: Count
    hidden: Blob
    times_us: tuple[Count, ...] = ()
    dead: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage as it read a beat. Figures since its group's start; running_us: of the pass under way, 0 = idle."""

    rank: Count
    layers: Count
    busy_us: Count
    passes: Count
    tokens: Count
    waiting: Count
    running_us: Count
    sent_bytes: Count = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """Sent by rank 0 at short intervals, passed on at once, also in the middle of a pass: shows that all are there."""

    stamp_us: Count  # of rank 0's clock
    stages: tuple[StageState, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A rank cannot go on. Whoever reads it passes it on and leaves the group.

    final: a setting or a file is wrong, so that another try would end alike.
    """

    rank: Count
    line: Line
    final: Flag = False


@dataclass(frozen=True, slots=True)
class End:
    """Rank 0 stops; a stage passes it on behind its pieces and ends."""


Message = Hello | Assign | Ready | Piece | Result | Beat | Failed | End | Dead


class Tag(IntEnum):
    """First element of a message's array."""

    HELLO = 1
    ASSIGN = 2
    READY = 3
    PIECE = 4
    RESULT = 5
    BEAT = 6
    FAILED = 7
    END = 8
    DEAD = 9


TYPES: Final[dict[Tag, type]] = {
    Tag.HELLO: Hello,
    Tag.ASSIGN: Assign,
    Tag.READY: Ready,
    Tag.PIECE: Piece,
    Tag.RESULT: Result,
    Tag.BEAT: Beat,
    Tag.FAILED: Failed,
    Tag.END: End,
    Tag.DEAD: Dead,
}
_TAGS: Final = {cls: int(tag) for tag, cls in TYPES.items()}
_ADAPTERS: Final[dict[int, TypeAdapter[Any]]] = {int(tag): TypeAdapter(cls) for tag, cls in TYPES.items()}
_NESTED: Final[dict[Tag, int]] = {
    Tag.HELLO: 1,
    Tag.PIECE: 4,
    Tag.BEAT: 2,
}  # where a message holds arrays of others


class RingMessageError(ValueError):
    """Bytes that are no message of the ring; the text says why."""


def encode(message: Message) -> bytes:
    """The message as bytes."""
    data: bytes = msgpack.packb((_TAGS[type(message)], *_values(message)), default=_values)
    return data


def _values(part: Any) -> tuple[Any, ...]:
    return tuple(getattr(part, field.name) for field in fields(part))


def decode(data: bytes) -> Message:
    """The message of these bytes, every field checked. Raises RingMessageError."""
    try:
        array = msgpack.unpackb(data, use_list=False)
        if not isinstance(array, tuple):
            raise ValueError(f"{type(array).__name__} instead of an array")  # of bytes, not of a caller
        tag = Tag(array[0])
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise RingMessageError(f"not a message of the ring: {error}") from None
    if len(array) != 1 + len(fields(TYPES[tag])):
        raise RingMessageError(f"{tag.name} with {len(array) - 1} fields")
    values = list(array[1:])
    if at := _NESTED.get(tag):
        nested = values[at - 1]
        if isinstance(nested, tuple):
            values[at - 1] = tuple(ArgsKwargs(one) if isinstance(one, tuple) else one for one in nested)
    try:
        message: Message = _ADAPTERS[int(tag)].validate_python(ArgsKwargs(tuple(values)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RingMessageError(f"{tag.name} {first['loc']}: {first['msg']}") from None
    return message
