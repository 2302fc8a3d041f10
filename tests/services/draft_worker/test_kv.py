"""Bookkeeping of the shared KV cache, and what a decode feeds."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.draft_worker.kv import (
    PREFILL_ALONE,
    PREFILL_WITH_DRAFTS,
    SHORT,
    Change,
    Copy,
    Cut,
    KvBook,
    Work,
    common_prefix,
    next_batch,
)
from shared.compute.drafter import DraftRequest, NoCapacity
from shared.speculative.params import SamplingParams

SAMPLING = SamplingParams(seed=1, vocab=100)


def request(session: str, ids: list[int], k: int) -> DraftRequest:
    return DraftRequest(session, ids, k, SAMPLING)


def feed(work: Work, limit: int = 1 << 20) -> None:
    work.track.held.extend(work.next_tokens(limit))


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([], [1]) == 0


def test_a_rejected_draft_is_rolled_back_to_the_common_prefix() -> None:
    book = KvBook(cells=100, sessions=2, context=100)
    work, _ = book.admit(request("a", [1, 2, 3], 3))
    assert work.track.held == []
    feed(work)
    for token in (7, 8, 9):
        work.drafted.append(token)
        if not work.done:
            feed(work)
    assert work.track.held == [1, 2, 3, 7, 8]  # the last drafted token is never fed
    work, changes = book.admit(request("a", [1, 2, 3, 7, 5], 3))
    assert changes == [Cut(work.track.sequence, 4)]
    assert work.next_tokens(8) == [5]


def test_the_last_id_is_fed_again_when_all_is_cached() -> None:
    book = KvBook(cells=100, sessions=2, context=100)
    work, _ = book.admit(request("a", [1, 2, 3], 0))
    feed(work)
    assert work.done
    again, _ = book.admit(request("a", [1, 2, 3], 0))
    assert (again.track.held, again.done) == ([1, 2, 3], True)
    draft, _ = book.admit(request("a", [1, 2, 3], 2))
    assert (draft.track.held, draft.next_tokens(8)) == ([1, 2], [3])


def test_cells_are_promised_and_never_promised_twice() -> None:
    book = KvBook(cells=20, sessions=8, context=20)
    book.admit(request("a", [1] * 10, 4))  # 13 cells
    assert book.reserved == 13
    with pytest.raises(NoCapacity, match="8 KV tokens wanted, 7 of 20 are free"):
        book.admit(request("b", [1] * 8, 0))
    assert "b" not in book.tracks
    work, _ = book.admit(request("b", [1] * 7, 4))  # its draft is cut: one token needs no further cell
    assert work.k == 1
    book.close("a")
    work, _ = book.admit(request("b", [1] * 7, 4))
    assert work.k == 4


def test_a_refused_session_keeps_what_it_had() -> None:
    book = KvBook(cells=20, sessions=2, context=20)
    work, _ = book.admit(request("a", [1] * 10, 0))
    feed(work)
    book.admit(request("b", [2] * 8, 0))
    with pytest.raises(NoCapacity):
        book.admit(request("a", [1] * 13, 0))
    assert book.tracks["a"].held == [1] * 10


def test_sessions_and_context_are_bounded() -> None:
    book = KvBook(cells=1000, sessions=2, context=16)
    with pytest.raises(NoCapacity, match="a session may have 16"):
        book.admit(request("a", [1] * 17, 0))
    first, _ = book.admit(request("a", [1] * 15, 8))
    assert first.k == 2  # at positions 15 and 16: the second is never fed
    second, _ = book.admit(request("b", [1], 0))
    assert first.track.sequence != second.track.sequence
    with pytest.raises(NoCapacity, match="2 sessions are open"):
        book.admit(request("c", [1], 0))
    book.close("a")
    third, _ = book.admit(request("c", [1], 0))
    assert third.track.sequence == first.track.sequence
    assert book.close("unknown") == []


def test_a_draft_stops_after_the_token_that_is_too_unsure() -> None:
    book = KvBook(64, 1, 64)
    work, _ = book.admit(DraftRequest("s", [1, 2, 3], 4, SAMPLING, stop_below=128))
    feed(work)
    work.add(5, 0.9)
    assert not work.done
    work.add(6, 0.5)  # survives with 0.45
    assert work.done
    assert bytes(work.survival.bytes) == bytes((230, 115))


def test_a_request_needs_tokens() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        KvBook(10, 1, 10).admit(request("a", [], 1))


def fed(book: KvBook, session: str, ids: list[int]) -> Work:
    work, _ = book.admit(request(session, ids, 0))
    feed(work)
    return work


def test_a_session_that_begins_like_a_live_one_copies_its_beginning() -> None:
    book = KvBook(cells=200, sessions=4, context=100, kept=4)
    first = fed(book, "a", list(range(20)))
    work, changes = book.admit(request("b", [*range(12), 50, 51], 0))
    to = work.track.sequence
    assert changes == [Copy(first.track.sequence, to, 12), Cut(to, 12)]
    assert work.next_tokens(8) == [50, 51]
    _, changes = book.admit(request("c", [0, 1, 2, 60], 0))  # too little in common
    assert not any(isinstance(change, Copy) for change in changes)


def test_the_next_turn_of_a_chat_takes_over_what_the_last_left() -> None:
    book = KvBook(cells=200, sessions=4, context=100, kept=4)
    last = fed(book, "turn 1", list(range(40)))
    assert book.close("turn 1") == []
    work, changes = book.admit(request("turn 2", [*range(38), 90, 91], 0))
    assert changes == [Cut(last.track.sequence, 38)]
    assert work.next_tokens(8) == [90, 91]
    assert book.kept == []


def test_what_was_left_goes_when_its_cells_are_needed_the_oldest_first() -> None:
    book = KvBook(cells=100, sessions=4, context=100, kept=2)
    sequences = {}
    for name, token in (("a", 1), ("b", 2), ("c", 3)):
        sequences[name] = fed(book, name, [token] * 20).track.sequence
    assert book.close("a") == []
    assert book.close("b") == []
    assert book.close("c") == [Cut(sequences["a"], 0)]  # two are kept
    work, changes = book.admit(request("d", [4] * 70, 0))
    assert changes == [Cut(work.track.sequence, 0), Cut(sequences["b"], 0)]
    assert [track.held for track in book.kept] == [[3] * 20]
    assert book.close("d", keep=False) == [Cut(work.track.sequence, 0)]


def test_drafts_go_first_and_prefill_has_a_share() -> None:
    book = KvBook(cells=1000, sessions=8, context=1000)
    prompt, _ = book.admit(request("long", list(range(90)), 0))
    pieces = next_batch([prompt])
    assert [len(piece.tokens) for piece in pieces] == [PREFILL_ALONE]
    drafts = [book.admit(request(name, [1, 2], 4))[0] for name in "ab"]
    pieces = next_batch([prompt, *drafts])
    assert [(piece.work.request.session, len(piece.tokens), piece.choose) for piece in pieces] == [
        ("a", 2, True),
        ("b", 2, True),
        ("long", PREFILL_WITH_DRAFTS, False),
    ]


def test_a_draft_with_a_long_prompt_is_prefilled_first_and_then_drafts() -> None:
    book = KvBook(cells=1000, sessions=8, context=1000)
    work, _ = book.admit(request("a", list(range(PREFILL_ALONE + SHORT)), 2))
    (piece,) = next_batch([work])
    assert (len(piece.tokens), piece.choose) == (PREFILL_ALONE, False)
    feed(work, PREFILL_ALONE)
    (piece,) = next_batch([work])
    assert (piece.start, len(piece.tokens), piece.choose) == (PREFILL_ALONE, SHORT, True)


def test_prefill_is_oldest_first() -> None:
    book = KvBook(cells=1000, sessions=8, context=1000)
    works = [book.admit(request(name, list(range(50)), 0))[0] for name in "ab"]
    assert [len(piece.tokens) for piece in next_batch(works)] == [50, PREFILL_ALONE - 50]


def test_a_request_that_is_done_before_it_began_has_no_part_in_a_decode() -> None:
    """An empty piece would turn off the logits of the one before it."""
    book = KvBook(cells=1000, sessions=8, context=1000)
    feed(book.admit(request("caught up", [1, 2, 3], 0))[0])
    again, _ = book.admit(request("caught up", [1, 2, 3], 0))
    assert again.done
    assert next_batch([again]) == []
    draft, _ = book.admit(request("a", [1, 2], 4))
    assert [piece.work for piece in next_batch([again, draft])] == [draft]


class Cache:
    """A model of llama.cpp's cache that applies every operation."""

    def __init__(self) -> None:
        self.held: dict[int, list[int]] = {}

    def change(self, changes: list[Change]) -> None:
        for change in changes:
            match change:
                case Cut(sequence, keep):
                    self.held[sequence] = self.held.get(sequence, [])[:keep]
                case Copy(sequence, to, length):
                    assert not self.held.get(to)
                    self.held[to] = self.held[sequence][:length]

    def feed(self, works: Sequence[Work], chosen: Callable[[], int]) -> None:
        for piece in next_batch(works):
            assert piece.tokens
            self.held[piece.work.track.sequence] += piece.tokens
            piece.work.track.held.extend(piece.tokens)
            if piece.choose:
                piece.work.drafted.append(chosen())


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from([[], [0] * 12, [1] * 20]),
            st.lists(st.integers(0, 2), min_size=1, max_size=20),
            st.integers(0, 8),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.data(),
)
def test_promises_hold_under_any_sequence_of_requests(
    requests: list[tuple[str, list[int], list[int], int, bool]], data: st.DataObject
) -> None:
    """Held <= reserved <= cells at every moment, every sequence holds what its track says, all come to an end."""
    book, cache = KvBook(cells=64, sessions=3, context=40, kept=2), Cache()
    works: dict[str, Work] = {}
    for session, begin, end, k, leaves in requests:
        ids = begin + end
        works.pop(session, None)
        try:
            work, changes = book.admit(request(session, ids, k))
        except NoCapacity:
            cache.change(book.close(session))
            continue
        cache.change(changes)
        assert ids[: len(work.track.held)] == work.track.held
        works[session] = work
        for _ in range(data.draw(st.integers(0, 12))):
            cache.feed([*works.values()], lambda: data.draw(st.integers(0, 2)))
            live, left = list(book.tracks.values()), book.kept
            assert all(len(track.held) <= track.reserved for track in live)
            assert book.reserved + sum(len(track.held) for track in left) <= book.cells
        if leaves:
            del works[session]
            cache.change(book.close(session))
        tracks = [*book.tracks.values(), *book.kept]
        assert len({track.sequence for track in tracks}) == len(tracks)
        assert {n: held for n, held in cache.held.items() if held} == {
            track.sequence: track.held for track in tracks if track.held
        }
    for _ in range(200):
        cache.feed([*works.values()], lambda: 0)
    assert all(work.done and len(work.drafted) == work.k for work in works.values())
