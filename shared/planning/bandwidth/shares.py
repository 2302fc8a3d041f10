"""Closed forms of a cell's shares at fixed spectral efficiency: uniform, min–max, weighted sum, start offsets.

User k uploads D_k bits at η_k bit/s/Hz, so that a band of B_k takes a_k/B_k, a_k = D_k/η_k; Σ B_k ≤ B. All forms keep
within floors and ceilings: they are one water-filling with different demands.
Source: forms 1 to 4, derived from the problem of Zhu, Chen, Zhao, Shin, Nallanathan, arXiv 2510.11331.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.planning.bandwidth.uploads import CellError, Floats, Uploads
from shared.planning.bandwidth.water_filling import FixedEfficiency, fill

SharingName = Literal["minmax", "joint", "uniform", "weighted"]


@dataclass(frozen=True, slots=True)
class Shares:
    """The bands of a cell's n users in Hz [n], and the times that their uploads take with them in ms [n]."""

    bandwidth_hz: Floats
    upload_ms: Floats


def uniform(uploads: Uploads) -> Shares:
    """The same band for everybody: B_k = B/n, whatever they have to upload.

    Its slowest upload takes max a/mean a times as long as that of `min_max`.
    """
    everybody = np.ones(len(uploads.ids))
    return _filled(uploads, everybody)


def min_max(uploads: Uploads) -> Shares:
    """The smallest slowest upload (form 1): all end together, B_k = B·a_k/Σa, T = Σa/B.

    With floors and ceilings (form 4) those whom no limit holds end together: B_k = clip(a_k/T, floor_k, ceiling_k).
    """
    return _filled(uploads, uploads.demand)


def min_weighted_sum(uploads: Uploads) -> Shares:
    """The smallest Σ w_k·a_k/B_k (form 2): B_k ∝ sqrt(w_k·a_k), of value (Σ sqrt(w·a))²/B.

    Where w_k·a_k/B_k² is one price for all, bands are sqrt(w_k·a_k) over one level: a water-filling of these demands.
    """
    return _filled(uploads, np.sqrt(uploads.weight * uploads.demand))


def with_offsets(uploads: Uploads, offset_ms: Floats) -> Shares:
    """The smallest T = max (d_k + a_k/B_k) (form 3): B_k = a_k/(T − d_k), T the root of Σ a_k/(T − d_k) = B.

    offset_ms [n]: d_k, what comes before or after user k's upload; may be negative. Raises CellError.
    """
    offset = np.asarray(offset_ms, dtype=np.float64)
    if offset.shape != (len(uploads.ids),):
        raise CellError(f"offset_ms: {offset.size} values for {len(uploads.ids)} users")
    if not np.isfinite(offset).all():
        at = int(np.argmin(np.isfinite(offset)))
        raise CellError(f"user {uploads.ids[at]!r}: offset_ms: {offset[at]:g}; it must be finite")
    return _filled(uploads, uploads.demand, offset)


FORMS: dict[SharingName, Callable[[Uploads], Shares]] = {
    "minmax": min_max,
    "uniform": uniform,
    "weighted": min_weighted_sum,
}


def _filled(uploads: Uploads, demand: Floats, offset_ms: Floats | None = None) -> Shares:
    offset = np.zeros(len(demand)) if offset_ms is None else offset_ms
    bands = fill(FixedEfficiency(demand), demand > 0, offset, uploads.cell.bandwidth_hz, uploads.limits)
    return Shares(bands, FixedEfficiency(uploads.demand).time_ms(bands))
