"""Margins: how far a draw was from another token. They decide whether a test may require equal tokens.

Packing rows changes log p by a few millionths. A closer decision may flip without an error, so test prompts and seeds
are selected by their margins. Slow; not for serving.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from shared.speculative.draw import BLOCK, Ids, K, candidates, pick, rest_weights
from shared.speculative.noise import F64, gumbel, position_key
from shared.speculative.params import SamplingParams

CEILING = 0.01  # larger margins are reported as this


def draw_with_margin(
    logits: npt.NDArray[np.floating], params: SamplingParams, position: int
) -> tuple[int, float]:
    """The token of draw(logits, params, position), and the change of log p after which another token is drawn.

    The margin is in nats of log p before temperature, at most CEILING. It is the minimum of the gaps between the first
    two in every contest (head and bucket, blocks, tokens of the block) and of the distances to another head, top-k or
    top-p cut that would draw another token. logits: [>= V], finite.
    """
    scores = np.asarray(logits[: params.vocab], dtype=np.float64)
    if params.temperature == 0.0:
        return int(np.argmax(scores)), min(CEILING, lead(scores))
    scores = (scores - scores.max()) / params.temperature
    weights = np.exp(scores)
    _, limit = candidates(scores, weights, params)
    ordered = np.argsort(-scores, kind="stable")
    key = position_key(params.seed, position)
    token = pick(scores, weights, ordered, limit, key)
    margin = min(
        [CEILING / params.temperature, *(lead(c) for c in contests(scores, weights, ordered, limit, key))]
    )
    near = [
        *other_heads(scores, ordered, limit, margin),
        *other_limits(weights[ordered], limit, params, margin),
    ]
    for distance, first, second, other_limit in sorted(near):
        other = ordered.copy()
        other[[first, second]] = ordered[[second, first]]
        if pick(scores, weights, other, other_limit, key) != token:
            return token, distance * params.temperature
    return token, margin * params.temperature


def lead(scores: F64) -> float:
    """Difference between the highest and the second-highest score; infinite if there is only one."""
    if scores.size < 2:
        return float("inf")
    second, first = np.partition(scores, scores.size - 2)[-2:]
    return float(first - second)


def contests(scores: F64, weights: F64, ordered: Ids, limit: int, key: int) -> Iterator[F64]:
    """Noisy scores of all candidates, for each of the contests in `pick`."""
    head = ordered[: min(K, limit)]
    head_scores = scores[head] + gumbel(key, head)
    rest = rest_weights(weights, ordered, limit) if limit > K else np.zeros(1)
    if not rest.any():
        yield head_scores
        return
    bucket = np.log(rest.sum()) + gumbel(key, np.array([scores.size]))
    yield np.concatenate([head_scores, bucket])
    if bucket[0] > head_scores.max():
        masses = np.add.reduceat(rest, np.arange(0, rest.size, BLOCK))
        blocks = np.flatnonzero(masses)
        block_scores = np.log(masses[blocks]) + gumbel(key, scores.size + 1 + blocks)
        yield block_scores
        ids = np.flatnonzero(rest)
        ids = ids[ids // BLOCK == blocks[np.argmax(block_scores)]]
        yield scores[ids] + gumbel(key, ids)


# A neighbouring decision: (distance in scores, rank, rank, limit). These two ranks are exchanged, `limit` tokens
# remain.
Neighbour = tuple[float, int, int, int]


def other_heads(scores: F64, ordered: Ids, limit: int, reach: float) -> Iterator[Neighbour]:
    """Exchanges of two tokens, closer than `reach`, across the end of the head or across the cut.

    A token that enters takes the place of the last one inside; a token that leaves is replaced by the first one
    outside.
    """
    ranking = scores[ordered]  # descending
    for border in {min(K, limit), limit} - {ranking.size}:
        for outside in range(border, ranking.size):
            if (distance := float(ranking[border - 1] - ranking[outside])) >= reach:
                break
            yield distance, border - 1, outside, limit
        for inside in range(border - 2, -1, -1):
            if (distance := float(ranking[inside] - ranking[border])) >= reach:
                break
            yield distance, inside, border, limit


def other_limits(ranked: F64, limit: int, params: SamplingParams, reach: float) -> Iterator[Neighbour]:
    """Other lengths of the nucleus if its mass changed by less than `reach`. ranked: weights, descending, [V]."""
    if params.top_p >= 1.0:
        return
    mass = np.cumsum(ranked[: params.top_k or ranked.size])
    beyond = np.log(mass / mass[-1]) - np.log(params.top_p)  # [n - 1] of the n likeliest; >= 0 is enough
    for other in range(limit - 1, 0, -1):
        if (distance := -float(beyond[other - 1])) >= reach:
            break
        yield distance, 0, 0, other
    for other in range(limit + 1, mass.size + 1):
        if (distance := float(beyond[other - 2])) >= reach:
            break
        yield distance, 0, 0, other
