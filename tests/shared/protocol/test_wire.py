"""Encoding of messages: round trips are lossless, and everything that is not a message is refused."""

import math
import tracemalloc
from contextlib import suppress
from dataclasses import fields, replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol import limits, wire
from shared.protocol.messages import (
    MESSAGE_TYPES,
    Cancel,
    Close,
    Draft,
    Grown,
    Heartbeat,
    Message,
    Share,
    StagedBatch,
    StagedRow,
    Submit,
    Tag,
    Tune,
    Verdict,
)
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams
from tests.shared.protocol.strategies import messages, specs

VERSION = bytes([limits.PROTOCOL_VERSION])
DRAFT = Draft("s0-abc", 1, 2, 100, "pi:3", (7, 8), bytes((250, 9)), (-1, 0))
NODES = replace(DRAFT, parents=(-1, 40), first_node=41)
GROWN = Grown("s", 1, 100, 41, (7, 8), (-1, 40), bytes((250, 9)))
ROW = StagedRow("s", 1, 1, 1, 1, 1, "", "")
LAST = limits.MAX_POSITION
GOLDEN = (  # what another version of this code must read and write
    (Cancel("s0-a"), "069302a473302d61a663616e63656c"),
    (Tune(4), "06920b04"),
    (Share(50_000), "06920ecdc350"),
    (DRAFT, "069c05a673302d616263010264a470693a33920708c402fa0992ff000000ff"),
    (NODES, "069c05a673302d616263010264a470693a33920708c402fa0992ff28000029"),
    (StagedBatch(1, 2, (), (GROWN,)), "0695070102909197a17301642992070892ff28c402fa09"),
)


# --- round trip -----------------------------------------------------------------------------------------
@given(messages)
def test_decode_undoes_encode(message: Message) -> None:
    decoded = wire.decode(wire.encode(message))
    assert decoded == message
    assert type(decoded) is type(message)
    assert wire.encode(decoded) == wire.encode(message)
    assert hash(decoded) == hash(message)  # tuples all the way down


@given(specs)
def test_decode_spec_undoes_encode_spec(spec: SessionSpec) -> None:
    assert wire.decode_spec(wire.encode_spec(spec)) == spec


@pytest.mark.parametrize(("message", "data"), GOLDEN)
def test_golden_bytes(message: Message, data: str) -> None:
    assert wire.encode(message).hex() == data
    assert wire.decode(bytes.fromhex(data)) == message


def test_every_message_has_a_tag_of_its_own() -> None:
    assert set(MESSAGE_TYPES) == set(Tag)
    assert len(set(MESSAGE_TYPES.values())) == len(Tag)


@pytest.mark.parametrize("value", [-math.inf, math.inf, -1.0, 0.0, -0.1, 1e300])
def test_logprobs_keep_their_value(value: float) -> None:
    entry = (value, (1, limits.MAX_TOKEN_ID), (value, -0.5))
    assert wire.decode_logprobs(wire.encode_logprobs(entry)) == entry
    verdict = Verdict("s", 1, 1, 4, (9,), 5, logprobs=(entry,))
    assert wire.decode(wire.encode(verdict)) == verdict


def test_logprobs_may_be_no_number() -> None:
    own, ids, values = wire.decode_logprobs(wire.encode_logprobs((math.nan, (), (math.nan,))))
    assert math.isnan(own)
    assert ids == ()
    assert math.isnan(values[0])


def test_whole_numbers_stand_for_floats() -> None:
    """A Lua script packs -1.0 as -1, which is still a valid log-probability."""
    own, _, values = wire.decode_logprobs(msgpack.packb((-1, (3,), (0,))))
    assert (own, values) == (-1.0, (0.0,))
    assert isinstance(own, float)


# --- refusals -------------------------------------------------------------------------------------------
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_a_message(data: bytes) -> None:
    for hostile in (data, VERSION + data):
        refused_or_valid(hostile)


def any_value() -> st.SearchStrategy[object]:
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=8)
        | st.binary(max_size=8)
        | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
        | st.builds(msgpack.Timestamp, st.integers(0, 2**32), st.integers(0, 999_999_999))
    )
    keys = st.text(max_size=4) | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=4) | st.none()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=12,
    )


@given(st.lists(any_value(), max_size=20), st.sampled_from([*map(int, Tag), 0, 99]))
def test_any_msgpack_is_refused_or_a_message(values: list[object], tag: int) -> None:
    refused_or_valid(VERSION + msgpack.packb(values))
    refused_or_valid(VERSION + msgpack.packb([tag, *values]))
    cls = MESSAGE_TYPES.get(Tag(tag)) if tag in list(Tag) else None
    if cls is not None:  # the right number of fields, so that each is looked at
        padded = (values + [None] * 32)[: len(fields(cls))]
        refused_or_valid(VERSION + msgpack.packb([tag, *padded]))


@settings(max_examples=300)
@given(messages, st.data())
def test_a_message_with_one_wrong_byte_is_refused_or_a_message(message: Message, data: st.DataObject) -> None:
    good = bytearray(wire.encode(message))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] = data.draw(st.integers(0, 255))
    refused_or_valid(bytes(good))
    refused_or_valid(bytes(good[:at]))


