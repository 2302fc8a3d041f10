"""The closed forms at fixed efficiency: conditions of optimality on random cells, and a general optimiser."""

import numpy as np
import pytest

from shared.planning.bandwidth.shares import FORMS, min_max, min_weighted_sum, uniform, with_offsets
from shared.planning.bandwidth.uploads import Cell, CellError, Uploads
from tests.shared.planning.bandwidth.cells import CELLS, draw
from tests.shared.planning.bandwidth.optimality import (
    band_residual,
    check_gaps,
    min_max_residual,
    search,
    search_level,
    weighted_residual,
)

EXACT = 1e-9  # relative


def test_without_limits_uploads_end_together_and_the_band_is_used_up() -> None:
    for seed in CELLS:
        uploads = draw(2 * seed).uploads
        shares = min_max(uploads)
        level = uploads.demand.sum() / uploads.cell.bandwidth_hz
        assert np.ptp(shares.upload_ms) <= EXACT * level
        assert shares.upload_ms == pytest.approx(np.full(len(uploads.ids), level), rel=EXACT)
        assert shares.bandwidth_hz.sum() == pytest.approx(uploads.cell.bandwidth_hz, rel=EXACT)


def test_min_max_meets_the_conditions_of_optimality() -> None:
    for seed in CELLS:
        uploads = draw(seed).uploads
        shares = min_max(uploads)
        assert band_residual(shares.bandwidth_hz, uploads.cell.bandwidth_hz, uploads.limits) <= EXACT
        assert min_max_residual(shares.upload_ms, shares.bandwidth_hz, uploads.limits) <= EXACT


def test_start_offsets_meet_the_conditions_of_optimality() -> None:
    for seed in CELLS:
        cell = draw(seed)
        shares = with_offsets(cell.uploads, cell.offset_ms)
        limits = cell.uploads.limits
        assert band_residual(shares.bandwidth_hz, cell.uploads.cell.bandwidth_hz, limits) <= EXACT
        assert min_max_residual(shares.upload_ms + cell.offset_ms, shares.bandwidth_hz, limits) <= EXACT


def test_the_weighted_sum_meets_the_conditions_of_optimality() -> None:
    for seed in CELLS:
        uploads = draw(seed).uploads
        shares = min_weighted_sum(uploads)
        price = uploads.weight * uploads.demand / shares.bandwidth_hz**2
        assert band_residual(shares.bandwidth_hz, uploads.cell.bandwidth_hz, uploads.limits) <= EXACT
        assert weighted_residual(price, shares.bandwidth_hz, uploads.limits) <= EXACT


def test_the_weighted_sum_has_the_value_of_its_formula() -> None:
    for seed in CELLS:
        uploads = draw(2 * seed).uploads
        root = np.sqrt(uploads.weight * uploads.demand).sum()
        value = float(uploads.weight @ min_weighted_sum(uploads).upload_ms)
        assert value == pytest.approx(root**2 / uploads.cell.bandwidth_hz, rel=EXACT)


def test_uniform_sharing_loses_what_the_formula_says() -> None:
    for seed in CELLS:
        uploads = draw(2 * seed).uploads
        lost = 1 - min_max(uploads).upload_ms.max() / uniform(uploads).upload_ms.max()
        assert lost == pytest.approx(1 - uploads.demand.mean() / uploads.demand.max(), abs=EXACT)


@pytest.mark.slow
def test_no_optimiser_ends_earlier() -> None:
    gaps = []
    for seed in CELLS:
        cell = draw(seed, users=2 + seed % 5)
        uploads, total = cell.uploads, cell.uploads.cell.bandwidth_hz
        offset = cell.offset_ms if seed % 4 < 2 else np.zeros(len(uploads.ids))
        ours = float((with_offsets(uploads, offset).upload_ms + offset).max())
        need = uploads.demand / total

        def ends(x: np.ndarray, need: np.ndarray = need, offset: np.ndarray = offset) -> np.ndarray:
            return need / x + offset

        def slopes(x: np.ndarray, need: np.ndarray = need) -> np.ndarray:
            return -need / x**2

        start = uniform(uploads).bandwidth_hz / total
        found = search_level(ends, slopes, start, total, uploads.limits, float(need.sum()))
        theirs = float((uploads.demand / found + offset).max())
        gaps.append((theirs - ours) / max(abs(ours), float(need.sum())))
    check_gaps(gaps)


