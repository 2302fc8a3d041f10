"""A plan of objective `goodput`, and how draft lengths become one: the exact round, for one choice of them or many."""

from dataclasses import dataclass

import numpy as np

from shared.planning.bandwidth.uploads import MS_PER_S, Floats
from shared.planning.goodput.drafting_cells import DraftingCells, Ints
from shared.planning.goodput.uplink import Uplink


@dataclass(frozen=True)
class GoodputPlan:
    """Draft lengths [K], the round that they make, and shares.

    goodput: tokens per second of users who are in time. late: the others. bandwidth_hz, upload_ms: [K], 0 for users in
    no cell. drafts_ms: when the last draft has been uploaded; the verification takes the rest of the round.
    """

    lengths: tuple[int, ...]
    goodput: float
    round_ms: float
    drafts_ms: float
    bandwidth_hz: Floats
    upload_ms: Floats
    late: tuple[int, ...]


def round_ms(cells: DraftingCells, uplink: Uplink, lengths: Ints) -> Floats:
    """T [...]: the time of a round, for users' lengths [..., K]."""
    verify = cells.verify_ms(lengths.max(axis=-1), lengths.sum(axis=-1))
    return np.asarray(uplink.upload_ms(lengths) + verify)


def goodput_of(cells: DraftingCells, uplink: Uplink, lengths: Ints) -> Floats:
    """Tokens per ms of users who are in time [...], for users' lengths [..., K]."""
    tokens = cells.of_users(cells.tokens, lengths)
    took = round_ms(cells, uplink, lengths)
    counted = np.where(cells.in_time(tokens, took[..., None]), tokens, 0.0)
    return np.asarray(counted.sum(axis=-1) / took)


def plan_of(cells: DraftingCells, uplink: Uplink, lengths: Ints) -> GoodputPlan:
    """The plan of draft lengths [K]."""
    band, upload = np.zeros(len(cells.users)), np.zeros(len(cells.users))
    for cell in cells.cells:
        shares, members = uplink.shares(cell, lengths), list(cell.members)
        band[members], upload[members] = shares.bandwidth_hz, shares.upload_ms
    tokens = cells.of_users(cells.tokens, lengths)
    drafts_ms = float((cells.of_users(cells.offset_ms, lengths) + upload).max())
    took = drafts_ms + float(cells.verify_ms(lengths.max(), lengths.sum()))
    in_time = cells.in_time(tokens, np.array(took))
    return GoodputPlan(
        tuple(lengths.tolist()),
        MS_PER_S * float(tokens[in_time].sum()) / took,
        took,
        drafts_ms,
        band,
        upload,
        tuple(np.flatnonzero(~in_time).tolist()),
    )
