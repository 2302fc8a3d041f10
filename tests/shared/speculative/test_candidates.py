"""Candidates: the first is the draw's token, their probabilities are at most a whole, and the estimate's law holds."""

from itertools import pairwise
from math import exp

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculative.candidates import REST_SHARE, ranked
from shared.speculative.draw import K, draw, likeliest
from shared.speculative.noise import F64, gumbel, position_key
from shared.speculative.params import SamplingParams


def row(seed: int, size: int, scale: float = 3.0) -> F64:
    return np.random.default_rng(seed).standard_normal(size) * scale


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    size=st.sampled_from([3, 50, 64, 65, 300, 3000]),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 20, 80]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    width=st.integers(1, 6),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_first_is_the_draw_and_none_is_twice(
    seed: int, size: int, scale: float, temperature: float, top_k: int, top_p: float, width: int, dtype: type
) -> None:
    logits: npt.NDArray[np.floating] = row(seed, size, scale).astype(dtype)
    params = SamplingParams(seed, size, temperature, top_k, top_p)
    candidates = ranked(logits, params, seed % 1000, width)
    assert candidates[0].token == draw(logits, params, seed % 1000)
    tokens = [one.token for one in candidates]
    assert len(set(tokens)) == len(tokens) <= width
    assert all(0 <= token < size for token in tokens)
    assert all(one.log_prob <= 0.0 for one in candidates)
    assert sum(exp(one.log_prob) for one in candidates) <= 1.0 + 1e-5


def test_greedy_probabilities_are_the_softmax_at_the_spread() -> None:
    logits = np.log(np.array([0.2, 0.5, 0.3]))
    plain = ranked(logits, SamplingParams(1, 3), 4, 3, spread=1.0)
    assert [one.token for one in plain] == [1, 2, 0]
    assert [exp(one.log_prob) for one in plain] == pytest.approx([0.5, 0.3, 0.2])
    sharp = ranked(logits, SamplingParams(1, 3), 4, 3, spread=0.5)
    assert [exp(one.log_prob) for one in sharp] == pytest.approx([0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38])


def test_the_order_is_that_of_the_noisy_scores() -> None:
    logits, params = row(3, 40), SamplingParams(8, 40, 0.7)
    noisy = logits / 0.7 + gumbel(position_key(8, 11), np.arange(40))
    candidates = ranked(logits, params, 11, 5, spread=0.7)
    assert [one.token for one in candidates] == np.argsort(-noisy)[:5].tolist()
    whole = np.exp(noisy - noisy.max())
    expected = np.sort(whole / whole.sum())[::-1][:5]  # spread = temperature: the scores' own softmax
    assert [exp(one.log_prob) for one in candidates] == pytest.approx(expected.tolist())


def test_cuts_leave_fewer_candidates() -> None:
    logits = row(5, 200)
    assert len(ranked(logits, SamplingParams(1, 200, 1.0, top_k=2), 3, 4)) == 2
    assert len(ranked(logits, SamplingParams(1, 200, 1.0, top_p=1e-9), 3, 4)) == 1
    assert len(ranked(logits, SamplingParams(1, 200, 0.0, top_k=2), 3, 4)) == 4
    assert len(ranked(logits[:3], SamplingParams(1, 3), 3, 4)) == 3


def test_padding_rows_are_no_candidates() -> None:
    logits = np.concatenate([np.zeros(70), np.full(58, 50.0)])
    for temperature in (0.0, 1.0):
        assert all(one.token < 70 for one in ranked(logits, SamplingParams(2, 70, temperature), 1, 70))


def test_the_bucket_stands_for_the_token_of_the_second_stage() -> None:
    """In a flat distribution the bucket holds nearly all of the mass and wins nearly always."""
    logits, size = np.zeros(5000), 5000
    head = set(likeliest(logits, K).tolist())
    first = [ranked(logits, SamplingParams(seed, size, 1.0), 9, 2)[0] for seed in range(20)]
    outside = [one for one in first if one.token not in head]
    assert len(outside) >= 18
    assert all(exp(one.log_prob) <= REST_SHARE + 1e-12 for one in outside)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
def test_the_estimate_holds_where_its_law_does(temperature: float) -> None:
    """Targets whose logits differ by Gumbel noise of that scale: each rank is right as often as was said."""
    random, spread, size, n = np.random.default_rng(1), 0.8, 60, 1500
    predicted, hits = np.zeros(3), np.zeros(3)
    for seed in range(n):
        logits = row(seed, size, 2.0)
        params = SamplingParams(seed, size, temperature)
        target = draw(logits + spread * random.gumbel(size=size), params, 5)
        for rank, one in enumerate(ranked(logits, params, 5, 3, spread)):
            predicted[rank] += exp(one.log_prob) / n
            hits[rank] += (one.token == target) / n
    assert hits == pytest.approx(predicted, abs=0.04)


def test_probabilities_fall_with_the_rank_but_for_the_bucket() -> None:
    for seed in range(50):
        candidates = ranked(row(seed, 64), SamplingParams(seed, 64, 0.9), 2, 6)
        assert all(a.log_prob >= b.log_prob for a, b in pairwise(candidates))
