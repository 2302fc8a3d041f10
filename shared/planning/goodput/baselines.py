"""What plans of objective `goodput` are compared with: equal shares, one length for all, or both."""

import numpy as np

from shared.planning.goodput.drafting_cells import DraftingCells
from shared.planning.goodput.goodput_plan import GoodputPlan, goodput_of, plan_of
from shared.planning.goodput.goodput_solver import solve
from shared.planning.goodput.uplink import BestShares, EqualShares, Uplink


def equal_fixed(cells: DraftingCells) -> GoodputPlan:
    """Equal shares, and the best length that is the same for all."""
    return _best_fixed(cells, EqualShares(cells))


def equal_own(cells: DraftingCells) -> GoodputPlan:
    """Equal shares, and the best length of each user, by our solver."""
    return solve(cells, EqualShares(cells))


def best_fixed(cells: DraftingCells) -> GoodputPlan:
    """The best shares for each length that is the same for all, and the best of these lengths."""
    return _best_fixed(cells, BestShares(cells))


def equal_given(cells: DraftingCells, length: int) -> GoodputPlan:
    """Equal shares, and a given length for all."""
    return plan_of(cells, EqualShares(cells), np.full(len(cells.users), length))


def _best_fixed(cells: DraftingCells, uplink: Uplink) -> GoodputPlan:
    lengths = np.tile(np.array(cells.lengths)[:, None], len(cells.users))
    return plan_of(cells, uplink, lengths[int(goodput_of(cells, uplink, lengths).argmax())])
