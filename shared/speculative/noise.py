"""Counter-based Gumbel noise g(seed, t, i), equal on every machine, so that device and target share it.

`mix` is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014). The bits are integers and equal everywhere; only the final logarithms are floating-point.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

MASK64: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15
MUL_1: Final = 0xBF58476D1CE4E5B9
MUL_2: Final = 0x94D049BB133111EB

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]


def mix(x: int) -> int:
    """Mix the bits of a 64-bit unsigned number; the result is one too."""
    x = (x + GOLDEN) & MASK64
    x = ((x ^ (x >> 30)) * MUL_1) & MASK64
    x = ((x ^ (x >> 27)) * MUL_2) & MASK64
    return x ^ (x >> 31)


def position_key(seed: int, position: int) -> int:
    """Key of the noise at an absolute position of a session with this seed."""
    return mix(mix(seed & MASK64) ^ position)


def noise_bits(key: int, ids: npt.NDArray[np.int64]) -> U64:
    """64 random bits per id under a position's key: mix(key + GOLDEN * id). ids: [n] -> [n]."""
    x = np.asarray(ids, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64((key + GOLDEN) & MASK64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(MUL_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(MUL_2)
    return x ^ (x >> np.uint64(31))


def gumbel(key: int, ids: npt.NDArray[np.int64]) -> F64:
    """Standard Gumbel noise per id. u = (52 high bits + 1/2) * 2^-52 is never 0 or 1. ids: [n] -> [n]."""
    u = ((noise_bits(key, ids) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    noise: F64 = -np.log(-np.log(u))
    return noise
