"""Random cells for the tests of the closed forms."""

from dataclasses import dataclass

import numpy as np

from shared.planning.bandwidth.noise_density import NoisyUploads
from shared.planning.bandwidth.uploads import Cell, Floats, Uploads

NOISE_W_PER_HZ = 4e-21  # thermal noise at room temperature

CELLS = range(1000)


@dataclass(frozen=True)
class Draw:
    """A random cell. offset_ms: start offsets of both signs. bounded: it has floors and ceilings."""

    uploads: Uploads
    offset_ms: Floats
    bounded: bool


def draw(seed: int, users: int | None = None) -> Draw:
    """1 to 40 users with rates × 100 and payloads × 1,000, in a band of 10 kHz to 100 MHz; half of them bounded."""
    rng = np.random.default_rng(seed)
    n = users or int(rng.integers(1, 41))
    bandwidth = float(10 ** rng.uniform(4, 8))
    bounded = bool(seed % 2)
    floor, ceiling = limits(rng, n, bandwidth) if bounded else (None, None)
    uploads = Uploads.of(
        Cell("c", bandwidth),
        [f"u{k}" for k in range(n)],
        10 ** rng.uniform(3, 6, n),
        10 ** rng.uniform(-1, 1, n),
        weight=rng.uniform(0.1, 10, n),
        floor_hz=floor,
        ceiling_hz=ceiling,
    )
    scale = uploads.demand.sum() / bandwidth
    return Draw(uploads, scale * rng.uniform(-1, 2, n), bounded)


def draw_noisy(seed: int, users: int | None = None) -> tuple[NoisyUploads, Floats]:
    """A cell under noise density: received powers over six decades; and start offsets."""
    rng = np.random.default_rng(seed)
    n = users or int(rng.integers(1, 41))
    bandwidth = float(10 ** rng.uniform(4, 8))
    floor, ceiling = limits(rng, n, bandwidth) if seed % 2 else (None, None)
    uploads = NoisyUploads.of(
        Cell("c", bandwidth),
        [f"u{k}" for k in range(n)],
        10 ** rng.uniform(3, 6, n),
        NOISE_W_PER_HZ * bandwidth * 10 ** rng.uniform(-3, 3, n),
        NOISE_W_PER_HZ,
        floor_hz=floor,
        ceiling_hz=ceiling,
    )
    return uploads, rng.uniform(0, 2, n) * 1e3 * uploads.bits.sum() / bandwidth


def limits(rng: np.random.Generator, n: int, bandwidth: float) -> tuple[Floats, Floats]:
    """Floors of half the band at most, ceilings from there to twice an equal share; some users have none."""
    floor = rng.dirichlet(np.ones(n)) * bandwidth * rng.uniform(0, 0.5) * (rng.random(n) < 0.5)
    ceiling = np.where(rng.random(n) < 0.5, np.inf, floor + rng.uniform(0.1, 2, n) * bandwidth / n)
    return floor, ceiling
