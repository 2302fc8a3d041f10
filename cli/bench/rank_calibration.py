"""How often candidates are the target's tokens, by rank, against the probabilities that were predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, Final

import numpy as np

from shared.speculative.candidates import Candidate

BINS: Final = 10  # of equally many predictions, in the calibration error


@dataclass(slots=True)
class RankCalibration:
    """Positions of texts with their candidates. width: ranks that are counted.

    predicted: [positions, width], probabilities; hits: rank of the target's token, width where it is none of them.
    """

    width: int
    predicted: list[list[float]] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)

    def add(self, candidates: Sequence[Candidate], token: int) -> None:
        """Count a position where the target chose this token. Ranks without a candidate were predicted as 0."""
        ranks = candidates[: self.width]
        self.predicted.append([exp(one.log_prob) for one in ranks] + [0.0] * (self.width - len(ranks)))
        self.hits.append(next((n for n, one in enumerate(ranks) if one.token == token), self.width))

    @property
    def log_loss(self) -> float:
        """Mean -log of the probability that was given to what happened: that rank, or none of them. In nats."""
        losses = []
        for probabilities, hit in zip(self.predicted, self.hits, strict=True):
            happened = probabilities[hit] if hit < self.width else 1 - sum(probabilities)
            losses.append(-log(max(happened, 1e-9)))
        return sum(losses) / len(losses)

    def error(self, rank: int) -> float:
        """Expected calibration error: mean |predicted - right| over BINS groups of rising predictions."""
        predicted = np.array(self.predicted)[:, rank]
        right = np.array(self.hits) == rank
        groups = np.array_split(np.argsort(predicted, kind="stable"), BINS)
        return sum(abs(float((predicted[g] - right[g]).sum())) for g in groups) / len(self.hits)

    def rows(self) -> list[dict[str, Any]]:
        """For each rank: the share of positions where it is right, the mean prediction, and the calibration error."""
        n = len(self.hits)
        return [
            {
                "rank": rank + 1,
                "right": self.hits.count(rank) / n,
                "predicted": sum(one[rank] for one in self.predicted) / n,
                "error": self.error(rank),
            }
            for rank in range(self.width)
        ]
