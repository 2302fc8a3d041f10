"""Sizes of pieces, and how many are under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.planning.pieces import (
    PipelineLaw,
    StageLaw,
    in_flight,
    is_worth_adding,
    piece_size,
    ratio_factor,
    rows_worth_sending,
)

FREE = StageLaw(0.0, 0.0)


def test_a_pass_without_rows_is_not_run() -> None:
    assert StageLaw(60.0, 0.75).pass_ms(0) == 0.0
    assert StageLaw(60.0, 0.75).pass_ms(4) == 63.0


def test_a_round_trip_is_all_passes_hops_and_the_head() -> None:
    law = PipelineLaw((StageLaw(10.0, 1.0), StageLaw(20.0, 1.0)), 0.5, 0.25, 5.0, StageLaw(1.0, 0.5))
    assert law.round_trip_ms(2) == pytest.approx(12 + 22 + 3 * 0.5 + 2 * 0.25 * 2 + 2.0)
    assert law.slowest(2) == law.stages[1]


@pytest.mark.parametrize(("ratio", "low", "high"), [(10, 4, 6), (40, 6, 12), (200, 24, 48), (0.01, 1, 1)])
def test_pieces_grow_with_what_a_pass_costs_beside_a_row(ratio: float, low: int, high: int) -> None:
    assert low <= piece_size(StageLaw(ratio, 1.0)) <= high


@pytest.mark.parametrize("stages", [1, 2, 4, 7])
def test_equal_stages_have_a_piece_each_and_far_ones_more(stages: int) -> None:
    near = PipelineLaw((StageLaw(60.0, 0.75),) * stages, 0.3, 0.0, 10.0, FREE)
    assert in_flight(near, 8) == stages
    far = PipelineLaw(near.stages, 66.0, 0.0, 10.0, FREE)
    assert in_flight(far, 8) == stages + (stages + 1)


def test_a_slow_stage_means_fewer_pieces() -> None:
    law = PipelineLaw((StageLaw(100.0, 1.0), *(StageLaw(10.0, 1.0),) * 3), 0.3, 0.0, 10.0, FREE)
    assert in_flight(law, 1) == 1


def test_the_ratio_rule_by_hand() -> None:
    law = StageLaw(10.0, 1.0)
    # After a first row, P = 1: 0.5 · 11 ≥ 3 · 1 is worth it, 0.27 · 11 < 3 is not.
    assert is_worth_adding(0.5, 1.0, 1, law, 3.0)
    assert not is_worth_adding(0.27, 1.0, 1, law, 3.0)
    assert rows_worth_sending([1.0, 0.5, 0.3, 0.3], law, users=1) == 2
    assert ratio_factor(1) == 3.0


@given(
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40),
    st.floats(1.0, 500.0),
    st.integers(1, 16),
)
def test_a_piece_is_never_empty_and_grows_with_cheaper_rows(
    values: list[float], beta: float, users: int
) -> None:
    likely = sorted(values, reverse=True)
    sizes = [rows_worth_sending(likely, StageLaw(beta, each), users) for each in (2.0, 1.0, 0.1)]
    assert sizes[0] >= 1
    assert sizes == sorted(sizes)
    assert rows_worth_sending(likely, StageLaw(beta, 1.0), users + 1) >= sizes[1]
