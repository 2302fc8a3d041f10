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
HELD_OUT: Final = 5  # one cell in so many is kept for judging
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

    def of(self, held_out: bool) -> "Examples":
        """Those that are held out, or the others. Whole cells are held out: looks of one cell resemble each other."""
        chosen = (self.cell % HELD_OUT == HELD_OUT - 1) == held_out
        parts = (self.features, self.predicted, self.log_costs, self.weights, self.cell)
        return Examples(*(part[chosen] for part in parts))

    @property
    def digest(self) -> str:
        """SHA-256 of all figures."""
        digest = hashlib.sha256()
        for part in (self.features, self.predicted, self.log_costs, self.weights, self.cell):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def read_examples(files: Sequence[Path]) -> Examples:
    """The examples of the cells' files. Raises CommandError."""
    parts = [_of_cell(number, file) for number, file in enumerate(files)]
    columns = zip(*((p.features, p.predicted, p.log_costs, p.weights, p.cell) for p in parts), strict=True)
    examples = Examples(*(np.concatenate(column) for column in columns))
    if not len(examples.of(held_out=True).cell):
        raise CommandError(f"--cells: {len(files)}; one in {HELD_OUT} is held out, so at least {HELD_OUT}")
    return examples


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
