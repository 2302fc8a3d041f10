"""Invalid cells and users are refused, with the user and the field."""

from math import inf, nan
from typing import Any

import pytest

from shared.planning.bandwidth.uploads import Cell, CellError, Uploads, efficiency_of

GOOD: dict[str, Any] = {"bits": [1.0, 2.0], "efficiency": [1.0, 1.0]}


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, nan, inf])
def test_a_cell_without_bandwidth(bandwidth: float) -> None:
    with pytest.raises(CellError, match="cell 'c': bandwidth_hz"):
        Cell("c", bandwidth)


@pytest.mark.parametrize(
    ("field", "values", "named"),
    [
        ("bits", [1.0, -1.0], "'b': bits"),
        ("bits", [nan, 1.0], "'a': bits"),
        ("bits", [1.0], "bits: 1 values for 2 users"),
        ("efficiency", [1.0, 0.0], "'b': eta"),
        ("efficiency", [1.0, -2.0], "'b': eta"),
        ("efficiency", [nan, 1.0], "'a': eta"),
        ("efficiency", [1.0, inf], "'b': eta"),
        ("weight", [1.0, 0.0], "'b': weight"),
        ("floor_hz", [-1.0, 0.0], "'a': floor_hz"),
        ("floor_hz", [nan, 0.0], "'a': floor_hz"),
        ("floor_hz", [30.0, 80.0], "'b': floor_hz: 80 Hz, .* add up to 110 Hz; cell 'c' has 100 Hz"),
        ("ceiling_hz", [0.0, 1.0], "'a': ceiling_hz"),
        ("ceiling_hz", [1.0, nan], "'b': ceiling_hz"),
    ],
)
def test_an_invalid_user(field: str, values: list[float], named: str) -> None:
    with pytest.raises(CellError, match=named):
        Uploads.of(Cell("c", 100.0), ["a", "b"], **{**GOOD, field: values})


def test_a_floor_above_its_ceiling() -> None:
    with pytest.raises(CellError, match="'b': floor_hz: 9 Hz is above ceiling_hz 8 Hz"):
        Uploads.of(Cell("c", 100.0), ["a", "b"], **GOOD, floor_hz=[0, 9], ceiling_hz=[5, 8])


def test_floors_may_take_all_of_the_band() -> None:
    uploads = Uploads.of(Cell("c", 0.3), ["a", "b"], **GOOD, floor_hz=[0.1, 0.2])
    assert uploads.limits.floor_hz.tolist() == [0.1, 0.2]


def test_ids() -> None:
    with pytest.raises(CellError, match="'a': id: twice"):
        Uploads.of(Cell("c", 100.0), ["a", "a"], **GOOD)
    with pytest.raises(CellError, match="no users"):
        Uploads.of(Cell("c", 100.0), [], [], [])


def test_a_payload_that_never_ends() -> None:
    with pytest.raises(CellError, match="'b': bits/eta: inf; it must be such that the upload"):
        Uploads.of(Cell("c", 100.0), ["a", "b"], [1, 1e200], [1, 1e-200])


def test_efficiency_of_a_signal() -> None:
    assert efficiency_of(3.0) == 2.0
    assert efficiency_of(1e-20) == pytest.approx(1e-20 / 0.6931471805599453)
