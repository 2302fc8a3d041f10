"""A draft tree fed in pieces while earlier ones are undecided: random trees, cuts, decisions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams


@dataclass
class FedTree:
    """The nodes of one session's tree in the order of their slots. Its rows are pieces of at most `piece` nodes."""

    session: str
    ids: list[int]  # committed and cached
    sampling: SamplingParams
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def grow(self, tokens: Sequence[int], parents: Sequence[int]) -> TargetRow:
        """The row of a further piece. parents count through the whole tree."""
        row = TargetRow(
            self.session,
            len(self.ids),
            tuple(tokens),
            0,
            True,
            self.sampling,
            parents=tuple(parents),
            open=tuple(self.parents),
        )
        self.tokens += tokens
        self.parents += parents
        return row

    def path(self, node: int) -> list[int]:
        """Tokens from the root down to a node."""
        below: list[int] = []
        while node >= 0:
            below.append(self.tokens[node])
            node = self.parents[node]
        return below[::-1]


def random_piece(rng: random.Random, known: int, vocab: int) -> tuple[list[int], list[int]]:
    """Tokens and parents of a few nodes for a tree of `known` nodes."""
    count = rng.randint(1, 4)
    parents = [rng.randint(-1, known + i - 1) for i in range(count)]
    return [rng.randrange(3, vocab) for _ in range(count)], parents