@given(messages, st.data())
def test_a_message_with_one_wrong_field_is_refused_or_a_message(
    message: Message, data: st.DataObject
) -> None:
    array = msgpack.unpackb(wire.encode(message)[1:])
    array[data.draw(st.integers(0, len(array) - 1))] = data.draw(any_value())
    refused_or_valid(VERSION + msgpack.packb(array))


@given(st.lists(any_value(), max_size=7), st.integers(0, 7))
def test_hostile_nodes_in_a_batch_are_refused_or_a_message(values: list[object], kept: int) -> None:
    """Any fields in place of a few of a good one's."""
    fields_of_one = (grown_array()[:kept] + values)[:7]
    for nested in ([fields_of_one], [grown_array(), fields_of_one], fields_of_one):
        refused_or_valid(VERSION + msgpack.packb([Tag.STAGED, 1, 1, [], nested]))


@given(st.binary(max_size=100))
def test_logs_are_checked_as_well(data: bytes) -> None:
    for decode in (wire.decode_spec, wire.decode_logprobs):
        for hostile in (data, VERSION + data):
            with suppress(wire.WireError):
                decode(hostile)


def refused_or_valid(data: bytes) -> None:
    """Decoding raises only WireError, and what it accepts encodes to the same bytes again."""
    with suppress(wire.WireError):
        message = wire.decode(data)
        assert wire.decode(wire.encode(message)) == message or "nan" in repr(message)


def grown_array() -> list[object]:
    return ["s", 1, 100, 41, [7], [-1], b"a"]


