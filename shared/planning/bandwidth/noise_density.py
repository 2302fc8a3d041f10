"""Shares where noise grows with the band (form 5): noise density N0 instead of noise power. Lambert's W.

A user who is received with p·h watts sends ρ = b·log2(1 + p·h/(N0·b)) over b Hz. The band that a rate needs:

    κ = ρ·N0·ln2/(p·h),  y = −W₋₁(−κ·e^(−κ))/κ,  b = p·h/(N0·(y − 1))

y − 1 is the signal-to-noise ratio. κ ≥ 1 is infeasible: a wider band lets in more noise, and no band reaches more than
p·h/(N0·ln2) bit/s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import lambertw

from shared.planning.bandwidth.shares import Shares
from shared.planning.bandwidth.uploads import (
    MS_PER_S,
    Cell,
    CellError,
    Floats,
    Limits,
    Values,
    checked_ids,
    non_negative,
    positive,
    refuse_starved,
)
from shared.planning.bandwidth.water_filling import fill

LN2: Final = float(np.log(2.0))
REFINEMENTS: Final = 3  # Newton steps on the SNR: W₋₁ alone has half the digits near κ = 1


@dataclass(frozen=True, slots=True)
class NoisyUploads:
    """The uploads of a cell's n users under noise of a given density. Make them with `NoisyUploads.of`.

    bits [n]: payloads. capacity [n]: p·h/(N0·ln2) in bit/s, the bound of a user's rate over any band.
    """

    cell: Cell
    ids: tuple[str, ...]
    bits: Floats
    capacity: Floats
    limits: Limits

    @classmethod
    def of(
        cls,
        cell: Cell,
        ids: Sequence[str],
        bits: Values,
        received_w: Values,
        noise_w_per_hz: float,
        *,
        floor_hz: Values | None = None,
        ceiling_hz: Values | None = None,
    ) -> "NoisyUploads":
        """Checked uploads. received_w: p_k·h_k. noise_w_per_hz: N0. Raises CellError."""
        names = checked_ids(cell, ids)
        payloads, received = non_negative(names, "bits", bits), positive(names, "received_w", received_w)
        if not 0 < noise_w_per_hz < np.inf:
            raise CellError(
                f"cell {cell.id!r}: noise_w_per_hz: {noise_w_per_hz:g}; it must be above zero and finite"
            )
        limits = Limits.of(cell, names, floor_hz, ceiling_hz)
        refuse_starved(cell, names, payloads, limits)
        return cls(cell, names, payloads, received / (noise_w_per_hz * LN2), limits)


def required_hz(uploads: NoisyUploads, rate: Values) -> Floats:
    """The bands [n] in Hz that these rates [n] in bit/s need. Raises CellError for κ ≥ 1, with user and bound."""
    rates = non_negative(uploads.ids, "rate", rate)
    too_fast = rates >= uploads.capacity
    if too_fast.any():
        at = int(np.argmax(too_fast))
        raise CellError(
            f"user {uploads.ids[at]!r}: rate: {rates[at]:.6g} bit/s; no band reaches "
            f"p·h/(N0·ln2) = {uploads.capacity[at]:.6g} bit/s (κ = {rates[at] / uploads.capacity[at]:.6g})"
        )
    return _band_hz(rates, uploads.capacity)


def min_max_noisy(uploads: NoisyUploads, offset_ms: Floats | None = None) -> Shares:
    """The smallest T = max (d_k + upload_k) under noise density, within floors and ceilings.

    At level T user k needs the band of the rate D_k/(T − d_k); the level at which they add up to B is the answer.
    """
    busy = uploads.bits > 0
    offset = np.zeros(len(uploads.ids)) if offset_ms is None else np.asarray(offset_ms, dtype=np.float64)
    demand = NoiseDensity(uploads.bits, uploads.capacity)
    bands = fill(demand, busy, offset, uploads.cell.bandwidth_hz, uploads.limits)
    return Shares(bands, demand.time_ms(bands))


@dataclass(frozen=True, slots=True)
class NoiseDensity:
    """Demand under noise density. bits [n]; capacity [n]: the bound of each rate, bit/s."""

    bits: Floats
    capacity: Floats

    def band_hz(self, time_ms: Floats) -> Floats:
        """The band of the rate D/t; inf where no band reaches it."""
        return _band_hz(MS_PER_S * self.bits / time_ms, self.capacity)

    def slope(self, time_ms: Floats, band_hz: Floats) -> Floats:
        """db/dt = −(D/t²)/(dρ/db), with dρ/db = (ln(1 + x) − x/(1 + x))/ln2 and the SNR x = capacity·ln2/b."""
        snr = self.capacity * LN2 / band_hz
        rate_per_hz = (np.log1p(snr) - snr / (1 + snr)) / LN2
        return -MS_PER_S * self.bits / time_ms**2 / rate_per_hz

    def time_ms(self, band_hz: Floats) -> Floats:
        """D/ρ(b); inf without a band, 0 where nothing is uploaded."""
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(band_hz > 0, band_hz * np.log1p(self.capacity * LN2 / band_hz) / LN2, 0.0)
            return np.where(self.bits > 0, MS_PER_S * self.bits / rate, 0.0)

    def take(self, users: npt.NDArray[np.bool_]) -> "NoiseDensity":
        """The demand of some users, chosen by a mask [n]."""
        return NoiseDensity(self.bits[users], self.capacity[users])


def _band_hz(rate: Floats, capacity: Floats) -> Floats:
    """b(ρ) by Lambert's W, branch −1; 0 for no rate, inf for κ ≥ 1."""
    kappa = rate / capacity
    inside = (kappa > 0) & (kappa < 1)
    k = kappa[inside]
    y = -np.real(lambertw(-k * np.exp(-k), -1)) / k
    snr = np.maximum(y - 1.0, np.finfo(float).eps)
    for _ in range(REFINEMENTS):  # of ln(1 + x) = κ·x, which is what y solves
        snr = np.maximum(snr - (np.log1p(snr) - k * snr) / (1 / (1 + snr) - k), snr / 2)
    band = np.where(kappa >= 1, np.inf, 0.0)
    band[inside] = capacity[inside] * LN2 / snr
    return band
