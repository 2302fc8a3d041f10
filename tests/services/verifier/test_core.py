"""The verifier's rules: which rows run, their inputs and their verdicts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.core import (
    Bounds,
    VerifiedSession,
    cut,
    needs_log,
    target_row,
    unfit_reason,
    useful_draft,
    verdict_without_pass,
    verify_row,
    with_known_tokens,
)
from shared.compute.target import Choices
from shared.protocol.messages import StagedRow, TokenLogprobs
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams
from tests.services.verifier.trees.hashed import HashedTarget, sequential

BOUNDS = Bounds(vocab=100, max_context=64, pool_tokens=128)
PROMPT = (1, 2, 3, 4)


def session(*committed: int, epoch: int = 2, max_tokens: int = 20, logprobs: int = -1) -> VerifiedSession:
    sampling = SamplingParams(seed=1, vocab=100)
    spec = SessionSpec("a", PROMPT, sampling, max_tokens, (99,), "g:1", 10_000, logprobs)
    return VerifiedSession(spec, epoch, [*PROMPT, *committed], "", 1)


def row(base_len: int, *tokens: int, feed_to: int | None = None, parents: tuple[int, ...] = ()) -> StagedRow:
    return StagedRow(
        "a", 2, 7, base_len, base_len if feed_to is None else feed_to, 3, "d:1", "g:1", tokens, parents
    )


GOOD = row(6, 11, 12)


def test_a_good_row_is_for_the_model() -> None:
    assert verdict_without_pass(GOOD, session(9, 9), BOUNDS) is None


@pytest.mark.parametrize(
    ("bad", "status", "says"),
    [
        (replace(GOOD, epoch=1), "stale", "epoch 1"),
        (replace(GOOD, epoch=3), "stale", "epoch 3"),
        (replace(GOOD, base_len=7, feed_to=7), "error", "in the future"),
        (replace(GOOD, feed_to=8), "error", "beyond base_len"),
        (replace(GOOD, tokens=(1,) * 65), "error", "at most 64"),
        (replace(GOOD, parents=(-1,)), "error", "parents"),
        (replace(GOOD, parents=(-1, 1)), "error", "parents"),
        (replace(GOOD, gateway="evil:1"), "error", "gateway"),
    ],
)
def test_a_bad_row_alone_is_refused(bad: StagedRow, status: str, says: str) -> None:
    verdict = verdict_without_pass(bad, session(9, 9), BOUNDS)
    assert verdict is not None
    assert (verdict.status, verdict.tokens, verdict.length) == (status, (), bad.base_len)
    assert says in verdict.message


@pytest.mark.parametrize(
    ("tokens", "parents", "known"),
    [
        ((11, 12), (), (11, 12)),
        ((11, 100, 12), (), (11,)),
        ((100,), (), ()),
        ((-1, 12), (), ()),
        ((11, 12), (-1, -1), (11, 12)),
        ((11, 100), (-1, -1), ()),
    ],
)
def test_tokens_that_the_target_lacks_cost_a_row_no_more_than_its_draft(
    tokens: tuple[int, ...], parents: tuple[int, ...], known: tuple[int, ...]
) -> None:
    cut = with_known_tokens(replace(GOOD, tokens=tokens, parents=parents), BOUNDS.vocab)
    assert cut == replace(GOOD, tokens=known, parents=parents if known == tokens else ())
    assert verdict_without_pass(cut, session(9, 9), BOUNDS) is None


def test_the_verdict_tells_the_device_how_far_to_draft_and_where_to_stop() -> None:
    requested, one = replace(row(5), stop_below=77), session(9)
    choices = Choices((11,))
    fed = target_row(requested, one, 4, 0)
    assert fed is not None
    verdict = verify_row(requested, one, fed, choices).verdict
    assert (verdict.next_k, verdict.stop_below) == (3, 77)
    behind = verdict_without_pass(replace(requested, base_len=4, feed_to=4), one, BOUNDS)
    assert behind is not None
    assert (behind.next_k, behind.stop_below) == (3, 77)


def test_a_session_that_no_log_knows_is_refused() -> None:
    verdict = verdict_without_pass(GOOD, None, BOUNDS)
    assert verdict is not None
    assert verdict.status == "error"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (replace(session().spec, max_tokens=61), "prompt and completion exceed 64 tokens"),
        (replace(session().spec, prompt=(1, 100)), "prompt token beyond the vocabulary of 100"),
        (replace(session().spec, prompt=()), "empty prompt"),
        (replace(session().spec, max_tokens=60), ""),
    ],
)
def test_what_the_target_can_never_serve_is_refused(spec: SessionSpec, says: str) -> None:
    assert unfit_reason(spec, BOUNDS) == says
    unfit = session(9, 9)
    unfit.unfit = unfit_reason(spec, BOUNDS)
    verdict = verdict_without_pass(GOOD, unfit, BOUNDS)
    assert (verdict.message if verdict else "") == says


def test_rows_behind_the_log_or_of_finished_sessions_are_answered_from_it() -> None:
    behind = verdict_without_pass(row(5), session(9, 9), BOUNDS)
    over = session(9, 9)
    over.finish = "cancel"
    finished = verdict_without_pass(GOOD, over, BOUNDS)
    for verdict in (behind, finished):
        assert verdict is not None
        assert (verdict.status, verdict.tokens, verdict.next_k) == ("ok", (), 3)


def test_a_foreign_gateway_is_not_answered_from_the_log() -> None:
    verdict = verdict_without_pass(replace(row(5), gateway="evil:1"), session(9, 9), BOUNDS)
    assert verdict is not None
    assert verdict.status == "error"


def test_the_log_is_read_when_it_may_be_newer() -> None:
    assert needs_log(GOOD, None)
    assert needs_log(replace(GOOD, epoch=3), session(9, 9))
    assert needs_log(GOOD, session(9))
    assert not needs_log(GOOD, session(9, 9))
    assert not needs_log(replace(GOOD, epoch=1), session(9, 9))
    doubtful = session(9, 9)
    doubtful.trusted = False
    assert needs_log(GOOD, doubtful)


class TestFeeding:
    def test_a_normal_row_feeds_the_newest_token_and_the_draft(self) -> None:
        fed = target_row(GOOD, session(8, 9), cached=5, spare=0)
        assert fed is not None
        assert (fed.start, fed.tokens, fed.committed, fed.choose) == (5, (9, 11, 12), 1, True)

    def test_a_chunk_chooses_nothing(self) -> None:
        fed = target_row(row(6, feed_to=4), session(8, 9), cached=2, spare=10)
        assert fed is not None
        assert (fed.tokens, fed.choose) == ((3, 4), False)

    def test_the_last_chunk_chooses(self) -> None:
        fed = target_row(row(4), session(), cached=0, spare=3)
        assert fed is not None
        assert (fed.tokens, fed.committed, fed.choose) == (PROMPT, 4, True)

    def test_what_exceeds_the_batch_is_cut_and_chooses_nothing(self) -> None:
        fed = target_row(GOOD, session(8, 9), cached=0, spare=2)
        assert fed is not None
        assert (fed.tokens, fed.choose) == ((1, 2, 3), False)

    def test_nothing_is_fed_when_there_is_no_room_or_no_need(self) -> None:
        assert target_row(GOOD, session(8, 9), cached=0, spare=0) is None
        assert target_row(row(6, feed_to=4), session(8, 9), cached=4, spare=10) is None

    def test_a_draft_beyond_the_limit_is_of_no_use(self) -> None:
        last = session(8, 9, max_tokens=3)
        assert useful_draft(GOOD, last) == ((), ())
        assert useful_draft(GOOD, session(8, 9, max_tokens=4)) == ((11,), ())
        assert useful_draft(row(6, 11, 12, parents=(-1, -1)), session(8, 9, max_tokens=4)) == ((), ())
        assert useful_draft(row(6, 11, 12, feed_to=5), session(8, 9)) == ((), ())


class TestVerdicts:
    def verify(self, staged: StagedRow, of: VerifiedSession, *choices: int):  # type: ignore[no-untyped-def]
        fed = target_row(staged, of, cached=of.length - 1, spare=0)
        assert fed is not None
        logprobs: tuple[TokenLogprobs, ...] = ()
        if of.spec.logprobs >= 0:
            logprobs = tuple((-float(choice), (), ()) for choice in choices)
        return verify_row(staged, of, fed, Choices(choices, logprobs))

    def test_a_rejection_commits_the_corrected_token(self) -> None:
        verified = self.verify(row(6, 11, 12, 13), session(8, 9), 11, 50, 51, 52)
        verdict = verified.verdict
        assert (verdict.tokens, verdict.length, verdict.drafted, verdict.accepted) == ((11, 50), 8, 3, 1)
        assert (verified.keep, verdict.next_k, verdict.finish) == (7, 3, "")

    def test_a_full_acceptance_commits_the_bonus_token(self) -> None:
        verified = self.verify(GOOD, session(8, 9), 11, 12, 13)
        assert verified.verdict.tokens == (11, 12, 13)
        assert verified.keep == 8

    def test_a_row_without_draft_commits_one_token(self) -> None:
        verified = self.verify(row(6), session(8, 9), 42)
        assert (verified.verdict.tokens, verified.verdict.drafted, verified.keep) == ((42,), 0, 6)

    def test_the_text_ends_at_the_first_stop_id(self) -> None:
        verdict = self.verify(row(6, 11, 99, 13), session(8, 9), 11, 99, 13, 14).verdict
        assert (verdict.tokens, verdict.finish, verdict.accepted, verdict.next_k) == ((11, 99), "stop", 2, 0)

    def test_the_text_ends_at_the_limit(self) -> None:
        verdict = self.verify(row(6, 11, 12, 13), session(8, 9, max_tokens=4), 11, 12, 13).verdict
        assert (verdict.tokens, verdict.finish) == ((11, 12), "length")

    def test_a_stop_id_at_the_limit_is_a_stop(self) -> None:
        assert cut((11, 99), session(8, 9, max_tokens=4)) == ((11, 99), "stop")
        assert cut((11, 12, 99), session(8, 9, max_tokens=4)) == ((11, 12), "length")

    def test_a_tree_commits_its_path(self) -> None:
        staged = row(6, 10, 11, 20, 21, parents=(-1, -1, 1, 1))
        verified = self.verify(staged, session(8, 9, logprobs=0), 11, 0, 21, 0, 33)
        assert verified.verdict.tokens == (11, 21, 33)
        assert [own for own, _, _ in verified.verdict.logprobs] == [-11.0, -21.0, -33.0]
        assert (verified.keep, verified.path, verified.verdict.accepted) == (6, (1, 3), 2)

    @given(
        draft=st.lists(st.integers(0, 3), max_size=6),
        choices=st.lists(st.integers(0, 3), min_size=7, max_size=7),
        emitted=st.integers(0, 5),
    )
    def test_what_is_committed_is_always_what_the_target_says(
        self, draft: list[int], choices: list[int], emitted: int
    ) -> None:
        of = session(*[7] * emitted, max_tokens=6)
        usable = len(useful_draft(row(of.length, *draft), of)[0])
        verdict = self.verify(row(of.length, *draft), of, *choices[: usable + 1]).verdict
        assert verdict.tokens == tuple(choices[: len(verdict.tokens)])
        assert 1 <= len(verdict.tokens) <= of.remaining
        assert (verdict.finish == "length") == (len(verdict.tokens) == of.remaining)


@st.composite
def drafted_trees(make: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens and parents; none = a row without a draft."""
    tokens = make(st.lists(st.integers(0, 4), max_size=10))
    return tuple(tokens), tuple(make(st.integers(-1, at - 1)) for at in range(len(tokens)))


