"""Random cohorts: from all overhead to all compute, from free uploads to long ones, few rounds and many."""

import numpy as np

from shared.planning.bandwidth.shares import SharingName
from shared.planning.bandwidth.uploads import Cell, Uploads
from shared.planning.cost import Packed, Padded
from shared.planning.latency.cohort import Cohort, SharedCell
from shared.planning.problem import PackedServer, PaddedServer, User

DRAFTER_SIZE = (12, 768, 3072)
VERIFIER_SIZE = (32, 4096, 11008)


def random_cohort(
    seed: int, users: int, *, sharing: SharingName = "joint", max_draft: int = 4, rounds: float = 20.0
) -> Cohort:
    """Inputs of 1 to 512, α .5 to .9, outputs for up to about so many rounds, one cell or two.

    Every third cohort has a packed verifier; every fourth drafts on its devices; some have little memory.
    """
    rng = np.random.default_rng(seed)
    own = seed % 4 == 3
    drafting = tuple(
        User(
            f"u{k}",
            float(rng.uniform(0.5, 0.9)),
            int(rng.integers(1, 513)),
            float(rng.uniform(1, 20)),
            float(rng.choice([0.0, 5.0])),
        )
        for k in range(users)
    )
    outputs = tuple(int(each) for each in rng.integers(1, max(2, int(3 * rounds)), users))
    drafter = (
        None if own else Padded(float(10 ** rng.uniform(-1, 1)), _per_row(rng, DRAFTER_SIZE), *DRAFTER_SIZE)
    )
    return Cohort(
        drafting, outputs, _verifier(rng, seed), drafter, _cells(rng, drafting, sharing), 1, max_draft
    )


def _per_row(rng: np.random.Generator, size: tuple[int, int, int]) -> float:
    """ms per operation with which a row of one token takes 0.1 to 10 ms."""
    layers, hidden, ffn = size
    return float(10 ** rng.uniform(-1, 1)) / (4 * layers * hidden * (2 * hidden + ffn))


def _verifier(rng: np.random.Generator, seed: int) -> PaddedServer | PackedServer:
    overhead = float(10 ** rng.uniform(0, 2))
    if seed % 3 == 2:
        return PackedServer(Packed(overhead, float(10 ** rng.uniform(-1, 1)), 0.002), 1e12, 1e5)
    law = Padded(overhead, _per_row(rng, VERIFIER_SIZE), *VERIFIER_SIZE)
    free = PaddedServer(law, 1e12)
    rows = int(rng.integers(1, 5)) if seed % 5 == 0 else 1000
    return PaddedServer(law, float(free.needed_bytes(rows, 512, rows * 512)))


def _cells(rng: np.random.Generator, users: tuple[User, ...], sharing: SharingName) -> tuple[SharedCell, ...]:
    number = int(rng.integers(1, 3)) if len(users) > 1 else 1
    bits = float(10 ** rng.uniform(1, 5))
    cells = []
    for at in range(number):
        members = tuple(range(at, len(users), number))
        uploads = Uploads.of(
            Cell(f"c{at}", 1e6),
            [users[m].id for m in members],
            [users[m].prefix * bits for m in members],
            10 ** rng.uniform(-0.5, 0.8, len(members)),
        )
        cells.append(SharedCell(uploads, members, sharing))
    return tuple(cells)
