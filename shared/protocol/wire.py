"""Encoding of messages: a version byte, then msgpack of a fixed array [tag, field, field, …].

All bytes from other processes go through `decode`. It checks the size before it builds anything, and every field
against its type's range (pydantic, strict), so that its result is well-formed.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgpack
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs

from shared.protocol import limits
from shared.protocol.messages import MESSAGE_TYPES, Grown, Message, StagedBatch, StagedRow, Tag, TokenLogprobs
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams

M = TypeVar("M")
Values = Callable[[Any], tuple[Any, ...]]


class WireError(ValueError):
    """Bytes that are not a message of this protocol; the text says why."""


def _reader(cls: type) -> Values:
    names = [field.name for field in fields(cls)]
    values = attrgetter(*names)
    return values if len(names) > 1 else lambda message: (values(message),)


_VERSION: Final = bytes([limits.PROTOCOL_VERSION])
_TAGS: Final[Mapping[type, int]] = {cls: int(tag) for tag, cls in MESSAGE_TYPES.items()}
_ADAPTERS: Final[Mapping[int, TypeAdapter[Any]]] = {
    int(tag): TypeAdapter(cls) for tag, cls in MESSAGE_TYPES.items()
}
_ARITY: Final[Mapping[int, int]] = {int(tag): len(fields(cls)) for tag, cls in MESSAGE_TYPES.items()}
_VALUES: Final[Mapping[type, Values]] = {
    cls: _reader(cls) for cls in (*MESSAGE_TYPES.values(), StagedRow, Grown, SessionSpec, SamplingParams)
}
_NESTED: Final[Mapping[str, type]] = {"rows": StagedRow, "grown": Grown}  # in a StagedBatch
_NESTED_AT: Final = [1 + [f.name for f in fields(StagedBatch)].index(name) for name in _NESTED]
_STAGED: Final = _TAGS[StagedBatch]
_SPEC: Final = TypeAdapter(SessionSpec)
_LOGPROBS: Final = TypeAdapter(TokenLogprobs)


def encode(message: Message) -> bytes:
    """Encode a message. Raises WireError when it is larger than MAX_MESSAGE_BYTES."""
    return _pack((_TAGS[type(message)], *_values(message)), message)


class _Carried(bytes):
    """An encoded message together with the message."""

    message: Message


def encode_carried(message: Message) -> bytes:
    """As `encode`, but `decode` of the result is the message itself, unchecked: for simulations, in one process."""
    data = _Carried(encode(message))
    data.message = message
    return data


def decode(data: bytes) -> Message:
    """Decode untrusted bytes to a message. Raises only WireError."""
    if type(data) is _Carried:
        return data.message
    array = _unpack(data)
    tag = array[0] if array else None
    if type(tag) is not int or tag not in _ADAPTERS:  # no repr(tag): it may be nested a thousand levels deep
        raise WireError(f"unknown message tag {tag if type(tag) is int else type(tag).__name__}")
    cls = MESSAGE_TYPES[Tag(tag)]
    if len(array) != _ARITY[tag] + 1:
        raise WireError(f"{cls.__name__} with {len(array) - 1} fields; expected {_ARITY[tag]}")
    if tag == _STAGED:
        for at in _NESTED_AT:
            array = (*array[:at], _arguments(array[at]), *array[at + 1 :])
    message: Message = _check(_ADAPTERS[tag], cls, array[1:])
    return message


def decode_as(kind: type[M], data: bytes) -> M:
    """Decode untrusted bytes to a message of this type. Raises only WireError."""
    message = decode(data)
    if not isinstance(message, kind):
        raise WireError(f"{type(message).__name__} instead of {kind.__name__}")
    return message


def encode_spec(spec: SessionSpec) -> bytes:
    """Encode the gateway's part of a session log. Raises WireError when it is larger than MAX_MESSAGE_BYTES."""
    return _pack(_values(spec), spec)


def decode_spec(data: bytes) -> SessionSpec:
    """Inverse of `encode_spec`. Raises WireError."""
    array = _unpack(data)
    at = [f.name for f in fields(SessionSpec)].index("sampling")
    if len(array) != len(fields(SessionSpec)) or not isinstance(array[at], tuple):
        raise WireError("not a session log")
    args = (*array[:at], ArgsKwargs(array[at]), *array[at + 1 :])
    spec: SessionSpec = _check(_SPEC, SessionSpec, args)
    return spec


def encode_logprobs(entry: TokenLogprobs) -> bytes:
    """Encode one committed token's log-probabilities for the log."""
    return bytes(msgpack.packb(entry))


def decode_logprobs(data: bytes) -> TokenLogprobs:
    """Inverse of `encode_logprobs`. Raises WireError."""
    try:
        entry: TokenLogprobs = _LOGPROBS.validate_python(msgpack.unpackb(data, use_list=False))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"log-probabilities: {error}"[:300]) from None
    return entry


def _values(message: Any) -> tuple[Any, ...]:
    return _VALUES[type(message)](message)


_packer: Final = msgpack.Packer(default=_values)  # for one thread; to make one takes longer than to use it


def _pack(array: tuple[Any, ...], source: Any) -> bytes:
    data: bytes = _VERSION + _packer.pack(array)
    if len(data) > limits.MAX_MESSAGE_BYTES:
        raise WireError(f"{type(source).__name__} of {len(data)} bytes; at most {limits.MAX_MESSAGE_BYTES}")
    return data


def _unpack(data: bytes) -> tuple[Any, ...]:
    if len(data) > limits.MAX_MESSAGE_BYTES:
        raise WireError(f"message of {len(data)} bytes; at most {limits.MAX_MESSAGE_BYTES}")
    if data[:1] != _VERSION:
        raise WireError(
            f"protocol version {data[0] if data else 'missing'}; this is {limits.PROTOCOL_VERSION}"
        )
    try:
        array = msgpack.unpackb(data[1:], use_list=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        # TypeError: a map whose key is a map
        raise WireError(f"not msgpack: {str(error) or type(error).__name__}"[:300]) from None
    if not isinstance(array, tuple):
        raise WireError(f"{type(array).__name__} instead of an array")
    return array


def _arguments(nested: Any) -> Any:
    """Arrays in an array as constructor arguments of what they stand for."""
    if not isinstance(nested, tuple):
        return nested
    return tuple(ArgsKwargs(one) if isinstance(one, tuple) else one for one in nested)


def _check(adapter: TypeAdapter[M], cls: type, array: tuple[Any, ...]) -> M:
    try:
        return adapter.validate_python(ArgsKwargs(array))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise WireError(f"{cls.__name__}{_path(cls, first['loc'])}: {first['msg']}"[:300]) from None


def _path(cls: type, place: tuple[int | str, ...]) -> str:
    """Path of a field in a message with the fields' names, which pydantic reports as numbers."""
    if not place or not isinstance(place[0], int):
        return ""
    name = fields(cls)[place[0]].name
    if cls is StagedBatch and name in _NESTED and len(place) > 2:
        return f".{name}.{place[1]}{_path(_NESTED[name], place[2:])}"
    return ".".join(["", name, *map(str, place[1:])])
