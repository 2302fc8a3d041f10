"""The draw: an exact sample of the target's next token at any temperature, with reproducible noise.

The token after a prefix is a deterministic function of (prefix, parameters, seed):

    x(t) = argmax_i [ log p_t(i) + g(seed, t, i) ]

where p_t is the distribution after temperature, top-k and top-p, and g is standard Gumbel noise. By the Gumbel-max
trick x(t) is an exact sample of p_t. Device and target use the same noise, so they often agree. (Daliri, Musco, Suresh,
"Coupling without Communication and Drafter-Invariant Speculative Decoding", 2024.)

`draw` is the definition. Noise over a whole vocabulary is expensive, so it draws in two stages, which is exact too:
Gumbel-max over the K most likely tokens and one bucket with the rest of the mass; if the bucket wins, over the masses
of blocks of 1,024 ids, then within the winning block. Noise keys: token i -> i, the bucket -> V, block b -> V + 1 + b.
K, the block size and the keys are constants of the protocol. `torch_rule` computes the same for many rows at once;
`margin` measures how close a draw was.
"""

from math import log
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.speculative.noise import F64, gumbel, position_key
from shared.speculative.params import SamplingParams

K: Final = 64
BLOCK: Final = 1024

Ids = npt.NDArray[np.int64]


def draw(logits: npt.NDArray[np.floating], params: SamplingParams, position: int) -> int:
    """Draw the token at the absolute position, given the model's raw logits there. logits: [>= V], finite."""
    if params.temperature == 0.0:
        return int(np.argmax(np.asarray(logits[: params.vocab], dtype=np.float64)))
    scores = _scores(logits, params)
    return _sample(scores, np.exp(scores), params, position)


def draw_sure(logits: npt.NDArray[np.floating], params: SamplingParams, position: int) -> tuple[int, float]:
    """As `draw`, with the model's probability of that token: the softmax at the temperature, at 0 the plain one.

    What top-k and top-p cut off counts too. So it says how sure the model is, not how likely the draw was.
    """
    if params.temperature == 0.0:
        plain = np.asarray(
            logits[: params.vocab]
        )  # in float32 where it is: exact enough, and many times as fast
        token = int(np.argmax(plain))
        return token, 1 / float(np.exp(plain - plain[token]).sum())
    scores = _scores(logits, params)
    weights = np.exp(scores)
    token = _sample(scores, weights, params, position)
    return token, float(weights[token] / weights.sum())


def _scores(logits: npt.NDArray[np.floating], params: SamplingParams) -> F64:
    """log p at a temperature above 0, up to a constant: 0 for the most likely token. [V]"""
    scores = np.asarray(logits[: params.vocab], dtype=np.float64)
    scaled: F64 = (scores - scores.max()) / params.temperature
    return scaled


def _sample(scores: F64, weights: F64, params: SamplingParams, position: int) -> int:
    ordered, limit = candidates(scores, weights, params)
    return pick(scores, weights, ordered, limit, position_key(params.seed, position))


def pick(scores: F64, weights: F64, ordered: Ids, limit: int, key: int) -> int:
    """The two-stage draw among the `limit` most likely of V tokens. ordered: their ids, at least the first K.

    scores, weights: [V], log p up to a constant and its exponential. key: of the position's noise.
    """
    head = ordered[: min(K, limit)]
    head_scores = scores[head] + gumbel(key, head)
    best = int(np.argmax(head_scores))
    if limit > K:
        rest = rest_weights(weights, ordered, limit)
        mass = float(rest.sum())
        if mass > 0.0 and log(mass) + gumbel(key, np.array([scores.size]))[0] > head_scores[best]:
            return pick_rest(scores, rest, key)
    return int(head[best])


def pick_rest(scores: F64, rest: F64, key: int) -> int:
    """Second stage, after the bucket won: draw a block by its mass, then a token within it. rest: weights, [V]."""
    masses = np.add.reduceat(rest, np.arange(0, rest.size, BLOCK))
    blocks = np.flatnonzero(masses)
    block = int(blocks[np.argmax(np.log(masses[blocks]) + gumbel(key, scores.size + 1 + blocks))])
    ids = block * BLOCK + np.flatnonzero(rest[block * BLOCK : (block + 1) * BLOCK])
    return int(ids[np.argmax(scores[ids] + gumbel(key, ids))])


def rest_weights(weights: F64, ordered: Ids, limit: int) -> F64:
    """Weights of the tokens in the bucket, those of rank K up to rank `limit`; 0 for all others. [V]."""
    if limit == weights.size:
        rest = weights.copy()
        rest[ordered[:K]] = 0.0
    else:
        rest = np.zeros_like(weights)
        rest[ordered[K:limit]] = weights[ordered[K:limit]]
    return rest


def candidates(scores: F64, weights: F64, params: SamplingParams) -> tuple[Ids, int]:
    """The most likely ids in order, and the number of tokens that may be drawn after top-k and then top-p.

    The order is score descending, id ascending. Both cuts keep a prefix of it; top-p keeps the smallest prefix with at
    least top_p of the mass that top-k leaves. All ids that may be drawn are returned, but only the first K when all V
    may. Example: masses .5 .3 .2: top_p .5 -> 1, .51 -> 2, .9 -> 3.
    """
    limit = min(params.top_k or scores.size, scores.size)
    ordered = likeliest(scores, limit if params.top_k else K)
    if params.top_p < 1.0:
        whole = weights.sum() if limit == scores.size else weights[ordered].sum()
        while (mass := np.cumsum(weights[ordered]))[-1] < params.top_p * whole and ordered.size < limit:
            ordered = likeliest(scores, min(8 * ordered.size, limit))
        limit = min(limit, int(np.searchsorted(mass, params.top_p * whole)) + 1)
    return ordered, limit


def likeliest(scores: npt.NDArray[np.floating], n: int) -> Ids:
    """The n ids with the highest scores: score descending, id ascending. scores: [V] -> [min(n, V)]."""
    n = min(n, scores.size)
    threshold = np.partition(scores, scores.size - n)[scores.size - n]
    ids = np.flatnonzero(scores >= threshold)  # may be more than n ids: ties at the threshold
    return ids[np.argsort(-scores[ids], kind="stable")][:n]
