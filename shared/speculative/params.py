"""Sampling parameters: the part of a request that the acceptance rule reads."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters of one session.

    seed: 64-bit unsigned number. vocab: number of tokens V; logits beyond it are padding rows of the output head, which
    neither device nor target ever chooses. temperature: 0 = greedy, without noise. top_k: 0 = no limit. top_p: 1.0 = no
    cut.
    """

    seed: int
    vocab: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
