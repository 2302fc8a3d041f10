"""Expected throughput with and without speculation."""

import pytest

from cli.doctor.payoff import MeasuredCosts, best_length, between, emitted, tokens_per_s
from cli.doctor.run import verdict

CHEAP = MeasuredCosts(
    alpha=0.8,
    draft_ms={1: 8.0, 4: 26.0},
    verify_ms={1: {1: 70.0, 5: 80.0, 9: 90.0}, 8: {1: 100.0, 5: 160.0, 9: 220.0}},
    devices=2,
)


def test_emitted_tokens() -> None:
    assert emitted(0.5, 0) == 1
    assert emitted(0.5, 2) == 1.75
    assert emitted(1.0, 4) == 5


def test_tokens_per_second_by_hand() -> None:
    assert tokens_per_s(CHEAP, 8, 0) == 1000 * 8 / 100
    assert tokens_per_s(CHEAP, 8, 4) == pytest.approx(1000 * 8 * emitted(0.8, 4) / (4 * 26 + 160))
    assert tokens_per_s(CHEAP, 1, 4) == pytest.approx(1000 * emitted(0.8, 4) / (4 * 8 + 80))


@pytest.mark.parametrize(("at", "ms"), [(1, 8.0), (2, 14.0), (4, 26.0), (5, 32.0), (8, 50.0)])
def test_costs_between_what_was_measured(at: int, ms: float) -> None:
    assert between(CHEAP.draft_ms, at) == ms


def test_one_figure_stands_for_all() -> None:
    assert between({4: 3.0}, 9) == 3.0


def test_useless_drafts_are_said_to_be_so() -> None:
    useless = MeasuredCosts(0.1, CHEAP.draft_ms, CHEAP.verify_ms, 2)
    assert best_length(useless, 8, 8) == 0
    assert "does not pay" in verdict(useless, 8)
    assert best_length(CHEAP, 1, 8) > best_length(CHEAP, 8, 8) > 0
    assert verdict(CHEAP, 1).startswith("1 user: speculation pays, ")
