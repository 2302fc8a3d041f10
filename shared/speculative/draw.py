"""The draw: what the target would say next, exact at every temperature.

The token after a prefix is a deterministic function of (prefix, parameters, seed):

    x(t) = argmax_i [ log p_t(i) + g(seed, t, i) ]

with p_t the distribution after temperature, top-k and top-p and g standard Gumbel noise: an exact sample
of p_t by the Gumbel-max trick. Device and target use the same noise, so they agree often. (Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative Decoding", 2024.)

`draw` is the definition. Noise over a whole vocabulary is dear, so it draws in two stages, exact as well:
Gumbel-max over the K likeliest tokens plus one bucket that holds the rest of the mass; only if the bucket
wins, over the masses of blocks of 1,024 ids, then within the winning block. Noise keys: token i -> i,
the bucket -> V, block b -> V + 1 + b. K, the block size and the keys are constants of the protocol.
"""

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
    scores = scores / params.temperature
    key = position_key(params.seed, position)
    head, rest = split(scores, params)
    head_scores = scores[head] + gumbel(key, head)
    best = int(np.argmax(head_scores))
    if rest.size:
        mass = log_sum(scores[rest]) + gumbel(key, np.array([params.vocab]))[0]
        if mass > head_scores[best]:
            return draw_rest(scores, rest, key, params.vocab)
    return int(head[best])


def draw_rest(scores: F64, rest: Ids, key: int, vocab: int) -> int:
    """Second stage: the bucket won. A block by its mass, then a token within it. rest: ids, ascending."""
    block_of = rest // BLOCK
    blocks, starts = np.unique(block_of, return_index=True)
    masses = np.array([log_sum(scores[ids]) for ids in np.split(rest, starts[1:])])
    block = blocks[np.argmax(masses + gumbel(key, vocab + 1 + blocks))]
    ids = rest[block_of == block]
    return int(ids[np.argmax(scores[ids] + gumbel(key, ids))])


def split(scores: F64, params: SamplingParams) -> tuple[Ids, Ids]:
    """The tokens that may be drawn: the K likeliest (best first) and the others (ids ascending).

    Every ordering is score descending, id ascending; top-k and top-p keep a prefix of it. scores: [V].
    """
    limit = min(params.top_k or scores.size, scores.size)
    head = likeliest(scores, min(K, limit))
    if params.top_p < 1.0:
        whole = log_sum(scores if limit == scores.size else scores[likeliest(scores, limit)])
        kept = nucleus(scores[head], whole, params.top_p)
        if kept > head.size:
            kept = nucleus(scores[likeliest(scores, limit)], whole, params.top_p)
        limit = min(kept, limit)
    if limit <= K:
        return head[:limit], head[:0]
    if limit < scores.size:
        return head, np.sort(likeliest(scores, limit)[K:])
    others = np.ones(scores.size, dtype=bool)
    others[head] = False
    return head, np.flatnonzero(others)


def nucleus(ordered: F64, whole: float, top_p: float) -> int:
    """Length of the smallest prefix whose mass is >= top_p of exp(whole); one more than all if none is.

    ordered: log masses, descending. Example: masses .5 .3 .2 of 1: top_p .5 -> 1, .51 -> 2, 1 -> 3.
    """
    return int(np.searchsorted(np.cumsum(np.exp(ordered - whole)), top_p, side="left")) + 1


def likeliest(scores: F64, n: int) -> Ids:
    """The n ids with the highest scores: score descending, id ascending. scores: [V] -> [min(n, V)]."""
    n = min(n, scores.size)
    floor = np.partition(scores, scores.size - n)[scores.size - n]
    ids = np.flatnonzero(scores >= floor)  # may hold more than n: ties at the floor
    return ids[np.argsort(-scores[ids], kind="stable")][:n]


def log_sum(scores: F64) -> float:
    """log of the sum of exp(scores), without overflow."""
    top = scores.max()
    return float(top + np.log(np.exp(scores - top).sum()))
