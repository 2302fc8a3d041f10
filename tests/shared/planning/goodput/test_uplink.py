"""Shares for given drafts: the earliest end, its conditions of optimality, a general optimiser."""

import numpy as np
import pytest

from shared.planning.bandwidth.uploads import Floats
from shared.planning.goodput.drafting_cells import DraftingCells, Ints
from shared.planning.goodput.random_cells import random_cells
from shared.planning.goodput.uplink import BestShares, EqualShares, Uplink
from tests.shared.planning.bandwidth.optimality import (
    band_residual,
    check_gaps,
    min_max_residual,
    search_level,
)

EXACT = 1e-9  # relative


def random_lengths(cells: DraftingCells, seed: int, choices: int) -> Ints:
    rng = np.random.default_rng(seed)
    return rng.integers(cells.min_draft, cells.max_draft + 1, (choices, len(cells.users)))


def ends_ms(cells: DraftingCells, uplink: Uplink, lengths: Ints) -> Floats:
    """When each user's draft is there, with the shares that the uplink gives."""
    ends = cells.of_users(cells.offset_ms, lengths).copy()
    for cell in cells.cells:
        ends[list(cell.members)] += uplink.shares(cell, lengths).upload_ms
    return ends


@pytest.mark.parametrize("kind", [BestShares, EqualShares])
def test_the_time_of_many_choices_at_once_is_that_of_the_shares(
    kind: type[BestShares] | type[EqualShares],
) -> None:
    for seed in range(60):
        cells = random_cells(seed, 1 + seed % 8)
        uplink, lengths = kind(cells), random_lengths(cells, seed, 5)
        expected = [ends_ms(cells, uplink, each).max() for each in lengths]
        assert uplink.upload_ms(lengths) == pytest.approx(expected, rel=EXACT)


def test_best_shares_meet_the_conditions_of_optimality() -> None:
    for seed in range(0, 300, 3):
        cells = random_cells(seed, 1 + seed % 9)
        uplink, lengths = BestShares(cells), random_lengths(cells, seed, 1)[0]
        for cell in cells.cells:
            members = np.array(cell.members)
            busy = cells.bits[members, lengths[members]] > 0
            band, limits = uplink.shares(cell, lengths).bandwidth_hz, cell.uploads.limits
            ends = ends_ms(cells, uplink, lengths)[members]
            if busy.all():
                assert band_residual(band, cell.uploads.cell.bandwidth_hz, limits) <= EXACT
                assert min_max_residual(ends, band, limits) <= EXACT


def test_a_general_optimiser_finds_no_earlier_end() -> None:
    gaps = []
    for seed in range(1, 60, 2):
        cells = random_cells(4 * seed + 1, 2 + seed % 5)
        lengths = np.maximum(1, random_lengths(cells, seed, 1)[0])
        uplink, cell = BestShares(cells), cells.cells[0]
        offset, alone = (cells.of_users(table, lengths) for table in (cells.offset_ms, cells.alone_ms))
        hertz, limits = cell.uploads.cell.bandwidth_hz, cell.uploads.limits
        ours = float(uplink.upload_ms(lengths))
        start = np.maximum(limits.floor_hz / hertz, 1 / (2 * len(lengths)))
        found = search_level(
            lambda x, o=offset, a=alone: o + a / x,  # type: ignore[misc]
            lambda x, a=alone: -a / x**2,  # type: ignore[misc]
            start,
            hertz,
            limits,
            ours,
        )
        gaps.append((offset + alone * hertz / found).max() / ours - 1)
    check_gaps(gaps)


def test_the_shares_needed_for_a_time_add_up_to_the_cell_at_the_earliest_time() -> None:
    for seed in range(1, 40):
        cells = random_cells(seed, 4)
        uplink, lengths = BestShares(cells), random_lengths(cells, seed, 1)[0]
        time = float(uplink.upload_ms(lengths)) * (1 + 1e-12)
        shares = cells.of_users(uplink.needed(np.array([time]))[0], lengths)
        for cell in cells.cells:
            assert shares[list(cell.members)].sum() <= 1 + EXACT
        early = cells.of_users(uplink.needed(np.array([time * (1 - 1e-6)]))[0], lengths)
        sums = [early[list(cell.members)].sum() for cell in cells.cells]
        assert max(*sums, early.max()) > 1
