"""How a session's tokens are chosen: the part of a request that the acceptance rule reads."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling settings of one session.

    temperature 0 means the target's likeliest token (no noise); top_k 0 means no limit; top_p 1.0 means
    no cut. seed is a 64-bit unsigned number. `vocab` is the number of real tokens V: logits beyond it are
    padding rows of the output head and are never chosen, by device or target.
    """

    seed: int
    vocab: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
