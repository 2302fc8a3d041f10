"""The reader of event streams, against the examples of the WHATWG standard and any way to split them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.client.sse import Event, EventDecoder, SseError


def decoded(*parts: bytes, max_bytes: int = 1 << 20) -> list[Event]:
    decoder = EventDecoder(max_bytes)
    return [event for part in parts for event in decoder.feed(part)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [Event("first event", id="1"), Event("second event"), Event(" third event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [Event(""), Event("\n")]),
        (b"data:test\n\ndata: test\n\n", [Event("test"), Event("test")]),
        (b"event: add\ndata: 1\n\ndata: 2\n\n", [Event("1", "add"), Event("2")]),
        (b"event: lost\n\ndata: x\n\n", [Event("x")]),
        (b"id: 7\n\ndata: x\n\ndata: y\n\n", [Event("x", id="7"), Event("y", id="7")]),
        (b"id: a\0b\ndata: x\n\n", [Event("x")]),
        (b"data: a: b\nnonsense: 1\n\n", [Event("a: b")]),
        (b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n", [Event("x")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [Event("a"), Event("b"), Event("c")]),
        (b"data: \xff\xe2\x82\n\n", [Event("\ufffd\ufffd")]),
        (b"data: \xe2\x82\xac\x0b\xc2\x85\xe2\x80\xa8\n\n", [Event("€\x0b\x85\u2028")]),
        (b"data: no blank line\n", []),
        (b"", []),
    ],
)
def test_the_standard_s_examples(stream: bytes, events: list[Event]) -> None:
    assert decoded(stream) == events
    assert decoded(*(stream[i : i + 1] for i in range(len(stream)))) == events


def test_an_event_is_yielded_at_its_last_byte() -> None:
    decoder = EventDecoder()
    assert list(decoder.feed(b"data: x\r\n\r")) == [Event("x")]
    assert list(decoder.feed(b"\ndata: y\n\n")) == [Event("y")]


def test_the_time_to_reconnect_is_digits_alone() -> None:
    decoder = EventDecoder()
    for value in (b"x", b"-1", b"1 0", b"", b"9" * 5000):
        assert not list(decoder.feed(b"retry: " + value + b"\n\n"))
        assert decoder.retry_ms is None
    assert not list(decoder.feed(b"retry: 3000\n"))
    assert decoder.retry_ms == 3000


def test_a_line_of_700_kilobytes_is_one_event() -> None:
    text = "x" * 700_000
    stream = f"data: {text}\n\n".encode()
    assert decoded(*(stream[i : i + 65536] for i in range(0, len(stream), 65536))) == [Event(text)]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 100, b": " + b"x" * 100, b"data: 45678\n" * 12])
def test_lines_and_events_have_a_limit(stream: bytes) -> None:
    with pytest.raises(SseError, match="64 bytes"):
        decoded(stream, max_bytes=64)


def test_the_limit_itself_is_allowed() -> None:
    assert decoded(b"data:" + b"x" * 59 + b"\n\n", max_bytes=64) == [Event("x" * 59)]


STREAMS = st.lists(
    st.sampled_from(
        [
            *(b"data", b"data: ", b"id", b"event: ", b"retry: 1", b":", b" ", b"x", b"{}", b"\0"),
            *(b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\xe2", b"\x82\xac"),
        ]
    ),
    max_size=40,
).map(b"".join)


def outcome(parts: list[bytes]) -> tuple[list[Event], bool]:
    """Events, and whether the limit was reached after them."""
    decoder, events = EventDecoder(24), list[Event]()
    try:
        for part in parts:
            for event in decoder.feed(part):
                events.append(event)  # what came before an error counts
    except SseError:
        return events, True
    return events, False


@given(STREAMS, st.lists(st.integers(0, 200), max_size=12))
def test_any_way_to_split_a_stream_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [stream[a:b] for a, b in pairwise(edges)]
    assert outcome(parts) == outcome([stream]) == outcome([stream[i : i + 1] for i in range(len(stream))])


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])), max_size=6))
def test_written_events_are_read_again(texts: list[str]) -> None:
    lines = ("".join(f"data: {line}\n" for line in text.split("\n")) + "\n" for text in texts)
    assert [event.data for event in decoded("".join(lines).encode())] == texts