def test_no_optimiser_has_a_smaller_weighted_sum() -> None:
    gaps = []
    for seed in CELLS:
        uploads = draw(seed, users=2 + seed % 5).uploads
        total = uploads.cell.bandwidth_hz
        ours = float(uploads.weight @ min_weighted_sum(uploads).upload_ms)
        need = uploads.weight * uploads.demand / total / ours

        def cost(x: np.ndarray, need: np.ndarray = need) -> float:
            return float((need / x).sum())

        def gradient(x: np.ndarray, need: np.ndarray = need) -> np.ndarray:
            return -need / x**2

        found = search(cost, gradient, uniform(uploads).bandwidth_hz / total, total, uploads.limits)
        gaps.append(float(uploads.weight @ (uploads.demand / found)) / ours - 1)
    check_gaps(gaps)


def test_who_uploads_nothing_takes_no_band_but_its_floor() -> None:
    uploads = Uploads.of(Cell("c", 100.0), ["a", "b", "c"], [0, 0, 8], [1, 1, 2], floor_hz=[0, 25, 0])
    for shares in (min_max(uploads), min_weighted_sum(uploads), with_offsets(uploads, np.array([9.0, 5, 7]))):
        assert shares.bandwidth_hz == pytest.approx([0, 25, 75])
        assert shares.upload_ms == pytest.approx([0, 0, 1e3 * 8 / 2 / 75])


def test_band_is_left_over_where_all_ceilings_fit() -> None:
    uploads = Uploads.of(Cell("c", 100.0), ["a", "b"], [1, 9], [1, 1], ceiling_hz=[20, 30])
    assert min_max(uploads).bandwidth_hz.tolist() == [20, 30]
    assert uniform(uploads).bandwidth_hz.tolist() == [20, 30]


def test_what_a_ceiling_leaves_goes_to_the_others() -> None:
    uploads = Uploads.of(Cell("c", 100.0), ["a", "b", "c"], [90, 5, 5], [1, 1, 1], ceiling_hz=[50, 100, 100])
    assert min_max(uploads).bandwidth_hz == pytest.approx([50, 25, 25])


def test_who_has_to_be_first_gets_more_band() -> None:
    uploads = Uploads.of(Cell("c", 1e6), ["a", "b"], [1e5, 1e5], [1, 1])
    shares = with_offsets(uploads, np.array([100.0, 0.0]))
    assert shares.bandwidth_hz[0] > shares.bandwidth_hz[1]
    assert shares.upload_ms[1] - shares.upload_ms[0] == pytest.approx(100.0)


@pytest.mark.parametrize("offset", [[0.0], [0.0, np.nan], [0.0, np.inf]])
def test_bad_offsets_are_refused(offset: list[float]) -> None:
    uploads = Uploads.of(Cell("c", 1e6), ["a", "b"], [1, 1], [1, 1])
    with pytest.raises(CellError, match="offset_ms"):
        with_offsets(uploads, np.array(offset))


def test_floors_that_leave_somebody_nothing_are_refused_unless_it_has_nothing_to_upload() -> None:
    cell, ids, rates, floors = Cell("c", 100.0), ["a", "b"], [1.0, 1.0], [100.0, 0.0]
    with pytest.raises(
        CellError, match="user 'b': floor_hz: the floors of others take all 100 Hz of cell 'c'"
    ):
        Uploads.of(cell, ids, [10.0, 10.0], rates, floor_hz=floors)
    idle = Uploads.of(cell, ids, [10.0, 0.0], rates, floor_hz=floors)
    for form in FORMS.values():
        assert form(idle).bandwidth_hz.tolist() == floors
        assert form(idle).upload_ms.tolist() == [100.0, 0.0]
