"""Messages of the ring survive their encoding; bytes that are none are refused, whatever they are."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.stages.messages import (
    TYPES,
    Assign,
    Beat,
    Dead,
    End,
    Failed,
    Hello,
    Message,
    Piece,
    PieceRow,
    Ready,
    Result,
    RingMessageError,
    StageState,
    Tag,
    decode,
    encode,
)
from tests.services.verifier.stages.rings import facts

ALL: list[Message] = [
    Hello((facts(0), facts(1, layer_ms=2.5))),
    Assign((9, 7), 300),
    Ready(),
    Piece(
        3,
        (1, 2),
        (3, 4),
        (PieceRow(5, 3, 0, (1,), (-1, 0), (7,)), PieceRow(0, 1, 1, (), (), (2,))),
        b"\x00\xff",
    ),
    Result(3, b"values", (4, 5), (0, 2)),
    Dead(4, (0, 3)),
    Beat(12, (StageState(1, 9, 5, 6, 7, 8, 0),)),
    Failed(2, "out of memory"),
    Failed(2, "another dtype", final=True),
    End(),
]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.text(), st.binary()
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.one_of(st.text(), st.binary()), inner, max_size=3)
    ),
    max_leaves=20,
)


def refused_or_whole(data: bytes) -> None:
    """Either an error of its own kind, or a message that is encoded alike."""
    try:
        message = decode(data)
    except RingMessageError:
        return
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_there_and_back(message: Message) -> None:
    assert decode(encode(message)) == message


def test_every_kind_is_tried() -> None:
    assert {type(message) for message in ALL} == set(TYPES.values())
    assert set(TYPES) == set(Tag)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    refused_or_whole(data)


@settings(deadline=None)
@given(TREES)
def test_any_values(tree: Any) -> None:
    refused_or_whole(msgpack.packb(tree))


@settings(deadline=None)
@given(st.sampled_from(list(Tag)), st.lists(TREES, max_size=6))
def test_any_fields(tag: Tag, values: list[Any]) -> None:
    refused_or_whole(msgpack.packb([int(tag), *values]))


@settings(deadline=None)
@given(st.sampled_from(ALL), st.data())
def test_a_message_with_another_value_in_a_field(message: Message, data: st.DataObject) -> None:
    array = list(msgpack.unpackb(encode(message), use_list=False))
    if len(array) > 1:
        array[data.draw(st.integers(1, len(array) - 1))] = data.draw(TREES)
    refused_or_whole(msgpack.packb(array))


@settings(deadline=None)
@given(st.sampled_from(ALL), st.data())
def test_a_message_with_other_bytes(message: Message, data: st.DataObject) -> None:
    changed = bytearray(encode(message))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    refused_or_whole(bytes(changed[: data.draw(st.integers(0, len(changed)))]))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        ([99], "not a message"),
        ({0: 8}, "not a message"),
        ([int(Tag.END), 1], "END with 1 fields"),
        ([int(Tag.ASSIGN), [1, -1], 1], "ASSIGN"),
        ([int(Tag.RESULT), 1, "text"], "RESULT"),
        ([int(Tag.FAILED), 1, "x" * 2049, False], "FAILED"),
        ([int(Tag.HELLO), [[1]]], "HELLO"),
    ],
)
def test_the_refusal_names_what_is_wrong(array: Any, why: str) -> None:
    with pytest.raises(RingMessageError, match=why):
        decode(msgpack.packb(array))
