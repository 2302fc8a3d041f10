"""Layers of the stages: by speed, by a setting, and refused where that cannot be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.stages.split import SplitError, first_layers, parse_split, split_by_speed


def test_equal_stages_get_equal_parts_and_the_first_ones_the_rest() -> None:
    assert split_by_speed(30, [2.0, 2.1, 1.9, 2.0]) == (8, 8, 7, 7)
    assert split_by_speed(4, [1.0] * 4) == (1, 1, 1, 1)


def test_a_stage_half_as_fast_gets_half_as_many() -> None:
    assert split_by_speed(30, [1.0, 2.0]) == (20, 10)


def test_small_differences_are_noise() -> None:
    assert split_by_speed(10, [1.0, 1.29]) == (5, 5)


@settings(deadline=None)
@given(st.integers(1, 100), st.lists(st.floats(0.01, 100), min_size=1, max_size=16))
def test_all_layers_are_given_and_nobody_goes_without(layers: int, layer_ms: list[float]) -> None:
    if len(layer_ms) > layers:
        with pytest.raises(SplitError, match="at most one stage per layer"):
            split_by_speed(layers, layer_ms)
        return
    counts = split_by_speed(layers, layer_ms)
    assert sum(counts) == layers
    assert min(counts) >= 1


def test_a_split_by_a_setting() -> None:
    assert parse_split("9,7,7,7", 4, 30) == (9, 7, 7, 7)
    assert parse_split(" 9, 7 ", 2, 16) == (9, 7)


@pytest.mark.parametrize("text", ["9,7,7", "9,7,7,8", "16,7,7,0", "31,-1,0,0", "9;7;7;7", "9,7,7,", "", "a"])
def test_a_split_that_does_not_add_up_is_refused(text: str) -> None:
    with pytest.raises(SplitError):
        parse_split(text, 4, 30)


def test_first_layers() -> None:
    assert first_layers((9, 7, 7)) == (0, 9, 16)
