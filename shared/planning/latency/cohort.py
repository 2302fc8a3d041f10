"""A cohort: users who upload prompts at once, the nodes that serve them, the cells that they share.

In a round a batch is drafted, by l passes of one token over all its rows, and verified, by a pass of l + 1 tokens:

    A_j = l·(c1·b·F(1, I) + c2),   V_j = c1'·b·F(l + 1, I) + c2'

with I the longest input of its b users, under the padded law; or any other law. A user with acceptance α needs
R_k = ceil(O_k/E_k(l)) rounds for O_k tokens, E = (1 − α^(l+1))/(1 − α). The cycle is fixed: a batch keeps its rows
until the last user of all is done, after R = max R_k rounds.
Source: Zhu, Chen, Zhao, Shin, Nallanathan, arXiv 2510.11331, latency model. Not modelled: reading of the prompts, the
growth of contexts while answers are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np

from shared.planning.bandwidth.shares import SharingName
from shared.planning.bandwidth.uploads import Uploads, in_one_cell_each
from shared.planning.cost import CostLaw
from shared.planning.problem import PackedServer, PaddedServer, User

ROUNDING = 1e-9  # of O/E before it is rounded up


@dataclass(frozen=True, slots=True)
class SharedCell:
    """A cell's uploads, how they share it, and whose they are: members are indices of the cohort's users."""

    uploads: Uploads
    members: tuple[int, ...]
    sharing: SharingName


@dataclass(frozen=True, slots=True)
class Cohort:
    """K users with one verifier.

    outputs [K]: tokens of each answer. drafter: the law of the node that drafts for all; None = each user's device
    drafts, in l·draft_ms. Users in no cell have nothing to upload. resident_bytes: for the weights and the caches of
    all batches together, beside the verifier's memory_bytes for each batch. Raises CellError for a user in two cells.
    """

    users: tuple[User, ...]
    outputs: tuple[int, ...]
    verifier: PaddedServer | PackedServer
    drafter: CostLaw | None
    cells: tuple[SharedCell, ...] = ()
    min_draft: int = 1
    max_draft: int = 10
    resident_bytes: float = inf

    def __post_init__(self) -> None:
        in_one_cell_each(
            [user.id for user in self.users], [(each.uploads.cell.id, each.members) for each in self.cells]
        )

    def rounds_of(self, length: int) -> tuple[int, ...]:
        """R_k [K]: rounds until each user's output is done, with drafts of this length."""
        return tuple(
            max(1, ceil(output / user.emitted(length) - ROUNDING))
            for user, output in zip(self.users, self.outputs, strict=True)
        )

    def rounds(self, length: int) -> int:
        """R: rounds until the last output is done."""
        return max(self.rounds_of(length))

    def with_sharing(self, sharing: SharingName) -> "Cohort":
        """The same cohort with all cells shared in this way."""
        return replace(self, cells=tuple(replace(cell, sharing=sharing) for cell in self.cells))

    def with_length(self, length: int) -> "Cohort":
        """The same cohort with drafts of this length alone."""
        return replace(self, min_draft=length, max_draft=length)

    @property
    def lengths(self) -> range:
        """The draft lengths to choose from."""
        return range(self.min_draft, self.max_draft + 1)

    def by_input(self) -> tuple[int, ...]:
        """Users sorted by input length."""
        return self.sorted_by([user.prefix for user in self.users])

    def sorted_by(self, key: Sequence[float]) -> tuple[int, ...]:
        """Users sorted by a key [K]; equal ones by input length."""
        inputs = [user.prefix for user in self.users]
        return tuple(int(m) for m in np.lexsort((inputs, key)))
