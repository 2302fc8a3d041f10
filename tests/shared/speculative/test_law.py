"""Draws follow the target's distribution: chi-square tests of at least 100,000 draws against exact probabilities.

Seeds and positions are fixed, so a test that passes once passes for ever; the p-values are reported on failure.
"""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from shared.speculative.draw import K, candidates, draw, pick
from shared.speculative.noise import F64, position_key
from shared.speculative.params import SamplingParams
from shared.speculative.torch_rule import draw_rows

DRAWS = 100_000
VOCAB = 2_600  # two blocks and a half
SMALLEST_P = 1e-3

RNG = np.random.default_rng(0)
LIKE_TEXT = (RNG.normal(size=VOCAB) * 2.5).astype(np.float32)
FLAT = (RNG.normal(size=VOCAB) * 0.1).astype(np.float32)

CASES = {
    "temperature 0.5": (LIKE_TEXT, {"temperature": 0.5}),
    "temperature 1.3": (LIKE_TEXT, {"temperature": 1.3}),
    "top-k 12": (LIKE_TEXT, {"temperature": 1.3, "top_k": 12}),
    "top-k 400": (LIKE_TEXT, {"temperature": 1.3, "top_k": 400}),
    "top-p 0.6": (LIKE_TEXT, {"temperature": 0.5, "top_p": 0.6}),
    "top-p 0.95": (LIKE_TEXT, {"temperature": 1.3, "top_p": 0.95}),
    "top-k 300 and top-p 0.9": (LIKE_TEXT, {"temperature": 1.3, "top_k": 300, "top_p": 0.9}),
    "flat": (FLAT, {"temperature": 1.0}),
    "flat, top-p 0.8": (FLAT, {"temperature": 1.3, "top_p": 0.8}),
}


def exact(logits: npt.NDArray[np.float32], params: SamplingParams) -> F64:
    """Exact probabilities: sort, cut by top-k and top-p, normalise. [V]."""
    p = np.exp(logits.astype(np.float64) / params.temperature)
    order = np.argsort(-p, kind="stable")
    if params.top_k:
        p[order[params.top_k :]] = 0.0
    p /= p.sum()
    if params.top_p < 1.0:
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= params.top_p]] = 0.0
    return p / p.sum()


def p_value(drawn: npt.NDArray[np.int64], probabilities: F64) -> float:
    """p-value of Pearson's chi-square test; tokens expected less than ten times share a cell."""
    from scipy import stats  # a second to import, so only where it is used

    counts = np.bincount(drawn, minlength=probabilities.size)
    assert counts[probabilities == 0].sum() == 0, "a token that was cut away was drawn"
    expected = probabilities * drawn.size
    common = expected >= 10
    cells = np.append(counts[common], counts[~common].sum())
    shares = np.append(expected[common], expected[~common].sum())
    return float(stats.chisquare(cells[shares > 0], shares[shares > 0]).pvalue)


def params_of(settings: dict[str, float], seed: int) -> SamplingParams:
    return SamplingParams(seed=seed, vocab=VOCAB, **settings)  # type: ignore[arg-type]


def draws(logits: npt.NDArray[np.float32], settings: dict[str, float]) -> npt.NDArray[np.int64]:
    """`draw` at DRAWS positions of one session; what does not depend on the position is computed once."""
    params = params_of(settings, seed=11)
    scores = logits.astype(np.float64)
    scores = (scores - scores.max()) / params.temperature
    weights = np.exp(scores)
    ordered, limit = candidates(scores, weights, params)
    drawn = [pick(scores, weights, ordered, limit, position_key(11, t)) for t in range(DRAWS)]
    assert drawn[:50] == [draw(logits, params, t) for t in range(50)]
    return np.array(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_law_over_positions(case: str) -> None:
    logits, settings = CASES[case]
    assert p_value(draws(logits, settings), exact(logits, params_of(settings, 0))) > SMALLEST_P


@pytest.mark.slow
@pytest.mark.parametrize("case", ["temperature 0.5", "temperature 1.3", "top-k 12", "top-p 0.6"])
def test_law_over_seeds_in_torch(case: str) -> None:
    logits, settings = CASES[case]
    rows = 2_000
    batch = torch.from_numpy(logits).expand(rows, -1)
    drawn: list[int] = []
    for start in range(0, DRAWS, rows):
        params = [params_of(settings, seed) for seed in range(start, start + rows)]
        drawn += draw_rows(batch, params, [77] * rows)
    assert p_value(np.array(drawn), exact(logits, params_of(settings, 0))) > SMALLEST_P


def test_the_bucket_wins_often_where_the_test_says_so() -> None:
    for case, min_mass in {"temperature 1.3": 0.2, "flat": 0.9, "flat, top-p 0.8": 0.9}.items():
        logits, settings = CASES[case]
        p = np.sort(exact(logits, params_of(settings, 0)))[::-1]
        assert p[K:].sum() > min_mass


def test_neighbouring_positions_are_independent() -> None:
    from scipy import stats

    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    params = SamplingParams(seed=21, vocab=4, temperature=1.0)
    x = np.array([draw(logits, params, t) for t in range(20_001)])
    pairs = x[:-1] * 4 + x[1:]
    p = np.exp(logits)
    # Pairs overlap, so take every other one.
    assert (
        stats.chisquare(np.bincount(pairs[::2], minlength=16), np.outer(p, p).ravel() * 10_000).pvalue > 1e-3
    )


def test_neighbouring_seeds_are_independent() -> None:
    from scipy import stats

    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    x = np.array(
        [draw(logits, SamplingParams(seed=s, vocab=4, temperature=1.0), 5) for s in range(20_000)]
    ).reshape(-1, 2)
    p = np.exp(logits)
    pairs = np.bincount(x[:, 0] * 4 + x[:, 1], minlength=16)
    assert stats.chisquare(pairs, np.outer(p, p).ravel() * 10_000).pvalue > 1e-3
