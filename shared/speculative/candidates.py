"""The tokens that the target most likely draws at a position, as a draft model sees it under the shared noise.

The target's token is the one of highest log p(i) + g(i) (`draw`). A draft model knows the noise g, and its own q in
place of p. So it ranks tokens by log q(i) + g(i), and the first is its own draw. How likely each is depends on how far
its logits lie from the target's. If the differences are independent Gumbel variables of scale `spread`, token i is the
target's with the probability

    softmax over i of (logit(i) + temperature · g(i)) / spread

It is an estimate; docs/notes/draft-trees.md shows how far it is right. It is not q: once the noise is known, little is
left to chance.

Above temperature 0 the draw has two stages, and so has the ranking: the K most likely tokens and the bucket with the
rest of the mass. The bucket stands for the one token that the second stage draws. That token depends on the masses of
blocks too, so it is the target's less often than the target's bucket wins: REST_SHARE of its probability is counted.
"""

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.speculative import draw
from shared.speculative.noise import F64, gumbel, position_key
from shared.speculative.params import SamplingParams

SPREAD: Final = 0.55  # in logits, of the SmolLM2 pair at every temperature (docs/notes/draft-trees.md)
REST_SHARE: Final = (
    0.55  # how often the second stage of target and draft model draws the same token; likewise
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token, and the natural logarithm of the estimated probability that it is the target's."""

    token: int
    log_prob: float


def ranked(
    logits: npt.NDArray[np.floating],
    params: SamplingParams,
    position: int,
    width: int,
    spread: float = SPREAD,
) -> tuple[Candidate, ...]:
    """The first `width` candidates at an absolute position, given the draft model's raw logits there.

    logits: [>= V], finite. The first candidate is the token of `draw.draw` for these logits. The order is that of the
    scores, so that a bucket's token may come before a likelier one. There are fewer candidates where top-k, top-p or
    the vocabulary leave no more; at temperature 0 neither cut applies. spread: in logits, > 0.
    """
    if params.temperature == 0.0:
        return _ranked_plain(np.asarray(logits[: params.vocab]), width, spread)
    scores = np.asarray(logits[: params.vocab], dtype=np.float64)
    scores = (scores - scores.max()) / params.temperature
    weights = np.exp(scores)
    ordered, limit = draw.candidates(scores, weights, params)
    key = position_key(params.seed, position)
    head = ordered[: min(draw.K, limit)]
    noisy = scores[head] + gumbel(key, head)
    rest = draw.rest_weights(weights, ordered, limit) if limit > draw.K else np.zeros(0)
    if (mass := float(rest.sum())) > 0.0:
        noisy = np.append(noisy, log(mass) + gumbel(key, np.array([scores.size])))
    log_probs = _log_softmax(noisy * (params.temperature / spread))
    chosen = []
    for index in np.argsort(-noisy, kind="stable")[:width]:
        if index < head.size:
            chosen.append(Candidate(int(head[index]), float(log_probs[index])))
        else:
            token = draw.pick_rest(scores, rest, key)
            chosen.append(Candidate(token, float(log_probs[index]) + log(REST_SHARE)))
    return tuple(chosen)


def _ranked_plain(logits: npt.NDArray[np.floating], width: int, spread: float) -> tuple[Candidate, ...]:
    """Without noise, in the precision that the logits have."""
    head = draw.likeliest(logits, width)
    best = logits[head[0]]
    total = log(float(np.exp((logits - best) / spread).sum()))
    return tuple(Candidate(int(token), float(logits[token] - best) / spread - total) for token in head)


def _log_softmax(values: F64) -> F64:
    """[n] -> [n]."""
    shifted = values - values.max()
    logs: F64 = shifted - np.log(np.exp(shifted).sum())
    return logs
