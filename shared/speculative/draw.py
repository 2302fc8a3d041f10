"""The draw: what the target would say next, exact at every temperature.

The token after a prefix is a deterministic function of (prefix, parameters, seed):

    x(t) = argmax_i [ log p_t(i) + g(seed, t, i) ]

with p_t the distribution after temperature, top-k and top-p and g standard Gumbel noise: an exact sample
of p_t by the Gumbel-max trick. Device and target use the same noise, so they agree often. (Daliri, Musco,
Suresh, "Coupling without Communication and Drafter-Invariant Speculative Decoding", 2024.)

`draw` is the definition. Noise over a whole vocabulary is dear, so it draws in two stages, exact as well:
Gumbel-max over the K likeliest tokens plus one bucket that holds the rest of the mass; only if the bucket
wins, over the masses of blocks of 1,024 ids, then within the winning block. Noise keys: token i -> i,
the bucket -> V, block b -> V + 1 + b. K, the block size and the keys are constants of the protocol.
`torch_rule` is the same for many rows at once, `margin` tells how close a draw was.
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
    """The token at absolute `position`, given the model's raw logits there. logits: [>= V], finite."""
    scores = np.asarray(logits[: params.vocab], dtype=np.float64)
    if params.temperature == 0.0:
        return int(np.argmax(scores))
    scores = (scores - scores.max()) / params.temperature  # log p but for a constant
    weights = np.exp(scores)
    ordered, limit = candidates(scores, weights, params)
    return pick(scores, weights, ordered, limit, position_key(params.seed, position))


def pick(scores: F64, weights: F64, ordered: Ids, limit: int, key: int) -> int:
    """The two-stage draw among the `limit` likeliest of V tokens. ordered: their ids, the first K at least."""
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
    """Second stage: the bucket won. A block by its mass, then a token within it. rest: weights, [V]."""
    masses = np.add.reduceat(rest, np.arange(0, rest.size, BLOCK))
    blocks = np.flatnonzero(masses)
    block = int(blocks[np.argmax(np.log(masses[blocks]) + gumbel(key, scores.size + 1 + blocks))])
    ids = block * BLOCK + np.flatnonzero(rest[block * BLOCK : (block + 1) * BLOCK])
    return int(ids[np.argmax(scores[ids] + gumbel(key, ids))])


def rest_weights(weights: F64, ordered: Ids, limit: int) -> F64:
    """What the bucket holds: the weights of the tokens from rank K up to rank `limit`, 0 elsewhere. [V]."""
    if limit == weights.size:
        rest = weights.copy()
        rest[ordered[:K]] = 0.0
    else:
        rest = np.zeros_like(weights)
        rest[ordered[K:limit]] = weights[ordered[K:limit]]
    return rest


def candidates(scores: F64, weights: F64, params: SamplingParams) -> tuple[Ids, int]:
    """The likeliest ids in order, and how many tokens may be drawn after top-k and then top-p.

    Every ordering is score descending, id ascending, and both cuts keep a prefix of it; top-p keeps the
    smallest prefix that holds >= top_p of the mass that top-k left. As many ids are ordered as may be
    drawn, or only the first K when all V may. Example: masses .5 .3 .2: top_p .5 -> 1, .51 -> 2, .9 -> 3.
    """
    limit = min(params.top_k or scores.size, scores.size)
    ordered = likeliest(scores, limit if params.top_k else K)
    if params.top_p < 1.0:
        whole = weights.sum() if limit == scores.size else weights[ordered].sum()
        while (mass := np.cumsum(weights[ordered]))[-1] < params.top_p * whole and ordered.size < limit:
            ordered = likeliest(scores, min(8 * ordered.size, limit))
        limit = min(limit, int(np.searchsorted(mass, params.top_p * whole)) + 1)
    return ordered, limit


def likeliest(scores: F64, n: int) -> Ids:
    """The n ids with the highest scores: score descending, id ascending. scores: [V] -> [min(n, V)]."""
    n = min(n, scores.size)
    floor = np.partition(scores, scores.size - n)[scores.size - n]
    ids = np.flatnonzero(scores >= floor)  # may hold more than n: ties at the floor
    return ids[np.argsort(-scores[ids], kind="stable")][:n]
