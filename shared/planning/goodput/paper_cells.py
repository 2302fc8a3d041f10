"""Devices that draft in the radio cell of `shared/planning/latency/paper_cell.py`: the same places, fading and server.

The devices' speeds and acceptance are drawn here: those of an RTX 3090, divided by 1 to 6, and α from .5 to .95.
"""

from dataclasses import dataclass

import numpy as np

from shared.planning import paper_setting
from shared.planning.bandwidth.uploads import Uploads
from shared.planning.cost import Shape
from shared.planning.goodput.drafting_cells import DraftCell, DraftingCells
from shared.planning.latency.paper_cell import ALPHA, MAX_DRAFT, PAIRS, SIZES, Setting, node, paper_cohort
from shared.planning.problem import User

SLOWER = 1.0, 6.0
ALPHAS = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class Devices:
    """A point of comparison: how many devices, what they upload for a token, in which of three things they differ.

    Where they do not, all have the cell's median η, ALPHA, or the middle of the speeds.
    """

    users: int
    bits_per_token: float
    pair: tuple[str, str] = PAIRS[0]
    min_draft: int = 0
    deadline_ms: float = np.inf
    radio: bool = True
    alpha: bool = True
    speed: bool = True


def paper_cells(seed: int, devices: Devices) -> DraftingCells:
    """A random cell. Fewer users, other bits or less diversity leave the other draws as they are."""
    cohort = paper_cohort(seed, Setting(), devices.pair, devices.users)
    rng = np.random.default_rng([seed, 1])
    draws = rng.random((devices.users, 2))
    slower = SLOWER[0] + (SLOWER[1] - SLOWER[0]) * (draws[:, 0] if devices.speed else 0.5)
    alpha = ALPHAS[0] + (ALPHAS[1] - ALPHAS[0]) * draws[:, 1] if devices.alpha else ALPHA
    slowness, acceptance = (np.broadcast_to(each, devices.users).tolist() for each in (slower, alpha))
    law = node(SIZES[devices.pair[0]], paper_setting.DEVICE, Setting())
    users = tuple(
        User(
            user.id,
            acceptance[k],
            user.prefix,
            slowness[k] * float(law.pass_ms(Shape(1, 1, 1, user.prefix, user.prefix))),
        )
        for k, user in enumerate(cohort.users)
    )
    uploads, bits = cohort.cells[0].uploads, np.full(devices.users, devices.bits_per_token)
    efficiency = (
        uploads.efficiency if devices.radio else np.full(devices.users, np.median(uploads.efficiency))
    )
    return DraftingCells(
        users,
        cohort.verifier,
        (
            DraftCell(
                Uploads.of(uploads.cell, uploads.ids, bits * MAX_DRAFT, efficiency),
                tuple(range(devices.users)),
            ),
        ),
        bits,
        np.zeros(devices.users),
        np.full(devices.users, devices.deadline_ms),
        devices.min_draft,
        MAX_DRAFT,
    )
