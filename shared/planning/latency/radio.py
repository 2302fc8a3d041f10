"""When a cohort ends: the uploads of all cells before the pipeline, with shares chosen for the batches.

User k ends its upload after a_k/B_k; the cohort ends at max_k (a_k/B_k + w_k), w_k the tail of its batch. Under
`joint` the shares minimise that (form 3, offsets w_k); all other sharings do not look at the batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.bandwidth.shares import FORMS, Shares, with_offsets
from shared.planning.bandwidth.uploads import Floats
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.interval_costs import Ints


@dataclass(frozen=True, slots=True)
class Served:
    """A cohort's uploads and end. bandwidth_hz, upload_ms: [K], 0 for users in no cell."""

    latency_ms: float
    bandwidth_hz: Floats
    upload_ms: Floats


class Radio:
    """The cells of a cohort. Shares that do not depend on batches are computed once."""

    def __init__(self, cohort: Cohort) -> None:
        """Shares of the cells without `joint`."""
        users = len(cohort.users)
        self._band, self._upload = np.zeros(users), np.zeros(users)
        self._joint = []
        for cell in cohort.cells:
            members = np.array(cell.members, dtype=np.int64)
            if cell.sharing == "joint":
                self._joint.append((members, cell.uploads))
            else:
                self._set(members, FORMS[cell.sharing](cell.uploads), self._band, self._upload)
        self._fixed = np.ones(users, dtype=np.bool_)
        for members, _ in self._joint:
            self._fixed[members] = False

    @property
    def joint(self) -> bool:
        """Whether any cell's shares depend on the batches."""
        return bool(self._joint)

    def served(self, tail_ms: Floats) -> Served:
        """The best shares and the end of the cohort, for its users' tails w_k [K]."""
        band, upload = self._band.copy(), self._upload.copy()
        for members, uploads in self._joint:
            self._set(members, with_offsets(uploads, tail_ms[members]), band, upload)
        return Served(float((upload + tail_ms).max()), band, upload)

    def bound_ms(self, tail_ms: Floats) -> Floats:
        """A lower bound on the ends [...] for many users' tails [..., K]; exact without `joint`.

        a/(T − d) is convex in d, so that Σ a_k/(T − d_k) = B with all d_k at their mean, weighted by a, has no later
        root: T ≥ Σa/B + mean d (Jensen). And nobody is faster than with its ceiling.
        """
        bound = np.where(self._fixed, self._upload + tail_ms, -np.inf).max(axis=-1)
        for members, uploads in self._joint:
            tails, demand = tail_ms[..., members], uploads.demand
            total = float(demand.sum())
            mean = tails @ (demand / total) if total > 0 else tails.min(axis=-1)
            bound = np.maximum(bound, total / uploads.cell.bandwidth_hz + mean)
            alone = (tails + demand / uploads.limits.ceiling_hz).max(axis=-1)
            bound = np.maximum(bound, alone)
        return np.asarray(bound)

    @staticmethod
    def _set(members: Ints, shares: Shares, band: Floats, upload: Floats) -> None:
        band[members], upload[members] = shares.bandwidth_hz, shares.upload_ms


def user_tails(order: Sequence[int], first: Ints, end: Ints, tails_ms: Floats) -> Floats:
    """The tails of users [..., K], from those of batches [first, end) of an order [..., n].

    Batches may come in any sequence; they cover the order.
    """
    sequence = np.argsort(first, axis=-1)
    sizes = np.take_along_axis(end - first, sequence, axis=-1)
    by_position = np.repeat(np.take_along_axis(tails_ms, sequence, axis=-1).ravel(), sizes.ravel())
    result = np.empty((*tails_ms.shape[:-1], len(order)))
    result[..., np.asarray(order)] = by_position.reshape(result.shape)
    return result
