"""Bookkeeping of the shared KV cache, and what a decode feeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.draft_worker.kv import (
    PREFILL_ALONE,
    PREFILL_BESIDE,
    SHORT,
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
    book = KvBook(cells=100, sequences=2, context=100)
    work, keep = book.admit(request("a", [1, 2, 3], 3))
    assert keep == 0
    feed(work)
    for token in (7, 8, 9):
        work.drafted.append(token)
        if not work.done:
            feed(work)
    assert work.track.held == [1, 2, 3, 7, 8]  # the last drafted token is never fed
    work, keep = book.admit(request("a", [1, 2, 3, 7, 5], 3))
    assert keep == 4
    assert work.next_tokens(8) == [5]


def test_the_last_id_is_fed_again_when_all_is_cached() -> None:
    book = KvBook(cells=100, sequences=2, context=100)
    work, _ = book.admit(request("a", [1, 2, 3], 0))
    feed(work)
    assert work.done
    again, keep = book.admit(request("a", [1, 2, 3], 0))
    assert (keep, again.done) == (3, True)
    draft, keep = book.admit(request("a", [1, 2, 3], 2))
    assert (keep, draft.next_tokens(8)) == (2, [3])


def test_cells_are_promised_and_never_promised_twice() -> None:
    book = KvBook(cells=20, sequences=8, context=20)
    book.admit(request("a", [1] * 10, 4))  # 13 cells
    assert book.promised == 13
    with pytest.raises(NoCapacity, match="8 KV tokens wanted, 7 of 20 are free"):
        book.admit(request("b", [1] * 8, 0))
    assert "b" not in book.tracks
    work, _ = book.admit(request("b", [1] * 7, 4))  # its draft is cut: one token needs no further cell
    assert work.k == 1
    book.close("a")
    work, _ = book.admit(request("b", [1] * 7, 4))
    assert work.k == 4


def test_a_refused_session_keeps_what_it_had() -> None:
    book = KvBook(cells=20, sequences=2, context=20)
    work, _ = book.admit(request("a", [1] * 10, 0))
    feed(work)
    book.admit(request("b", [2] * 8, 0))
    with pytest.raises(NoCapacity):
        book.admit(request("a", [1] * 13, 0))
    assert book.tracks["a"].held == [1] * 10


def test_sessions_and_context_are_bounded() -> None:
    book = KvBook(cells=1000, sequences=2, context=16)
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
    assert book.close("unknown") is None


def test_a_request_needs_tokens() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        KvBook(10, 1, 10).admit(request("a", [], 1))


def test_drafts_go_first_and_prefill_has_a_share() -> None:
    book = KvBook(cells=1000, sequences=8, context=1000)
    prompt, _ = book.admit(request("long", list(range(90)), 0))
    pieces = next_batch([prompt])
    assert [len(piece.tokens) for piece in pieces] == [PREFILL_ALONE]
    drafts = [book.admit(request(name, [1, 2], 4))[0] for name in "ab"]
    pieces = next_batch([prompt, *drafts])
    assert [(piece.work.request.session, len(piece.tokens), piece.choose) for piece in pieces] == [
        ("a", 2, True),
        ("b", 2, True),
        ("long", PREFILL_BESIDE, False),
    ]


def test_a_draft_with_a_long_prompt_is_prefilled_first_and_then_drafts() -> None:
    book = KvBook(cells=1000, sequences=8, context=1000)
    work, _ = book.admit(request("a", list(range(PREFILL_ALONE + SHORT)), 2))
    (piece,) = next_batch([work])
    assert (len(piece.tokens), piece.choose) == (PREFILL_ALONE, False)
    feed(work, PREFILL_ALONE)
    (piece,) = next_batch([work])
    assert (piece.start, len(piece.tokens), piece.choose) == (PREFILL_ALONE, SHORT, True)


def test_prefill_is_oldest_first() -> None:
    book = KvBook(cells=1000, sequences=8, context=1000)
    works = [book.admit(request(name, list(range(50)), 0))[0] for name in "ab"]
    assert [len(piece.tokens) for piece in next_batch(works)] == [50, PREFILL_ALONE - 50]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 8)
        ),
        max_size=30,
    ),
    st.data(),
)
def test_promises_hold_under_any_sequence_of_requests(
    requests: list[tuple[str, list[int], int]], data: st.DataObject
) -> None:
    """Held <= promised <= cells at every moment, sequences are distinct, and every request comes to its end."""
    book, works = KvBook(cells=64, sequences=3, context=40), {}
    for session, ids, k in requests:
        try:
            work, keep = book.admit(request(session, ids, k))
        except NoCapacity:
            works.pop(session, None)
            book.close(session)
            continue
        assert work.track.held == ids[:keep]
        works.pop(session, None)
        works[session] = work
        for _ in range(data.draw(st.integers(0, 12))):
            for piece in next_batch([work for work in works.values() if not work.done]):
                piece.work.track.held.extend(piece.tokens)
                if piece.choose:
                    piece.work.drafted.append(data.draw(st.integers(0, 2)))
            assert sum(len(track.held) for track in book.tracks.values()) <= book.promised <= book.cells
            assert all(len(track.held) <= track.promised for track in book.tracks.values())
        assert len({track.sequence for track in book.tracks.values()}) == len(book.tracks)
    for _ in range(200):
        for piece in next_batch([work for work in works.values() if not work.done]):
            piece.work.track.held.extend(piece.tokens)
            if piece.choose:
                piece.work.drafted.append(0)
    assert all(work.done and len(work.drafted) == work.k for work in works.values())
