"""Pieces leave when the first stage is free, as far as the law and what passes really took tell."""

from math import inf

import pytest

from services.verifier.trees.piece_flow import HOLD_SHARE, PieceFlow
from shared.planning.pieces import StageLaw

LAW = StageLaw(60.0, 1.0)


def test_pieces_follow_one_another_at_the_pace_of_the_slowest_stage() -> None:
    flow = PieceFlow(LAW, 4)
    assert flow.due(0) == 0.0
    flow.sent(10, 5.0)
    assert flow.due(1) == pytest.approx(5.070)
    flow.sent(20, 5.070)
    assert flow.due(2) == pytest.approx(5.150)
    flow.sent(1, 9.0)  # after a pause
    assert flow.due(1) == pytest.approx(9.061)


def test_no_more_living_pieces_than_keep_the_stages_busy() -> None:
    flow = PieceFlow(LAW, 2)
    flow.sent(1, 0.0)
    assert flow.due(1) < inf
    assert flow.due(2) == inf


def test_a_machine_that_is_slower_than_its_law_is_learnt() -> None:
    flow = PieceFlow(LAW, 4)
    for _ in range(60):
        flow.returned(10, 0.140)
    flow.sent(10, 1.0)
    assert flow.due(1) == pytest.approx(1.140, abs=0.001)
    assert flow.hold_s == pytest.approx(HOLD_SHARE * 0.122, abs=0.001)


def test_a_stage_that_takes_no_time_is_always_free() -> None:
    flow = PieceFlow(StageLaw(0.0, 0.0), 1)
    flow.returned(3, 0.5)
    flow.sent(3, 2.0)
    assert flow.due(0) == 2.0
    assert flow.hold_s == 0.0
