"""Shares under noise density: Lambert's W against the rate it inverts, optimality, infeasible rates."""

import re

import numpy as np
import pytest

from shared.planning.bandwidth.noise_density import NoisyUploads, min_max_noisy, required_hz
from shared.planning.bandwidth.uploads import Cell, CellError
from tests.shared.planning.bandwidth.cells import CELLS, NOISE_W_PER_HZ, draw_noisy
from tests.shared.planning.bandwidth.optimality import (
    band_residual,
    check_gaps,
    min_max_residual,
    search_level,
)

EXACT = 1e-9


def rate(uploads: NoisyUploads, band: np.ndarray) -> np.ndarray:
    """b·log2(1 + p·h/(N0·b)), bit/s."""
    return band * np.log1p(uploads.capacity * np.log(2) / band) / np.log(2)


def test_the_band_of_a_rate_has_that_rate() -> None:
    for seed in CELLS:
        uploads, _ = draw_noisy(seed)
        kappa = np.random.default_rng(seed).uniform(1e-6, 0.999, len(uploads.ids))
        band = required_hz(uploads, kappa * uploads.capacity)
        assert rate(uploads, band) == pytest.approx(kappa * uploads.capacity, rel=EXACT)


def test_no_rate_needs_no_band() -> None:
    uploads, _ = draw_noisy(0, users=3)
    assert required_hz(uploads, np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("kappa", [1.0, 1.5])
def test_a_rate_that_no_band_reaches_names_user_and_bound(kappa: float) -> None:
    uploads, _ = draw_noisy(0, users=3)
    rates, bound = np.array([0.5, kappa, 0.5]) * uploads.capacity, f"{uploads.capacity[1]:.6g}"
    with pytest.raises(CellError, match=rf"'u1': rate: .*{re.escape(bound)} bit/s"):
        required_hz(uploads, rates)


def test_optimality() -> None:
    for seed in CELLS:
        uploads, offset = draw_noisy(seed)
        for d in (np.zeros_like(offset), offset):
            shares = min_max_noisy(uploads, d)
            assert band_residual(shares.bandwidth_hz, uploads.cell.bandwidth_hz, uploads.limits) <= EXACT
            assert min_max_residual(shares.upload_ms + d, shares.bandwidth_hz, uploads.limits) <= EXACT


@pytest.mark.slow
def test_no_optimiser_ends_earlier() -> None:
    gaps = []
    for seed in CELLS:
        uploads, offset = draw_noisy(seed, users=2 + seed % 5)
        total = uploads.cell.bandwidth_hz
        ours = float((min_max_noisy(uploads, offset).upload_ms + offset).max())

        def ends(x: np.ndarray, uploads: NoisyUploads = uploads, offset: np.ndarray = offset) -> np.ndarray:
            return 1e3 * uploads.bits / rate(uploads, x * uploads.cell.bandwidth_hz) + offset

        def slopes(x: np.ndarray, uploads: NoisyUploads = uploads) -> np.ndarray:
            band = x * uploads.cell.bandwidth_hz
            snr = uploads.capacity * np.log(2) / band
            gain = (np.log1p(snr) - snr / (1 + snr)) / np.log(2) * uploads.cell.bandwidth_hz
            return -1e3 * uploads.bits / rate(uploads, band) ** 2 * gain

        found = search_level(ends, slopes, np.full(len(offset), 1 / len(offset)), total, uploads.limits, ours)
        gaps.append(float(ends(found / total).max()) / ours - 1)
    check_gaps(gaps)


def test_little_noise_is_the_form_of_a_fixed_efficiency() -> None:
    """Of equal users everybody has an equal share, whatever the noise."""
    uploads = NoisyUploads.of(Cell("c", 1e6), ["a", "b"], [1e5, 1e5], [1e-9, 1e-9], NOISE_W_PER_HZ)
    assert min_max_noisy(uploads).bandwidth_hz == pytest.approx([5e5, 5e5])


@pytest.mark.parametrize(
    ("received", "noise", "named"),
    [
        ([1e-9, np.nan], NOISE_W_PER_HZ, "'b': received_w"),
        ([1e-9, -1.0], NOISE_W_PER_HZ, "'b': received_w"),
        ([1e-9, 1e-9], 0.0, "noise_w_per_hz"),
        ([1e-9, 1e-9], np.nan, "noise_w_per_hz"),
    ],
)
def test_bad_gains_are_refused(received: list[float], noise: float, named: str) -> None:
    with pytest.raises(CellError, match=named):
        NoisyUploads.of(Cell("c", 1e6), ["a", "b"], [1e5, 1e5], received, noise)
