"""Golden vectors: noise bits, noise and draws that every implementation must reproduce.

`golden.json` is part of the protocol: changing it changes every sampled text. Tests check NumPy and torch on the CPU
against it, the verifier's benchmark torch on CUDA.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.speculative.noise import F64, U64
from shared.speculative.params import SamplingParams

PATH = Path(__file__).with_name("golden.json")


@dataclass(frozen=True, slots=True)
class GoldenNoise:
    """Noise of a few ids at one position. bits: [n], equal on every machine; gumbel: [n], equal up to rounding."""

    seed: int
    position: int
    ids: tuple[int, ...]
    bits: U64
    gumbel: F64


@dataclass(frozen=True, slots=True)
class GoldenDraw:
    """The token drawn from `example_logits(params.vocab, sharpness)`."""

    params: SamplingParams
    position: int
    sharpness: float
    token: int


def golden() -> tuple[list[GoldenNoise], list[GoldenDraw]]:
    """All vectors of golden.json: noise and draws."""
    data = json.loads(PATH.read_text())
    noise = [
        GoldenNoise(
            n["seed"],
            n["position"],
            tuple(n["ids"]),
            np.array([int(bits, 16) for bits in n["bits"]], dtype=np.uint64),
            np.array(n["gumbel"], dtype=np.float64),
        )
        for n in data["noise"]
    ]
    draws = [
        GoldenDraw(SamplingParams(**d["params"]), d["position"], d["sharpness"], d["token"])
        for d in data["draws"]
    ]
    return noise, draws


def example_logits(vocab: int, sharpness: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Logits that are equal on every machine: multiples of 1/128 in [0, 32), times sharpness. [vocab]."""
    scrambled = (np.arange(vocab, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(4096)
    logits: np.ndarray[tuple[int], np.dtype[np.float32]] = (scrambled / 128 * sharpness).astype(np.float32)
    return logits
