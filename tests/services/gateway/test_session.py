"""Verdicts are applied by absolute position: repeated, overlapping, late and missing ones."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.session import Emitted, Event, Failed, GatewaySession
from services.gateway.usage import Usage
from shared.protocol.messages import Close, Verdict
from shared.protocol.session import SessionHead, SessionLog, SessionSpec
from shared.speculative.params import SamplingParams

PROMPT = (1, 2, 3)
TEXT = tuple(range(10, 30))
LOGPROBS = tuple((-float(token), (token,), (-float(token),)) for token in TEXT)


def session(logprobs: int = -1) -> tuple[GatewaySession, list[Event]]:
    events: list[Event] = []
    spec = SessionSpec("s0-a", PROMPT, SamplingParams(0, 100), 64, (), "gateway:1", 1000, logprobs)
    return GatewaySession(0, spec, 10.0, events.append), events


def verdict(start: int, end: int, **more: Any) -> Verdict:
    """Tokens TEXT[start:end]."""
    base = len(PROMPT) + start
    return Verdict("s0-a", 1, 1, base, TEXT[start:end], base + end - start, **more)


def log(committed: int, finish: Any = "") -> SessionLog:
    own, _ = session()
    head = SessionHead("s0-a", len(PROMPT), 64, "gateway:1", "", 1000, 1, "v", "", committed, finish)
    return SessionLog(own.spec, head, TEXT[:committed], LOGPROBS[:committed])


def tokens(events: list[Event]) -> tuple[int, ...]:
    return tuple(token for event in events if isinstance(event, Emitted) for token in event.tokens)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 6)), max_size=40), st.randoms())
def test_any_verdicts_in_any_order_give_the_text(pieces: list[tuple[int, int]], random: Any) -> None:
    own, events = session()
    for start, count in pieces:
        if not own.apply(verdict(start, min(start + count, len(TEXT)))):
            own.catch_up(log(max(start, random.randint(start, len(TEXT)))))
        have = tokens(events)
        assert have == TEXT[: len(have)]
    own.catch_up(log(len(TEXT), "length"))
    assert tokens(events) == TEXT
    assert own.finished


def test_an_overlap_keeps_the_accepted_part_that_is_new() -> None:
    own, events = session()
    own.apply(verdict(0, 2))
    own.apply(verdict(0, 5, drafted=4, accepted=4))
    assert events[-1] == Emitted(0, TEXT[2:5], drafted=4, accepted=2)


def test_what_the_core_drafted_is_told_apart() -> None:
    own, events = session()
    own.apply(verdict(0, 2))
    own.apply(verdict(0, 5, fused_drafted=4, fused_accepted=4))
    (*_, emitted) = events
    assert emitted == Emitted(0, TEXT[2:5], fused_drafted=4, fused_accepted=2)
    usage = Usage()
    usage.add(emitted)
    assert usage.json()["speculative"] == {
        "drafted_tokens": 0,
        "accepted_tokens": 0,
        "rounds": 0,
        "tau": None,
        "fused_drafted_tokens": 4,
        "fused_accepted_tokens": 2,
    }


def test_a_repeat_is_nothing() -> None:
    own, events = session()
    own.apply(verdict(0, 3, drafted=3, accepted=2))
    own.apply(verdict(0, 3, drafted=3, accepted=2))
    assert len(events) == 1


def test_a_gap_before_or_in_a_verdict_is_told() -> None:
    own, events = session()
    assert not own.apply(verdict(1, 3))
    too_large_to_send = Verdict("s0-a", 1, 1, len(PROMPT), (), len(PROMPT) + 9)
    assert not own.apply(too_large_to_send)
    assert events == []


def test_missing_logprobs_are_a_gap() -> None:
    own, events = session(logprobs=1)
    assert not own.apply(verdict(0, 2))
    own.catch_up(log(2))
    assert events == [Emitted(0, TEXT[:2], LOGPROBS[:2])]


def test_nothing_follows_a_finish() -> None:
    own, events = session()
    own.apply(verdict(0, 2, finish="stop"))
    own.apply(verdict(2, 4))
    own.close(Close("s0-a", 1, "error", "late"))
    own.fail("broker", "later")
    assert events == [Emitted(0, TEXT[:2], finish="stop")]


def test_other_ends_fail_after_their_tokens() -> None:
    own, events = session()
    own.apply(verdict(0, 2, finish="deadline"))
    assert events[0] == Emitted(0, TEXT[:2])
    assert isinstance(events[1], Failed)
    assert events[1].reason == "deadline"


def test_a_close_brings_its_message() -> None:
    own, events = session()
    own.close(Close("s0-a", 1, "error", "the verifier has no pages"))
    assert events == [Failed(0, "error", "the verifier has no pages")]