@given(
    st.integers(0, 2**64 - 1),
    st.lists(drafted_trees(), min_size=1, max_size=20),
    st.integers(1, 20),
    st.sampled_from([(), (4,), (0, 1, 2, 3, 4)]),
)
def test_rows_with_trees_give_the_text_of_sequential_decoding(
    seed: int,
    trees: list[tuple[tuple[int, ...], tuple[int, ...]]],
    max_tokens: int,
    stop_ids: tuple[int, ...],
) -> None:
    """At any finish, and whatever is drafted."""
    one = session(max_tokens=max_tokens)
    one.spec = replace(one.spec, stop_ids=stop_ids)
    text = sequential(seed, PROMPT, max_tokens, stop_ids)
    while not one.finish:
        tokens, parents = trees.pop() if trees else ((), ())
        staged = row(one.length, *tokens, parents=parents)
        assert verdict_without_pass(staged, one, BOUNDS) is None
        fed = target_row(staged, one, one.length - 1, 99)
        assert fed is not None
        place = fed if fed.parents else replace(fed, parents=range(-1, len(fed.tokens) - 2))
        done = verify_row(staged, one, fed, HashedTarget(seed, one.ids[:-1]).feed(place))
        verdict = done.verdict
        assert (done.keep, verdict.cached_len) == (one.length, one.length + len(done.path)) or not fed.parents
        assert verdict.base_len == one.length
        one.ids += verdict.tokens
        one.finish = verdict.finish
        assert one.ids[len(PROMPT) :] == text[: one.length - len(PROMPT)]
    assert one.ids[len(PROMPT) :] == text
    assert one.finish == ("stop" if text[-1] in stop_ids else "length")
