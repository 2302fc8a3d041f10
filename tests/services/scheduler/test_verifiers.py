"""What is staged at a verifier: when it is free, what a pass took, and what became of the plan."""

import pytest

from services.scheduler.realised import HORIZON_S, Realised
from services.scheduler.verifiers import Costs, Flight, Flights
from shared.planning.cost import Packed
from shared.planning.problem import MOST_PROMPTS


def flight(staged_at: float, expected_s: float = 0.1) -> Flight:
    return Flight(((4, 100),), {"s"}, expected_s, staged_at, True)


def test_a_verifier_is_free_when_all_it_has_is_done_one_after_another() -> None:
    flights = Flights()
    assert flights.free_at(5.0) == 5.0
    flights.add(1, flight(5.0))
    flights.add(2, flight(5.02))
    assert flights.free_at(5.05) == pytest.approx(5.2)
    flights.answered(1, 5.15)  # it took longer
    assert flights.free_at(5.15) == pytest.approx(5.25)
    assert flights.free_at(6.0) == 6.0


def test_a_pass_counts_from_the_last_answer_when_it_waited_for_it() -> None:
    flights = Flights()
    flights.add(1, flight(5.0))
    flights.add(2, flight(5.02))
    assert flights.answered(1, 5.1)
    first = flights.measured(1)
    assert first is not None
    assert first.took_s == pytest.approx(0.1)
    assert flights.measured(1) is None
    assert flights.answered(2, 5.25)
    second = flights.measured(2)
    assert second is not None
    assert second.took_s == pytest.approx(0.15)


def test_only_decoding_passes_teach_the_law_of_decoding() -> None:
    costs = Costs.starting(Packed(50.0, 1.0), 2.0)
    flights = Flights()
    for n in range(20):
        rows = ((4, 100),) * (2 + n % 5)
        flights.add(2 * n, Flight(rows, {"s"}, 0.1, float(n), True))
        flights.answered(2 * n, n + 0.104)
        costs.observe(flights.measured(2 * n), 100.0)  # type: ignore[arg-type]
        flights.add(2 * n + 1, Flight(((500, 0),), {"s"}, 0.1, n + 0.5, False))
        flights.answered(2 * n + 1, n + 0.9)
        costs.observe(flights.measured(2 * n + 1), 390.0)  # type: ignore[arg-type]
    assert costs.decoding.expected().cost_ms([(4, 100)] * 4) == pytest.approx(100.0, rel=0.05)
    assert costs.any.expected().cost_ms([(500, 0)]) == pytest.approx(390.0, rel=0.1)
    assert costs.hop_ms.value == pytest.approx(4.0, rel=0.2)


def test_drafts_that_come_meanwhile_have_a_price_where_they_slow_a_pass_down() -> None:
    costs, flights = Costs.starting(Packed(50.0, 1.0), 0.0), Flights()
    for n in range(300):
        rows = ((4, 100),) * (3 + n % 4)
        flights.draft_came()  # nothing is under way
        flights.add(n, Flight(rows, {"s"}, 0.1, float(n), True))
        for _ in range(came := 7 * (n // 3 % 2)):
            flights.draft_came()
        flights.answered(n, n + 0.1)
        costs.observe(flights.measured(n), 50.0 + 4 * len(rows) + 0.6 * came)  # type: ignore[arg-type]
    assert costs.decoding.arrival_ms == pytest.approx(0.6, rel=0.2)
    assert costs.decoding.expected().cost_ms([(4, 100)] * 4) == pytest.approx(66.0, rel=0.03)


def test_rates_are_of_late_and_forget() -> None:
    realised = Realised()
    assert realised.tokens.per_s == realised.cycle_ms(3) == 0.0
    realised.fade(0.0)
    for n in range(1, 1000):
        realised.fade(n * 0.1)
        realised.observe(3)
    assert realised.tokens.per_s == pytest.approx(30.0, rel=0.02)
    assert realised.cycle_ms(4) == pytest.approx(400.0, rel=0.02)
    realised.fade(100.0 + 10 * HORIZON_S)
    assert realised.tokens.per_s < 0.1


def test_for_each_session_that_ends_another_prompt_is_expected() -> None:
    realised = Realised()
    assert realised.prompts(1.5).share == 0.0
    for n in range(1, 1000):
        realised.fade(n * 0.1)
        if n % 5 == 0:
            realised.ended(100)
    prompts = realised.prompts(1.5)
    assert (1e3 * prompts.per_ms, prompts.each_ms) == pytest.approx((2.0, 150.0), rel=0.05)
    assert prompts.share == pytest.approx(0.3, rel=0.05)
    assert realised.prompts(150.0).share == MOST_PROMPTS


def test_one_that_ends_at_once_is_no_rate() -> None:
    realised = Realised()
    realised.fade(0.0)
    realised.ended(100)
    realised.fade(0.01)
    assert realised.prompts(1.0).per_ms < 0.002
