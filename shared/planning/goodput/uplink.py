"""How a cell's band is shared among drafts: chosen for their lengths, or fixed. All times in ms, all bands in shares.

With shares chosen, user k's draft of l tokens is there by T with no less than

    w_k(l) = max(floor_k, (a_k(l)/B)/(T − l·g_k − comm_k)) of its cell's band,

and the earliest T for given lengths is the root of Σ w_k = 1, or the time of a user at its ceiling.
"""

from typing import Final, Protocol

import numpy as np

from shared.planning.bandwidth.shares import Shares, uniform, with_offsets
from shared.planning.bandwidth.uploads import Floats
from shared.planning.goodput.drafting_cells import DraftCell, DraftingCells, Ints

MAX_STEPS: Final = 100  # of Newton's method; it takes about log2 K + 5
CONVERGED: Final = 1e-14  # relative


class Uplink(Protocol):
    """The uploads of all users, for any draft lengths."""

    def upload_ms(self, lengths: Ints) -> Floats:
        """When the last draft has been uploaded [...], for users' lengths [..., K]."""
        ...

    def needed(self, time_ms: Floats) -> Floats:
        """Shares [n, K, max_draft + 1] with which drafts are there by times [n]; inf where no share is enough."""
        ...

    def shares(self, cell: DraftCell, lengths: Ints) -> Shares:
        """The shares of a cell for users' lengths [K]."""
        ...


class BestShares:
    """Shares that are best for the lengths: all whom no limit holds end together (form 3, with drafting as offset)."""

    def __init__(self, cells: DraftingCells) -> None:
        """Floors and ceilings as shares of their cells."""
        self._cells = cells
        users = len(cells.users)
        self._floor, self._ceiling = np.zeros(users), np.ones(users)
        for cell in cells.cells:
            members, hertz, limits = list(cell.members), cell.uploads.cell.bandwidth_hz, cell.uploads.limits
            self._floor[members] = limits.floor_hz / hertz
            self._ceiling[members] = limits.ceiling_hz / hertz

    def upload_ms(self, lengths: Ints) -> Floats:
        """Newton's method from the earliest time that ceilings allow, for each cell.

        The sum of shares falls with T and is convex, so that steps from the left never pass the root.
        """
        offset = self._cells.of_users(self._cells.offset_ms, lengths)
        alone = self._cells.of_users(self._cells.alone_ms, lengths)
        earliest = offset + alone / self._ceiling
        time = earliest.max(axis=-1)
        for cell in self._cells.cells:
            k = list(cell.members)
            start = earliest[..., k].max(axis=-1)
            time = np.maximum(time, _root(start, offset[..., k], alone[..., k], self._floor[k]))
        return np.asarray(time)

    def needed(self, time_ms: Floats) -> Floats:
        """w_k(l)."""
        room = time_ms[:, None, None] - self._cells.offset_ms
        alone = np.broadcast_to(self._cells.alone_ms, room.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(alone > 0, alone / room, 0.0)
        share = np.maximum(share, self._floor[:, None])
        possible = np.where(alone > 0, room > 0, room >= 0) & (share <= self._ceiling[:, None])
        return np.where(possible, share, np.inf)

    def shares(self, cell: DraftCell, lengths: Ints) -> Shares:
        """Form 3."""
        offset = self._cells.of_users(self._cells.offset_ms, lengths)
        return with_offsets(self._cells.uploads_of(cell, lengths), offset[list(cell.members)])


class EqualShares:
    """The same band for all users of a cell within floors and ceilings, whatever they draft."""

    def __init__(self, cells: DraftingCells) -> None:
        """The bands of all cells, and when each user's draft of each length is there."""
        self._cells = cells
        self._band_hz = {cell.members: uniform(cell.uploads).bandwidth_hz for cell in cells.cells}
        self._there = cells.offset_ms.copy()
        for cell in cells.cells:
            members, share = list(cell.members), self._band_hz[cell.members] / cell.uploads.cell.bandwidth_hz
            self._there[members] += cells.alone_ms[members] / share[:, None]

    def upload_ms(self, lengths: Ints) -> Floats:
        """The last of all."""
        return np.asarray(self._cells.of_users(self._there, lengths).max(axis=-1))

    def needed(self, time_ms: Floats) -> Floats:
        """Nothing of what is shared by choice, where the fixed band is enough."""
        return np.where(self._there <= time_ms[:, None, None], 0.0, np.inf)

    def shares(self, cell: DraftCell, lengths: Ints) -> Shares:
        """The fixed bands."""
        uploads, band = self._cells.uploads_of(cell, lengths), self._band_hz[cell.members]
        return Shares(band, uploads.demand / band)


def _root(start: Floats, offset: Floats, alone: Floats, floor: Floats) -> Floats:
    """T [...] ≥ start [...] with Σ max(floor, alone/(T − offset)) = 1 over [..., n], or start if that is enough."""
    time = start.copy()
    busy = alone > 0
    for _ in range(MAX_STEPS):
        room = np.where(busy, time[..., None] - offset, 1.0)
        share = alone / room
        above = share > floor
        excess = np.where(above, share, floor).sum(axis=-1) - 1.0
        slope = np.where(above, share / room, 0.0).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where((excess > 0) & (slope > 0), excess / slope, 0.0)
        time = time + step
        if (step <= CONVERGED * time).all():
            break
    return np.asarray(time)
