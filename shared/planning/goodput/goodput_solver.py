"""Solver `outrider` of objective `goodput`: lengths by marginal gain at given times and prices, then exchanges.

If all drafts have to be there by T, a token costs band: of the share that is needed, (a/B)/(T − d), the step to the
next length. With a price μ on a cell's band and λ on a millisecond, user k's best length maximises

    E_k(l) − λ·V'·l − μ·w_k(l, T),

V' the time that a drafted token adds to the pass. Without a message's own bits its marginal gain α^(l+1) falls with l,
and its marginal cost λ·V' + μ·(a_k(1)/B)·T'/((T' − l·g)·(T' − (l+1)·g)), T' = T − comm, grows: so it drafts while the
gain is above the cost, and who is accepted more drafts more. μ is the price at which the shares add up to the cell, by
bisection. λ is the goodput itself (Dinkelbach). Where the pass takes the longest draft's time for all rows (the padded
law), every longest draft is tried. Rounds are searched on a grid between those that can still beat the best plan known,
then around the best, and where a user is just in time; every choice of lengths is scored with the earliest T for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.planning.bandwidth.uploads import Bools, Floats
from shared.planning.goodput.drafting_cells import DraftingCells, Ints
from shared.planning.goodput.exchange import exchanged, shortened
from shared.planning.goodput.goodput_plan import GoodputPlan, goodput_of, plan_of, round_ms
from shared.planning.goodput.uplink import BestShares, Uplink

GRIDS: Final = (24, 16, 16)  # rounds of the whole range, then of smaller ones around the best
NARROWER: Final = 0.15  # of a range, next to the one before
DEADLINE_ROUNDS: Final = 100  # rounds with which a user is just in time
PRICE_STEPS: Final = 24
PASSES: Final = 6  # of bisection, for the time of the pass where deadlines depend on it
FINALISTS: Final = 4
EXCHANGED_USERS: Final = 64  # for more, exchanges take seconds and gain little, except with deadlines


@dataclass
class _Best:
    """The best choices so far, best first: goodput per ms, lengths [K]."""

    kept: list[tuple[float, Ints]]

    @property
    def goodput(self) -> float:
        return self.kept[0][0]

    @property
    def lengths(self) -> Ints:
        return self.kept[0][1]

    def add(self, cells: DraftingCells, uplink: Uplink, lengths: Ints) -> None:
        """Add choices [n, K], each once."""
        values = goodput_of(cells, uplink, lengths)
        for at in np.argsort(-values, kind="stable")[:FINALISTS]:
            if not any(np.array_equal(lengths[at], known) for _, known in self.kept):
                self.kept.append((float(values[at]), lengths[at]))
        self.kept = sorted(self.kept, key=lambda each: -each[0])[:FINALISTS]


def solve(cells: DraftingCells, uplink: Uplink | None = None) -> GoodputPlan:
    """The best plan found. uplink None: shares chosen for the drafts."""
    uplink = BestShares(cells) if uplink is None else uplink
    return plan_of(cells, uplink, best_lengths(cells, uplink))


def best_lengths(cells: DraftingCells, uplink: Uplink) -> Ints:
    """The best draft lengths found [K]. Where nobody can be in time, those that are best without deadlines."""
    best = _Best([])
    best.add(cells, uplink, np.tile(np.array(cells.lengths)[:, None], len(cells.users)))
    low, high = _rounds(cells, best.goodput)
    bounds, rounds = _longest_drafts(cells), _just_in_time(cells, low, high)
    for size in GRIDS:
        if low >= high:
            break
        _search(cells, uplink, np.append(np.geomspace(low, high, size), rounds), bounds, best)
        middle = np.clip(round_ms(cells, uplink, best.lengths), low, high)
        width = (high / low) ** (NARROWER / 2)
        low, high, rounds = max(low, middle / width), min(high, middle * width), np.empty(0)
        bounds = [each for each in bounds if abs(each - best.lengths.max()) <= 1] or bounds
    if len(cells.users) <= EXCHANGED_USERS:
        best.add(cells, uplink, np.array([exchanged(cells, uplink, lengths) for _, lengths in best.kept]))
    if best.goodput == 0:
        return best_lengths(cells.without_deadlines(), uplink)
    return best.lengths


def _rounds(cells: DraftingCells, goodput: float) -> tuple[float, float]:
    """Between which times the rounds of better plans are, except for those without any draft."""
    tokens = cells.tokens[:, cells.max_draft]
    high = float((tokens * cells.deadline_ms).max())
    if goodput > 0:
        high = min(high, float(tokens.sum()) / goodput)
    shortest = max(1, cells.min_draft)
    soonest = (cells.offset_ms + cells.alone_ms)[:, min(shortest, cells.max_draft)]
    drafts = soonest.max() if cells.min_draft else soonest.min()
    return float(drafts + cells.verify_ms(shortest, len(tokens) * cells.min_draft)), high


def _just_in_time(cells: DraftingCells, low: float, high: float) -> Floats:
    """Rounds between two with which a user is just in time with a draft of some length."""
    rounds = np.unique(cells.deadline_ms[:, None] * cells.tokens[:, cells.min_draft :])
    inside = rounds[(rounds > low) & (rounds < high)]
    return inside[:: 1 + len(inside) // DEADLINE_ROUNDS]


def _search(cells: DraftingCells, uplink: Uplink, rounds: Floats, bounds: Sequence[int], best: _Best) -> None:
    """Add the best lengths for rounds of these times and drafts up to these bounds.

    The later drafts may arrive, the more is drafted and the longer the pass. A pass like that of the best plan only
    shifts the grid. But where deadlines make the round itself matter, the pass is found by bisection.
    """
    users = len(cells.users)
    for longest in bounds:
        low = np.full(len(rounds), cells.verify_ms(longest, users * cells.min_draft))
        high = np.full(len(rounds), cells.verify_ms(longest, users * longest))
        verify = np.full(len(rounds), cells.verify_ms(longest, min(best.lengths.sum(), users * longest)))
        exact = np.isfinite(cells.deadline_ms).any() and (high > low).all()
        for _ in range(PASSES if exact else 1):
            longer = _add(cells, uplink, rounds, verify, longest, best)
            low, high = np.where(longer, verify, low), np.where(longer, high, verify)
            verify = (low + high) / 2


def _add(
    cells: DraftingCells,
    uplink: Uplink,
    rounds: Floats,
    verify_ms: Floats,
    longest: int,
    best: _Best,
) -> Bools:
    """Add the best lengths for rounds and passes of these times [n]; where [n] the pass takes longer than that."""
    shares = uplink.needed(rounds - verify_ms)
    shares[:, :, longest + 1 :] = np.inf
    shares[:, :, : cells.min_draft] = np.inf
    possible = _promising(cells, shares, rounds, best.goodput)
    longer = np.zeros(len(rounds), dtype=np.bool_)
    if possible.any():
        lengths = _by_price(cells, shares[possible], rounds[possible], best.goodput, longest)
        best.add(cells, uplink, lengths.reshape(-1, len(cells.users)))
        if np.isfinite(cells.deadline_ms).any() and len(cells.users) <= EXCHANGED_USERS:
            best.add(cells, uplink, shortened(cells, uplink, lengths[0], rounds[possible]))
        longer[possible] = cells.verify_ms(longest, lengths[0].sum(axis=1)) > verify_ms[possible]
    return longer


def _promising(cells: DraftingCells, shares: Floats, rounds: Floats, goodput: float) -> Bools:
    """Rounds [n] in which everybody can draft, and which would beat a goodput if band cost nothing."""
    allowed = np.isfinite(shares)
    tokens = np.where(allowed, cells.tokens, 0.0).max(axis=2).sum(axis=1)
    return np.asarray(np.all(allowed.any(axis=2), axis=1) & (tokens > goodput * rounds))


def _longest_drafts(cells: DraftingCells) -> list[int]:
    """The longest drafts to try: all where the pass is padded to them, else the bound alone."""
    lengths = np.array(cells.lengths)
    grows = np.diff(cells.verify_ms(lengths, np.zeros(len(lengths)))) > 0
    bounds: list[int] = lengths[np.append(grows, True)].tolist()
    return bounds


def _by_price(cells: DraftingCells, shares: Floats, rounds: Floats, goodput: float, longest: int) -> Ints:
    """Lengths [2, n, K] at the lowest prices of band at which n choices fit, and just below.

    shares [n, K, max_draft + 1]: inf where a length is not allowed. rounds [n]: which decide who is in time.
    """
    per_token = float(cells.verify_ms(longest, 1) - cells.verify_ms(longest, 0))
    in_time = rounds[:, None, None] <= cells.deadline_ms[:, None] * cells.tokens
    value = np.where(in_time, cells.tokens, 0.0) - goodput * per_token * np.arange(cells.max_draft + 1)
    allowed = np.isfinite(shares)
    value, finite = np.where(allowed, value, -np.inf), np.where(allowed, shares, 0.0)
    member = np.zeros((len(cells.users), len(cells.cells)))
    for at, cell in enumerate(cells.cells):
        member[list(cell.members), at] = 1.0

    def chosen(price: Floats) -> tuple[Ints, Floats]:
        """The best lengths [n, K] at prices [n, cells], and the sums of their shares [n, cells]."""
        lengths = np.argmax(value - (price @ member.T)[:, :, None] * finite, axis=2)
        return lengths, np.take_along_axis(finite, lengths[:, :, None], axis=2)[:, :, 0] @ member

    low = np.zeros((len(rounds), len(cells.cells)))
    high = np.full_like(low, float(cells.tokens.sum()))
    for _ in range(PRICE_STEPS):
        middle = (low + high) / 2
        fits = chosen(middle)[1] <= 1.0
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    return np.stack([chosen(high)[0], chosen(low)[0]])
