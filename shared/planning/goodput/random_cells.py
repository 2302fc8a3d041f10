"""Random cells of devices that draft: from free uploads to long ones, both cost laws, with and without deadlines."""

import numpy as np

from shared.planning.bandwidth.uploads import Cell, Uploads
from shared.planning.cost import Packed, Padded
from shared.planning.goodput.drafting_cells import DraftCell, DraftingCells
from shared.planning.problem import PackedServer, PaddedServer, User


def random_cells(seed: int, users: int, *, max_draft: int = 6) -> DraftingCells:
    """α .4 to .95, 2 to 20 ms a token, rates × 30; a token alone takes .01 to 30 ms of a cell.

    Every second one has a packed server; every third deadlines; every fourth two cells, and users in none; every fifth
    bits of messages, floors and ceilings.
    """
    rng = np.random.default_rng(seed)
    everyone = tuple(
        User(
            f"u{k}",
            float(rng.uniform(0.4, 0.95)),
            int(rng.integers(16, 513)),
            float(rng.uniform(2, 20)),
            float(rng.choice([0.0, 5.0])),
        )
        for k in range(users)
    )
    hertz, alone_ms = 1e6, 10 ** rng.uniform(-2, 1.5)
    token_bits = np.full(users, alone_ms * 1e-3 * hertz * 3.0)
    message_bits = token_bits * (rng.uniform(0, 2) if seed % 5 == 0 else 0.0)
    overhead, per_token = 10 ** rng.uniform(0, 2), 10 ** rng.uniform(-1.5, 1)
    if seed % 2:
        server: PackedServer | PaddedServer = PackedServer(Packed(overhead, per_token, 0.002))
    else:
        layers, hidden, ffn = 32, 4096, 11008
        per_operation = per_token / (4 * layers * hidden * (2 * hidden + ffn))
        server = PaddedServer(Padded(overhead, per_operation, layers, hidden, ffn))
    deadline = np.full(users, np.inf)
    if seed % 3 == 0:
        deadline = (overhead + 30) * 10 ** rng.uniform(-1, 1, users)
    return DraftingCells(
        everyone,
        server,
        _cells(rng, seed, everyone, token_bits * max_draft + message_bits, hertz),
        token_bits,
        message_bits,
        deadline,
        seed // 2 % 2,
        max_draft,
    )


def _cells(
    rng: np.random.Generator, seed: int, users: tuple[User, ...], bits: np.ndarray, hertz: float
) -> tuple[DraftCell, ...]:
    several = seed % 4 == 3 and len(users) > 2
    cells = []
    for at in range(2 if several else 1):
        members = tuple(range(at, len(users), 3)) if several else tuple(range(len(users)))
        n = len(members)
        bounded = seed % 5 == 0
        floor = rng.dirichlet(np.ones(n)) * hertz * 0.3 if bounded else None
        ceiling = hertz * rng.uniform(0.35, 1.0, n) if bounded else None
        uploads = Uploads.of(
            Cell(f"c{at}", hertz),
            [users[m].id for m in members],
            bits[list(members)],
            10 ** rng.uniform(-0.5, 1, n),
            floor_hz=floor,
            ceiling_hz=ceiling,
        )
        cells.append(DraftCell(uploads, members))
    return tuple(cells)
