"""The draw: worked examples, edge cases, and blocks."""

import numpy as np
import pytest

from shared.speculative.draw import BLOCK, K, candidates, draw, draw_sure, likeliest, rest_weights
from shared.speculative.margin import CEILING, draw_with_margin
from shared.speculative.noise import F64, gumbel, position_key
from shared.speculative.params import SamplingParams


def masses(*shares: float) -> F64:
    """Logits of a distribution with these masses."""
    return np.log(np.array(shares))


def allowed(logits: F64, **cuts: float) -> list[int]:
    """Ids that may be drawn at temperature 1, the most likely first."""
    scores = logits - logits.max()
    params = SamplingParams(seed=0, vocab=len(logits), temperature=1.0, **cuts)  # type: ignore[arg-type]
    ordered, limit = candidates(scores, np.exp(scores), params)
    return likeliest(scores, limit).tolist() if limit == len(logits) else ordered[:limit].tolist()


def test_worked_cuts() -> None:
    logits = masses(0.1, 0.4, 0.3, 0.15, 0.05)
    assert allowed(logits) == [1, 2, 3, 0, 4]
    assert allowed(logits, top_k=2) == [1, 2]
    assert allowed(logits, top_p=0.39) == [1]
    assert allowed(logits, top_p=0.41) == [1, 2]
    assert allowed(logits, top_p=0.71) == [1, 2, 3]
    assert allowed(logits, top_p=0.96) == [1, 2, 3, 0, 4]
    # top-k first, top-p of what it leaves: .4 of .7 is .571
    assert allowed(logits, top_k=2, top_p=0.57) == [1]
    assert allowed(logits, top_k=2, top_p=0.58) == [1, 2]


def test_edges_of_the_cuts() -> None:
    logits = masses(0.1, 0.4, 0.3, 0.15, 0.05)
    assert allowed(logits, top_p=1e-300) == [1]
    assert allowed(logits, top_p=1.0) == [1, 2, 3, 0, 4]
    assert allowed(logits, top_p=1.0 - 1e-16) == [1, 2, 3, 0, 4]
    assert allowed(logits, top_k=1) == [1]
    assert allowed(logits, top_k=5) == allowed(logits, top_k=500) == [1, 2, 3, 0, 4]


def test_ties_are_ordered_by_id() -> None:
    flat = np.zeros(200)
    assert allowed(flat, top_k=3) == [0, 1, 2]
    assert allowed(flat, top_p=0.5) == list(range(100))  # exactly half is enough
    assert allowed(flat, top_k=100) == list(range(100))
    assert likeliest(np.array([1.0, 2.0, 2.0, 1.0, 2.0]), 4).tolist() == [1, 2, 4, 0]


def test_temperature_zero_is_the_first_of_the_likeliest() -> None:
    assert draw(np.array([1.0, 3.0, 3.0]), SamplingParams(seed=1, vocab=3), 0) == 1


def test_padding_rows_are_never_drawn() -> None:
    logits = np.concatenate([np.zeros(70), np.full(58, 50.0)])
    for position in range(50):
        assert draw(logits, SamplingParams(seed=1, vocab=70, temperature=1.0), position) < 70
    assert draw(logits, SamplingParams(seed=1, vocab=70), 0) == 0


@pytest.mark.parametrize("vocab", [1, 5, K - 1, K])
def test_small_vocabulary_is_plain_gumbel_max(vocab: int) -> None:
    logits = np.random.default_rng(vocab).normal(size=vocab)
    for position in range(50):
        params = SamplingParams(seed=8, vocab=vocab, temperature=0.8)
        noise = gumbel(position_key(8, position), np.arange(vocab))
        assert draw(logits, params, position) == int(np.argmax(logits / 0.8 + noise))


def test_same_noise_makes_similar_distributions_agree() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=3000) * 3
    draft = target + rng.normal(size=3000) * 0.1
    params = SamplingParams(seed=5, vocab=3000, temperature=1.0)
    agreed = sum(draw(target, params, t) == draw(draft, params, t) for t in range(500))
    assert agreed > 400


def test_the_bucket_holds_exactly_what_the_head_does_not() -> None:
    scores = np.random.default_rng(2).normal(size=3 * BLOCK + 17)
    weights = np.exp(scores)
    ordered = likeliest(scores, scores.size)
    for limit in (K + 1, 500, scores.size - 1, scores.size):
        rest = rest_weights(weights, ordered, limit)
        assert set(np.flatnonzero(rest)) == set(ordered[K:limit].tolist())
        np.testing.assert_array_equal(rest[rest > 0], weights[rest > 0])


