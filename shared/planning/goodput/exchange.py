"""Changes of draft lengths, scored exactly: one user's length two users' by a token, less for a deadline."""

from itertools import product
from typing import Final

import numpy as np

from shared.planning.bandwidth.uploads import Floats
from shared.planning.goodput.drafting_cells import DraftingCells, Ints
from shared.planning.goodput.goodput_plan import goodput_of, round_ms
from shared.planning.goodput.uplink import Uplink

MAX_STEPS: Final = 200
MAX_SHORTER: Final = 12
GAIN: Final = 1e-12  # relative: a change that gains less is rounding


def exchanged(cells: DraftingCells, uplink: Uplink, lengths: Ints) -> Ints:
    """Lengths [K] that no such change improves. The best change is made until there is none."""
    goodput = float(goodput_of(cells, uplink, lengths))
    for _ in range(MAX_STEPS):
        for changes in (_of_one, _of_two):
            changed = np.concatenate([lengths[None], changes(cells, lengths)])
            values = goodput_of(cells, uplink, changed)
            at = int(values.argmax())
            if values[at] > goodput * (1 + GAIN):
                lengths, goodput = changed[at], float(values[at])
                break
        else:
            break
    return lengths


def shortened(cells: DraftingCells, uplink: Uplink, lengths: Ints, rounds: Floats) -> Ints:
    """Lengths [n, K] whose rounds take at most these times [n], or as far as MAX_SHORTER tokens less get.

    Taken away is the token that costs least for the time it saves. Who is in time in a round of the given time and
    would not be with a shorter draft costs all its tokens.
    """
    lengths, users = lengths.copy(), np.arange(lengths.shape[1])
    for _ in range(MAX_SHORTER):
        over = round_ms(cells, uplink, lengths) > rounds
        if not over.any():
            break
        longer, time = lengths[over], rounds[over]
        shorter = np.maximum(longer[:, None, :] - np.eye(len(users), dtype=np.int64), cells.min_draft)
        saved = round_ms(cells, uplink, longer)[:, None] - round_ms(cells, uplink, shorter)
        lost = _counted(cells, longer, time)[:, None] - _counted(cells, shorter, time[:, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            cost = np.where(saved > 0, lost / saved, np.inf)
        lengths[over] = shorter[np.arange(len(time)), cost.argmin(axis=1)]
    return lengths


def _counted(cells: DraftingCells, lengths: Ints, rounds: Floats) -> Floats:
    """Tokens of users who are in time in rounds of these times [...]."""
    tokens = cells.of_users(cells.tokens, lengths)
    return np.asarray(np.where(cells.in_time(tokens, rounds[..., None]), tokens, 0.0).sum(axis=-1))


def _of_one(cells: DraftingCells, lengths: Ints) -> Ints:
    """Every user with every length [K·L, K]."""
    users, options = len(lengths), len(cells.lengths)
    changed = np.tile(lengths, (users * options, 1))
    changed[np.arange(users * options), np.repeat(np.arange(users), options)] = np.tile(cells.lengths, users)
    return changed


def _of_two(cells: DraftingCells, lengths: Ints) -> Ints:
    """Every two users by a token each, up or down, within bounds [n, K]."""
    one, other = np.triu_indices(len(lengths), 1)
    rows = []
    for up, down in product((-1, 1), repeat=2):
        changed = np.tile(lengths, (len(one), 1))
        at = np.arange(len(one))
        changed[at, one] += up
        changed[at, other] += down
        rows.append(changed)
    every = np.concatenate(rows)
    inside = (every >= cells.min_draft) & (every <= cells.max_draft)
    return np.asarray(every[inside.all(axis=1)])
