"""Batches in flight at a verifier: when it is free, pass costs, and throughput."""

import pytest

from services.scheduler.throughput import RATE_HORIZON_S, Throughput
from services.scheduler.verifiers import InFlightBatch, InFlightBatches, PassCosts
from shared.planning.cost import Packed
from shared.planning.problem import MAX_PROMPT_SHARE


def staged(staged_at: float, expected_s: float = 0.1) -> InFlightBatch:
    return InFlightBatch(((4, 100),), {"s"}, expected_s, staged_at, True)


def test_a_verifier_is_free_when_all_it_has_is_done_one_after_another() -> None:
    in_flight = InFlightBatches()
    assert in_flight.free_at(5.0) == 5.0
    in_flight.add(1, staged(5.0))
    in_flight.add(2, staged(5.02))
    assert in_flight.free_at(5.05) == pytest.approx(5.2)
    in_flight.complete(1, 5.15)  # it took longer
    assert in_flight.free_at(5.15) == pytest.approx(5.25)
    assert in_flight.free_at(6.0) == 6.0


def test_a_pass_counts_from_the_last_answer_when_it_waited_for_it() -> None:
    in_flight = InFlightBatches()
    in_flight.add(1, staged(5.0))
    in_flight.add(2, staged(5.02))
    assert in_flight.complete(1, 5.1)
    first = in_flight.pop_measured(1)
    assert first is not None
    assert first.took_s == pytest.approx(0.1)
    assert in_flight.pop_measured(1) is None
    assert in_flight.complete(2, 5.25)
    second = in_flight.pop_measured(2)
    assert second is not None
    assert second.took_s == pytest.approx(0.15)


def test_only_decoding_passes_teach_the_law_of_decoding() -> None:
    costs = PassCosts.starting(Packed(50.0, 1.0), 2.0)
    in_flight = InFlightBatches()
    for n in range(20):
        rows = ((4, 100),) * (2 + n % 5)
        in_flight.add(2 * n, InFlightBatch(rows, {"s"}, 0.1, float(n), True))
        in_flight.complete(2 * n, n + 0.104)
        costs.observe(in_flight.pop_measured(2 * n), 100.0)  # type: ignore[arg-type]
        in_flight.add(2 * n + 1, InFlightBatch(((500, 0),), {"s"}, 0.1, n + 0.5, False))
        in_flight.complete(2 * n + 1, n + 0.9)
        costs.observe(in_flight.pop_measured(2 * n + 1), 390.0)  # type: ignore[arg-type]
    assert costs.decoding.expected().cost_ms([(4, 100)] * 4) == pytest.approx(100.0, rel=0.05)
    assert costs.any.expected().cost_ms([(500, 0)]) == pytest.approx(390.0, rel=0.1)
    assert costs.hop_ms.value == pytest.approx(4.0, rel=0.2)


def test_drafts_that_come_meanwhile_have_a_price_where_they_slow_a_pass_down() -> None:
    costs, in_flight = PassCosts.starting(Packed(50.0, 1.0), 0.0), InFlightBatches()
    for n in range(300):
        rows = ((4, 100),) * (3 + n % 4)
        in_flight.count_draft()  # nothing is under way
        in_flight.add(n, InFlightBatch(rows, {"s"}, 0.1, float(n), True))
        for _ in range(came := 7 * (n // 3 % 2)):
            in_flight.count_draft()
        in_flight.complete(n, n + 0.1)
        costs.observe(in_flight.pop_measured(n), 50.0 + 4 * len(rows) + 0.6 * came)  # type: ignore[arg-type]
    assert costs.decoding.arrival_ms == pytest.approx(0.6, rel=0.2)
    assert costs.decoding.expected().cost_ms([(4, 100)] * 4) == pytest.approx(66.0, rel=0.03)


def test_rates_are_of_late_and_forget() -> None:
    throughput = Throughput()
    assert throughput.tokens.per_s == throughput.cycle_ms(3) == 0.0
    throughput.fade(0.0)
    for n in range(1, 1000):
        throughput.fade(n * 0.1)
        throughput.observe(3)
    assert throughput.tokens.per_s == pytest.approx(30.0, rel=0.02)
    assert throughput.cycle_ms(4) == pytest.approx(400.0, rel=0.02)
    throughput.fade(100.0 + 10 * RATE_HORIZON_S)
    assert throughput.tokens.per_s < 0.1


def test_for_each_session_that_ends_another_prompt_is_expected() -> None:
    throughput = Throughput()
    assert throughput.prompts(1.5).share == 0.0
    for n in range(1, 1000):
        throughput.fade(n * 0.1)
        if n % 5 == 0:
            throughput.ended(100)
    prompts = throughput.prompts(1.5)
    assert (1e3 * prompts.per_ms, prompts.each_ms) == pytest.approx((2.0, 150.0), rel=0.05)
    assert prompts.share == pytest.approx(0.3, rel=0.05)
    assert throughput.prompts(150.0).share == MAX_PROMPT_SHARE


def test_one_that_ends_at_once_is_no_rate() -> None:
    throughput = Throughput()
    throughput.fade(0.0)
    throughput.ended(100)
    throughput.fade(0.01)
    assert throughput.prompts(1.0).per_ms < 0.002
