"""Ratios within repeats and their intervals."""

import pytest

from loadgen.measuring.intervals import mean_ratio, median_ratio


def test_a_ratio_is_taken_within_each_repeat() -> None:
    ratio = mean_ratio([200.0, 100.0, 400.0], [100.0, 50.0, 200.0])
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    median = median_ratio([200.0, 100.0, 400.0], [100.0, 50.0, 200.0])
    assert (median.value, median.low, median.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_mean_s_interval_is_student_s() -> None:
    ratio = mean_ratio([1.1, 1.2, 1.3, 1.2, 1.1], [1.0] * 5)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.1776, rel=1e-3)
    assert (ratio.low, ratio.high) == pytest.approx((1.0792, 1.2851), rel=1e-3)  # t(4, 0.975) = 2.776


def test_nothing_to_compare_is_no_ratio_and_one_repeat_is_a_point() -> None:
    assert mean_ratio([], []) is None
    assert mean_ratio([1.0], [0.0]) is None
    assert mean_ratio([1.0, 2.0], [1.0]) is None
    one = mean_ratio([3.0], [2.0])
    assert one is not None
    assert one.low == one.high == one.value == pytest.approx(1.5)


def test_the_median_ignores_an_outlier_and_its_interval_contains_it() -> None:
    ratio = median_ratio([1.0, 1.1, 0.9, 1.0, 9.0], [2.0] * 5)
    assert ratio.value == pytest.approx(0.5)
    assert 0.45 <= ratio.low <= 0.5 <= ratio.high <= 4.5
    assert ratio == median_ratio([1.0, 1.1, 0.9, 1.0, 9.0], [2.0] * 5)
