"""Devices that upload drafts through radio cells, and one server that verifies all of them in one pass a round.

In a round user k drafts l_k tokens (l_k·g_k ms), uploads them, and waits for the pass over the drafts of all K users:

    T = max_k (l_k·g_k + comm_k + a_k(l_k)/B_k) + V(l),   Σ B_k ≤ B in each cell,
    a_k(l) = (l·bits_per_token + message_bits)/η_k, 0 for l = 0.

It emits E_k(l) = (1 − α_k^(l+1))/(1 − α_k) tokens a round. The goodput is Σ E_k/T over the users who are in time:
T/E_k ≤ their deadline per token. Source: the setting of Zheng, Wang, Cui, Cai, Du, Huang, "Multi-SPIN", arXiv
2606.04581; the equations are derived here.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.planning.bandwidth.uploads import MS_PER_S, Bools, Floats, Uploads, in_one_cell_each
from shared.planning.problem import Server, User
from shared.planning.solvers.solve import Infeasible

Ints = npt.NDArray[np.int64]
ROUNDING = 1e-12  # relative: a round may exceed a deadline by so much


@dataclass(frozen=True, slots=True)
class DraftCell:
    """A cell and whose drafts go through it: members are indices of users. uploads: with the bits of longest drafts."""

    uploads: Uploads
    members: tuple[int, ...]


@dataclass(frozen=True)
class DraftingCells:
    """K users with one server.

    token_bits, message_bits [K]: what a drafted token and a message with any tokens add to an upload. deadline_ms [K]:
    for each token; inf = none. Users in no cell upload nothing but wait for their link. Raises CellError for a user
    in two cells, Infeasible where the server cannot hold all users.
    """

    users: tuple[User, ...]
    server: Server
    cells: tuple[DraftCell, ...]
    token_bits: Floats
    message_bits: Floats
    deadline_ms: Floats
    min_draft: int = 0
    max_draft: int = 20

    def __post_init__(self) -> None:
        in_one_cell_each(
            [user.id for user in self.users], [(each.uploads.cell.id, each.members) for each in self.cells]
        )
        prefixes = [user.prefix for user in self.users]
        needed = float(self.server.needed_bytes(len(prefixes), max(prefixes), sum(prefixes)))
        if needed > self.server.memory_bytes:
            largest = max(self.users, key=lambda user: user.prefix)
            raise Infeasible(
                f"memory_bytes: one pass over {len(prefixes)} users, {largest.id!r} with the longest prefix "
                f"{largest.prefix}, needs {needed:.4g} bytes; the server has {self.server.memory_bytes:.4g}"
            )

    @cached_property
    def tokens(self) -> Floats:
        """E_k(l) [K, max_draft + 1]."""
        return self._by_length([[user.emitted(length) for length in self._all] for user in self.users])

    @cached_property
    def offset_ms(self) -> Floats:
        """l·g_k + comm_k [K, max_draft + 1]: what comes beside the upload."""
        return self._by_length([[user.ready_ms(length) for length in self._all] for user in self.users])

    @cached_property
    def bits(self) -> Floats:
        """Bits of a draft [K, max_draft + 1]."""
        lengths = np.arange(self.max_draft + 1)
        return np.where(lengths > 0, np.outer(self.token_bits, lengths) + self.message_bits[:, None], 0.0)

    @cached_property
    def alone_ms(self) -> Floats:
        """a_k(l)/B [K, max_draft + 1]: an upload with the whole cell; 0 for users in no cell."""
        alone = np.zeros_like(self.bits)
        for cell in self.cells:
            members, hertz = list(cell.members), cell.uploads.cell.bandwidth_hz
            alone[members] = MS_PER_S * self.bits[members] / (hertz * cell.uploads.efficiency[:, None])
        return alone

    @property
    def lengths(self) -> range:
        """The draft lengths to choose from."""
        return range(self.min_draft, self.max_draft + 1)

    def verify_ms(self, longest: float | Floats | Ints, drafted: float | Floats | Ints) -> Floats:
        """V [...] of a pass over all users, by its longest draft [...] and all drafted tokens [...]."""
        prefixes = [user.prefix for user in self.users]
        verify = self.server.verify_ms(
            len(prefixes),
            np.asarray(longest, dtype=np.float64),
            np.asarray(drafted, dtype=np.float64),
            max(prefixes),
            sum(prefixes),
        )
        return np.asarray(verify, dtype=np.float64)

    def uploads_of(self, cell: DraftCell, lengths: Ints) -> Uploads:
        """What the users of a cell upload with drafts of these lengths [K]."""
        members = np.array(cell.members)
        return replace(cell.uploads, bits=self.bits[members, lengths[members]])

    def of_users(self, table: Floats, lengths: Ints) -> Floats:
        """The entries [..., K] of a table [K, max_draft + 1] for users' lengths [..., K]."""
        return np.asarray(table[np.arange(len(self.users)), lengths])

    def in_time(self, tokens: Floats, round_ms: Floats) -> Bools:
        """Who is in time [..., K], by tokens a round [..., K] and the time of rounds, which broadcasts to it."""
        return np.asarray(round_ms <= self.deadline_ms * tokens * (1 + ROUNDING))

    def without_deadlines(self) -> "DraftingCells":
        """The same users without deadlines."""
        return replace(self, deadline_ms=np.full(len(self.users), np.inf))

    @property
    def _all(self) -> range:
        return range(self.max_draft + 1)

    @staticmethod
    def _by_length(rows: list[list[float]]) -> Floats:
        return np.array(rows, dtype=np.float64)