def test_a_lonely_token_of_the_last_block_is_found() -> None:
    # 64 heads, all the rest of the mass on the only token of the third block: 1 / (1 + 64 e^-1) of 1 + ...
    logits = np.full(2 * BLOCK + 1, -60.0)
    logits[:K] = 0.0
    logits[-1] = -1.0
    share = np.exp(-1.0) / (K + np.exp(-1.0))
    params = SamplingParams(seed=3, vocab=logits.size, temperature=1.0)
    drawn = np.array([draw(logits, params, t) for t in range(6_000)])
    assert set(drawn[drawn >= K].tolist()) == {2 * BLOCK}
    assert abs((drawn == 2 * BLOCK).mean() - share) < 4 * np.sqrt(share / 6_000)


def test_blocks_are_drawn_by_their_mass() -> None:
    # Flat, 2.5 blocks: the head takes 64 ids of block 0, the others are reached by the bucket alone.
    vocab = 2 * BLOCK + BLOCK // 2
    params = SamplingParams(seed=4, vocab=vocab, temperature=1.0)
    drawn = np.array([draw(np.zeros(vocab), params, t) for t in range(6_000)])
    counts = np.bincount(drawn // BLOCK, minlength=3)
    np.testing.assert_allclose(counts / 6_000, [0.4, 0.4, 0.2], atol=0.02)
    assert 0.018 < (drawn < K).mean() < 0.033  # 64 of 2560


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_how_sure_a_draw_is_and_that_it_is_the_same_draw(temperature: float) -> None:
    rng = np.random.default_rng(5)
    for position in range(40):
        logits = rng.normal(size=3000) * 4
        params = SamplingParams(seed=3, vocab=2000, temperature=temperature, top_k=20)
        token, probability = draw_sure(logits, params, position)
        assert token == draw(logits, params, position)
        weights = np.exp(logits[:2000] / (temperature or 1.0))
        assert probability == pytest.approx(weights[token] / weights.sum())


def test_margin_knows_the_draw() -> None:
    rng = np.random.default_rng(1)
    for position in range(300):
        logits = rng.normal(size=400) * rng.choice([0.2, 1.0, 4.0])
        params = SamplingParams(
            seed=position,
            vocab=400,
            temperature=float(rng.choice([0.0, 0.7, 1.3])),
            top_k=int(rng.choice([0, 10, 100])),
            top_p=float(rng.choice([1.0, 0.9, 0.4])),
        )
        token, margin = draw_with_margin(logits, params, position)
        assert token == draw(logits, params, position)
        assert 0.0 <= margin <= CEILING


def test_a_wide_margin_survives_noise_and_a_flip_had_a_narrow_one() -> None:
    rng = np.random.default_rng(2)
    epsilon, flips = 1e-3, 0
    for position in range(500):
        logits = rng.normal(size=300)
        params = SamplingParams(
            seed=9, vocab=300, temperature=float(rng.choice([0.0, 0.7, 1.0])), top_p=0.9, top_k=150
        )
        token, margin = draw_with_margin(logits, params, position)
        for _ in range(5):
            if draw(logits + rng.uniform(-epsilon, epsilon, size=300), params, position) != token:
                flips += 1
                assert margin <= 2 * epsilon
    assert flips > 0


def test_worked_margins() -> None:
    greedy = SamplingParams(seed=0, vocab=3)
    assert draw_with_margin(np.array([1.0, 1.004, 0.0]), greedy, 0) == (1, pytest.approx(0.004))
    assert draw_with_margin(np.array([1.0, 1.0, 0.0]), greedy, 0) == (0, 0.0)
    # top_p .5 of .5003 .4997: one token is left; a change of log p by .0006 would let the other one in,
    # which counts only at positions where the other one would win.
    logits = masses(0.5003, 0.4997)
    margins = []
    for position in range(40):
        params = SamplingParams(seed=0, vocab=2, temperature=1.0, top_p=0.5)
        other_wins = draw(logits, SamplingParams(seed=0, vocab=2, temperature=1.0), position) == 1
        token, margin = draw_with_margin(logits, params, position)
        assert token == 0
        margins.append((other_wins, margin))
    assert all(margin <= 0.0013 for other_wins, margin in margins if other_wins)
    assert {other_wins for other_wins, _ in margins} == {True, False}
