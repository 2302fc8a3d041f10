"""The examples to learn from: what `awc` would have seen, and what the tokens of its sessions cost under every choice.

A label is the whole price of a choice, queues and the waits of others included: the same requests were simulated under
every arm with the same luck, so for the sessions that are there at a look,

    cost of an arm = Σ time from due to end under that arm / Σ tokens          (milliseconds)

By Little's law the arm that makes it least also serves the most tokens at a given number of sessions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cli.command.errors import CommandError
from cli.train_awc.cell import ARMS
from shared.planning.windows.cost_network import Choice
from shared.planning.windows.window import MAX_K

Floats = npt.NDArray[np.float64]
CHOICES: Final[tuple[Choice, ...]] = (("none", 0), *(("distributed", k) for k in range(1, MAX_K + 1)))
FOLDS: Final = 5  # groups of cells; each is judged by a network that was fitted to the others
# Looks under an arm that is far from the best show loads that a good controller never brings about: log cost by which
# an arm must be worse for its looks to count 1/e.
NEAR: Final = 0.3


@dataclass(frozen=True)
class Examples:
    """Looks of some cells. features: [L, F]; predicted, log_costs: [L, C]; weights: [L], 1 for each cell; cell: [L]."""

    features: Floats
    predicted: Floats
    log_costs: Floats
    weights: Floats
    cell: npt.NDArray[np.int64]

    def of(self, chosen: npt.NDArray[np.bool_]) -> "Examples":
        """Some of the looks. chosen: [L]"""
        return Examples(
            self.features[chosen],
            self.predicted[chosen],
            self.log_costs[chosen],
            self.weights[chosen],
            self.cell[chosen],
        )

    @property
    def fold(self) -> npt.NDArray[np.int64]:
        """Each look's fold, [L]. Whole cells are held out: looks of one cell resemble each other."""
        return self.cell % FOLDS

    @property
    def digest(self) -> str:
        """SHA-256 of all figures."""
        digest = hashlib.sha256()
        for part in (self.features, self.predicted, self.log_costs, self.weights, self.cell):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def read_examples(files: Sequence[Path]) -> Examples:
    """The examples of the cells' files, numbered in order. Raises CommandError."""
    if len(files) < FOLDS:
        raise CommandError(
            f"--cells: {len(files)}; give at least {FOLDS}, for a cell to be held out in each fold"
        )
    parts = [_of_cell(number, file) for number, file in enumerate(files)]
    columns = zip(*((p.features, p.predicted, p.log_costs, p.weights, p.cell) for p in parts), strict=True)
    return Examples(*(np.concatenate(column) for column in columns))


def _of_cell(number: int, file: Path) -> Examples:
    with np.load(file, allow_pickle=False) as found:
        took, tokens, present = found["took_ms"], found["tokens"], found["present"]
        features, predicted, arm = found["features"], found["predicted"], found["arm"]
    complete = np.isfinite(took).all(axis=0)
    present = (present & complete).astype(float)
    kept = present.sum(axis=1) > 0
    ms = present @ np.where(complete, took, 0.0).T  # [L, arms]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_arms = np.log(ms / (present @ tokens)[:, None])[kept]
    log_costs = np.array([np.interp(np.arange(MAX_K + 1), ARMS, costs) for costs in of_arms])
    worse = of_arms[np.arange(len(of_arms)), arm[kept]] - of_arms.min(axis=1)
    weights = np.exp(-worse / NEAR)
    weights /= weights.sum()
    lengths = [k for _, k in CHOICES]
    return Examples(
        features[kept].astype(float),
        predicted[kept][:, lengths].astype(float),
        log_costs[:, lengths],
        weights,
        np.full(len(log_costs), number),
    )
