"""The text of the modelled pair: a chain of hashes in place of a language model.

The state after a prefix is a rolling hash of its tokens. The target's next token is a function of that state and the
session's seed. So one missing, additional or misplaced token in any cache changes all later text, and `expected_text`
computes the right text of a session in microseconds.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from shared.speculative.noise import mix
from shared.speculative.params import SamplingParams

START: Final = mix(0x6F7574726964)  # state of the empty prefix
STOP: Final = 0  # the only stop token of the modelled target
LOWEST: Final = 0.3  # chance of a first candidate
_CHANCE_KEY: Final = 0x6368616E6365
_DRAFTER_KEY: Final = 0x6C75636B  # makes the drafter's random bits independent of the text's


def extend(state: int, token: int) -> int:
    """The state after one more token."""
    return mix(state ^ token)


class Chain:
    """The tokens in a cache; states[i] is the state after the first i tokens."""

    __slots__ = ("states", "tokens")

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.tokens: list[int] = []
        self.states: list[int] = [START]
        self.feed(tokens)

    def feed(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        state = self.states[-1]
        for token in tokens:
            state = mix(state ^ token)  # extend(), without the call
            self.tokens.append(token)
            self.states.append(state)

    def common(self, ids: Sequence[int]) -> int:
        """Length of the longest common prefix of the tokens and `ids`."""
        shorter = min(len(self.tokens), len(ids))
        if self.tokens[:shorter] == list(ids[:shorter]):  # nearly always
            return shorter
        pairs = zip(self.tokens, ids, strict=False)
        return next(i for i, (cached, token) in enumerate(pairs) if cached != token)

    def cut(self, length: int) -> None:
        """Keep the first `length` tokens."""
        del self.tokens[length:]
        del self.states[length + 1 :]


def choose(state: int, sampling: SamplingParams, stop_every: int = 0) -> int:
    """The target's token in this state. STOP about once in `stop_every` tokens; never if that is 0."""
    bits = mix(state ^ _mixed(sampling.seed))
    if stop_every and bits % stop_every == 0:
        return STOP
    return 1 + (bits >> 8) % (sampling.vocab - 1)


def guesses_right(seed: int, position: int, alpha: float) -> bool:
    """Whether the drafter is right at a position: with probability alpha, the same under every policy."""
    return _luck(seed, position) < alpha * 2.0**64


def right_rank(seed: int, position: int, chances: Sequence[float]) -> int:
    """Which candidate is the target's token at a position: rank r with probability chances[r], else len(chances).

    The first one is right where `guesses_right` says so of alpha = chances[0].
    """
    luck, total = _luck(seed, position), 0.0
    for rank, chance in enumerate(chances):
        total += chance
        if luck < total * 2.0**64:
            return rank
    return len(chances)


def spread_chances(state: int, mean: float, count: int) -> tuple[float, ...]:
    """Chances of a node's first `count` candidates where they differ from prefix to prefix, likeliest first.

    The first one's is q = LOWEST + (1 - LOWEST) · V^((1 - mean) / (mean - LOWEST)), V uniform; the next have
    (1 - q) · 0.4, 0.2, … (as `outrider bench pipeline` has it).
    """
    uniform = ((mix(state ^ _CHANCE_KEY) >> 11) + 1) * 2.0**-53
    first = LOWEST + (1.0 - LOWEST) * uniform ** ((1.0 - mean) / (mean - LOWEST))
    return (first, *((1.0 - first) * 0.8 * 2.0**-rank for rank in range(1, count)))


def _luck(seed: int, position: int) -> int:
    """Random bits of the drafter at a position."""
    return mix(_mixed(seed ^ _DRAFTER_KEY) ^ position)


def expected_text(
    prompt: Sequence[int],
    sampling: SamplingParams,
    n: int,
    stop_every: int = 0,
    stop_ids: Sequence[int] = (STOP,),
) -> tuple[int, ...]:
    """The first n tokens after a prompt, or fewer, up to and including the first of stop_ids."""
    state = Chain(prompt).states[-1]
    text: list[int] = []
    while len(text) < n and not (text and text[-1] in stop_ids):
        text.append(choose(state, sampling, stop_every))
        state = extend(state, text[-1])
    return tuple(text)


@lru_cache(maxsize=1 << 16)
def _mixed(seed: int) -> int:
    """mix(seed), which is needed for every token of a session."""
    return mix(seed)


def modelled_vocabulary(vocab: int) -> str:
    """Vocabulary hash of a modelled pair with this many tokens."""
    return f"modelled-{vocab}"