REFUSED = {
    "protocol version missing": b"",
    "protocol version 3": b"\x03" + wire.encode(DRAFT)[1:],
    "not msgpack": VERSION,
    "not msgpack: .*extra": wire.encode(DRAFT) + b"\x00",
    "int instead of an array": VERSION + b"\x07",
    "dict instead of an array": VERSION + b"\x80",
    "unknown message tag NoneType": VERSION + b"\x90",
    "unknown message tag 99": VERSION + msgpack.packb([99]),
    "unknown message tag bool": VERSION + msgpack.packb([True, "s"]),
    "unknown message tag tuple": VERSION + b"\x91" * 900 + b"\x90",
    "not msgpack: .*unhashable": VERSION + b"\x92\x05\x81\x80\x01",
    "Draft with 1 fields; expected 11": VERSION + msgpack.packb([Tag.DRAFT, 1]),
    "StagedBatch.grown: ": VERSION + msgpack.packb([Tag.STAGED, 1, 1, [], 5]),
    r"StagedBatch.grown.0": VERSION + msgpack.packb([Tag.STAGED, 1, 1, [], [5]]),
    r"StagedBatch.grown.1": VERSION + msgpack.packb([Tag.STAGED, 1, 1, [], [grown_array(), ["s"]]]),
    r"StagedBatch with 3 fields; expected 4": VERSION + msgpack.packb([Tag.STAGED, 1, 1, []]),
    "at most 1048576": VERSION + bytes(limits.MAX_MESSAGE_BYTES),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_refused_says_why(reason: str) -> None:
    with pytest.raises(wire.WireError, match=reason):
        wire.decode(REFUSED[reason])


OUT_OF_RANGE: list[tuple[Message, str]] = [
    (replace(DRAFT, tokens=(limits.MAX_TOKEN_ID + 1,)), r"Draft.tokens.0"),
    (replace(DRAFT, tokens=(-1,)), r"Draft.tokens.0"),
    (replace(DRAFT, tokens=(1,) * 65), r"Draft.tokens"),
    (replace(DRAFT, parents=(-2,)), r"Draft.parents.0"),
    (replace(DRAFT, base_len=limits.MAX_POSITION + 1), r"Draft.base_len"),
    (replace(DRAFT, base_len=-1), r"Draft.base_len"),
    (replace(DRAFT, base_len=1.0), r"Draft.base_len"),  # type: ignore[arg-type]
    (replace(DRAFT, base_len=True), r"Draft.base_len"),
    (replace(DRAFT, session=""), r"Draft.session"),
    (replace(DRAFT, session="a\n"), r"Draft.session"),
    (replace(DRAFT, session="or:{s0}:live"), r"Draft.session"),
    (replace(DRAFT, device="pi"), r"Draft.device"),
    (replace(DRAFT, device="pi:1:2"), r"Draft.device"),
    (replace(DRAFT, draft_us=limits.MAX_DURATION_US + 1), r"Draft.draft_us"),
    (Close("s", 1, "done"), r"Close.finish"),  # type: ignore[arg-type]
    (Close("s", 1, "error", "x" * 2049), r"Close.message"),
    (Heartbeat("king", "pi", 1), r"Heartbeat.role"),  # type: ignore[arg-type]
    (Heartbeat("verifier", "a b", 1), r"Heartbeat.name"),
    (Heartbeat("verifier", "a", 1 << 53), r"Heartbeat.generation"),
    (Submit("s", 1, 1, 1, "gw:1", "x" * 65), r"Submit.device"),
    (Submit("s", 1, 1, 1, "gw:1", temperature=math.nan), r"Submit.temperature"),
    (Submit("s", 1, 1, 1, "gw:1", temperature=-0.1), r"Submit.temperature"),
    (replace(DRAFT, survival=bytes(65)), r"Draft.survival"),
    (replace(DRAFT, survival="ab"), r"Draft.survival"),  # type: ignore[arg-type]
    (Tune(0), r"Tune.threads"),
    (Share(0), r"Share.bits_s"),
    (Share(limits.MAX_RATE_BITS_S + 1), r"Share.bits_s"),
    (StagedBatch(1, 1, (StagedRow("s", 1, 1, 1, 1, 65, "", ""),)), r"StagedBatch.rows.0.next_k"),
    (StagedBatch(1, 1, (StagedRow("s", 1, 1, 1, 1, 1, "", ""),) * 513), r"StagedBatch.rows"),
    (StagedBatch(1, 1, (replace(ROW, tree="all"),)), r"StagedBatch.rows.0.tree"),  # type: ignore[arg-type]
    (StagedBatch(1, 1, (replace(ROW, tree=True),)), r"StagedBatch.rows.0.tree"),  # type: ignore[arg-type]
    (replace(NODES, first_node=-2), r"Draft.first_node"),
    (replace(NODES, first_node=LAST + 1), r"Draft.first_node"),
    (replace(NODES, first_node=True), r"Draft.first_node"),
    (replace(NODES, parents=(-1, LAST + 1)), r"Draft.parents.1"),
    (replace(NODES, parents=(0,) * 65), r"Draft.parents"),
    (StagedBatch(1, 1, (), (replace(GROWN, session=""),)), r"StagedBatch.grown.0.session"),
    (StagedBatch(1, 1, (), (GROWN, replace(GROWN, tree=LAST + 1))), r"StagedBatch.grown.1.tree"),
    (StagedBatch(1, 1, (), (replace(GROWN, first_node=-2),)), r"StagedBatch.grown.0.first_node"),
    (StagedBatch(1, 1, (), (replace(GROWN, tokens=(1, -1)),)), r"StagedBatch.grown.0.tokens.1"),
    (StagedBatch(1, 1, (), (replace(GROWN, tokens=(1,) * 65),)), r"StagedBatch.grown.0.tokens"),
    (StagedBatch(1, 1, (), (replace(GROWN, survival=bytes(65)),)), r"StagedBatch.grown.0.survival"),
    (StagedBatch(1, 1, (), (replace(GROWN, survival="a"),)), r"StagedBatch.grown.0.survival"),  # type: ignore[arg-type]
    (StagedBatch(1, 1, (), (GROWN,) * 513), r"StagedBatch.grown"),
    (StagedBatch(1, 1, (), (ROW,)), r"StagedBatch.grown"),  # type: ignore[arg-type]
    (Verdict("s", 1, 1, 1, (), 1, tree=LAST + 1), r"Verdict.tree"),
    (Verdict("s", 1, 1, 1, (), 1, tree=-1), r"Verdict.tree"),
    (Verdict("s", 1, 1, 1, (), 1, tree=False), r"Verdict.tree"),
    (Verdict("s", 1, 1, 1, (), 1, logprobs=((0.5, (1,) * 21, ()),)), r"Verdict.logprobs"),
]


@pytest.mark.parametrize(("message", "where"), OUT_OF_RANGE, ids=lambda value: str(value)[:60])
def test_what_is_out_of_range_names_the_field(message: Message, where: str) -> None:
    with pytest.raises(wire.WireError, match=where):
        wire.decode(wire.encode(message))


def test_decode_as_wants_its_kind() -> None:
    assert wire.decode_as(Draft, wire.encode(DRAFT)) == DRAFT
    with pytest.raises(wire.WireError, match="Cancel instead of Draft"):
        wire.decode_as(Draft, wire.encode(Cancel("s")))


def test_too_large_is_not_encoded() -> None:
    with pytest.raises(wire.WireError, match="Close of 1048"):
        wire.encode(Close("s", 1, "error", "x" * limits.MAX_MESSAGE_BYTES))
    spec = SessionSpec("s", (70_000,) * 300_000, SamplingParams(1, 100_000), 1, (), "gw:1", 1)
    with pytest.raises(wire.WireError, match="SessionSpec of 15"):
        wire.encode_spec(spec)


@pytest.mark.parametrize("claimed", [0xF0000, 300_000, 65_535, 30_000])
@pytest.mark.parametrize("depth", [12, 500, 1000])
def test_claimed_sizes_take_no_memory(claimed: int, depth: int) -> None:
    header = b"\xdd" + claimed.to_bytes(4, "big")
    hostile = VERSION + header * depth
    hostile += b"\x01" * (limits.MAX_MESSAGE_BYTES - len(hostile))
    tracemalloc.start()
    try:
        with pytest.raises(wire.WireError):
            wire.decode(hostile)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
