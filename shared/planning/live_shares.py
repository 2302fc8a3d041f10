"""Shares of a cell among devices that are serving: from what each still has to carry to the band it may use."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from shared.cells.sharing import min_width_hz
from shared.planning.bandwidth.shares import Shares, min_max, min_weighted_sum, uniform, with_offsets
from shared.planning.bandwidth.uploads import Cell, Uploads
from shared.planning.bandwidth_rules import Bandwidth

MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True)
class Demand:
    """What a device and its sessions have before them.

    eta: bit/s/Hz of its link, or a factor where the band is in bit/s. bits: still to cross it, there and back. rest_s:
    seconds that its last answer takes beside that: drafting, verification, delays. weight: of its transfers in
    `weighted`, such as its number of sessions. Raises ValueError.
    """

    eta: float
    bits: float = 0.0
    rest_s: float = 0.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.eta < inf:
            raise ValueError(f"eta: {self.eta:g}; it must be above zero and finite")


def shares_hz(rule: Bandwidth, band_hz: float, demands: Mapping[str, Demand]) -> dict[str, float]:
    """The band of each device in Hz, together `band_hz`.

    uniform: the same band. fair: the same rate. minmax: all have carried what they have at the same time. weighted: the
    least weighted sum of these times. joint: all have their last answer at the same time, so that who has more left to
    draft and verify gets more of the band now. Every device has a least width, so that a share of nothing does not
    starve the messages of control. Without anything to carry: the same band.
    """
    if not demands:
        return {}
    if rule == "fair":
        slowness = {device: 1 / demand.eta for device, demand in demands.items()}
        return {device: band_hz * slow / sum(slowness.values()) for device, slow in slowness.items()}
    if not any(demand.bits for demand in demands.values()):
        rule = "uniform"
    uploads = _uploads(band_hz, demands)
    shares = _shares(rule, uploads, demands)
    return dict(zip(demands, map(float, shares.bandwidth_hz), strict=True))


def _shares(rule: Bandwidth, uploads: Uploads, demands: Mapping[str, Demand]) -> Shares:
    if rule == "minmax":
        return min_max(uploads)
    if rule == "weighted":
        return min_weighted_sum(uploads)
    if rule == "joint":
        return with_offsets(uploads, np.array([MS_PER_S * demand.rest_s for demand in demands.values()]))
    return uniform(uploads)


def _uploads(band_hz: float, demands: Mapping[str, Demand]) -> Uploads:
    floors = [min_width_hz(band_hz, len(demands), demand.eta) for demand in demands.values()]
    return Uploads.of(
        Cell("live", band_hz),
        tuple(demands),
        [demand.bits for demand in demands.values()],
        [demand.eta for demand in demands.values()],
        weight=[demand.weight for demand in demands.values()],
        floor_hz=floors,
    )
