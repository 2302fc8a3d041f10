"""Users' speed as time goes on, and how soon after a step it has settled."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from loadgen.request import Record

Floats = npt.NDArray[np.floating[Any]]
WIDTH_S: Final = 4.0  # of the window that rolls
STEP_S: Final = 0.5
WITHIN: Final = 0.05  # a speed has settled that stays within this share of what it settles at


def rolling_speed(records: Sequence[Record], until: float) -> tuple[Floats, Floats]:
    """Tokens per second of a user, mean over those who are being answered, in the WIDTH_S before each time.

    records: of one or more runs of the same length, whose clocks begin with their load. Returns times [n] and speeds
    [n], nan where nobody is answered. A piece's tokens count as received evenly since the piece before.
    """
    edges = np.arange(0.0, until + STEP_S, STEP_S)
    tokens, seconds = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for record in records:
        for before, piece in pairwise(record.chunks):
            if piece.at > before.at:
                shares = np.clip(edges[1:], before.at, piece.at) - np.clip(edges[:-1], before.at, piece.at)
                seconds += shares
                tokens += shares * len(piece.tokens) / (piece.at - before.at)
    width = round(WIDTH_S / STEP_S)
    window = np.ones(width)
    spent = np.convolve(seconds, window, "valid")
    with np.errstate(invalid="ignore", divide="ignore"):
        speeds = np.convolve(tokens, window, "valid") / spent
    return edges[width:], np.where(spent > 0, speeds, np.nan)


@dataclass(frozen=True, slots=True)
class Settling:
    """share: of the oracle's speed, at the end of a phase. seconds: until it stays within WITHIN of that share; a phase
    that does not settle takes as long as it lasts."""

    share: float
    seconds: float


def settling(times: Floats, shares: Floats, start: float, end: float) -> Settling:
    """How a share of the oracle's speed settles in a phase. times, shares: [n]; start, end: of the phase.

    What it settles at is its mean over the last third. The window that rolls must lie within the phase.
    """
    within = (times >= start) & (times <= end) & ~np.isnan(shares)
    at, values = times[within] - start, shares[within]
    last = float(values[at >= (end - start) * 2 / 3].mean())
    off = np.flatnonzero(values < (1 - WITHIN) * last)
    settled = 0.0 if len(off) == 0 else float(at[off[-1]] + STEP_S)
    return Settling(last, min(settled, end - start))
