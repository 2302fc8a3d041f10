"""Solver `exact` of objective `goodput`: all draft lengths of all users, each choice with its exact round."""

from typing import Final

import numpy as np

from shared.planning.goodput.drafting_cells import DraftingCells, Ints
from shared.planning.goodput.goodput_plan import goodput_of
from shared.planning.goodput.uplink import Uplink

MAX_CHOICES: Final = 1_000_000
CHUNK: Final = 20_000


def choices(cells: DraftingCells) -> int:
    """How many choices of draft lengths there are."""
    return int(len(cells.lengths) ** len(cells.users))


def best_lengths(cells: DraftingCells, uplink: Uplink) -> Ints:
    """The best draft lengths [K]. Meant for at most MAX_CHOICES.

    Where nobody can be in time, those that are best without deadlines.
    """
    options, users = len(cells.lengths), len(cells.users)
    best, goodput = np.full(users, cells.min_draft), -1.0
    digits = options ** np.arange(users)
    for first in range(0, choices(cells), CHUNK):
        numbers = np.arange(first, min(first + CHUNK, choices(cells)))
        lengths = cells.min_draft + numbers[:, None] // digits % options
        values = goodput_of(cells, uplink, lengths)
        at = int(values.argmax())
        if values[at] > goodput:
            best, goodput = lengths[at], float(values[at])
    return best if goodput > 0 else best_lengths(cells.without_deadlines(), uplink)
