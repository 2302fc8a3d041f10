"""Passes as they were measured, between the measured shapes and beyond them."""

import pytest

from shared.planning.cost import Packed
from shared.planning.pass_table import PassTable

LAW = Packed(40.0, 2.0, 0.01)
PASSES = {
    "1 x 1 @ 100": 21.0,  # half of what the law says
    "4 x 1 @ 100": 52.0,
    "2 x 2 @ 100": 50.0,  # four tokens as well
    "8 x 2 @ 0": 72.0,
}


def test_measured_shapes_cost_what_was_measured() -> None:
    table = PassTable.of(PASSES, LAW)
    assert table.tokens == (1, 4, 16)
    assert table.cost_ms([(1, 100)]) == pytest.approx(21.0)
    assert table.cost_ms([(2, 0)] * 2) == pytest.approx(
        48.0
    )  # the median of two shapes without their context
    assert table.cost_ms([]) == 0.0


def test_between_them_it_is_linear_and_beyond_parallel_to_the_law() -> None:
    table = PassTable.of(PASSES, LAW)
    assert table.cost_ms([(10, 0)]) == pytest.approx((48 + 72) / 2)
    assert table.cost_ms([(10, 300)]) == pytest.approx((48 + 72) / 2 + 3.0)
    assert table.cost_ms([(26, 0)]) == pytest.approx(72 + 10 * 2.0)


@pytest.mark.parametrize("passes", [{}, {"1 by 1": 3.0}])
def test_no_table_without_passes(passes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="passes"):
        PassTable.of(passes, LAW)
