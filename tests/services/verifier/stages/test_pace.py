"""Who is slow, in words; and the stages' figures as metrics."""

from prometheus_client import CollectorRegistry

from services.verifier.stages.link import QueueLink
from services.verifier.stages.messages import StageState
from services.verifier.stages.pace import ENOUGH, WINDOW, Pace, slowest
from services.verifier.stages.ring import Ring
from services.verifier.stages.stage_metrics import StageMetrics
from tests.services.verifier.stages.rings import facts


def state(rank: int, busy_ms: float, tokens: int) -> StageState:
    return StageState(rank, 8 - rank, round(busy_ms * 1e3), tokens // 2, tokens, rank, 0, 100 * rank)


def test_the_split_is_named_before_anything_is_computed() -> None:
    pace = Pace()
    assert pace.words() == ""
    pace.follow((state(1, 0, 0), state(2, 0, 0)))
    assert pace.words() == "2 stages of 7, 6 layers"


def test_the_slow_stage_is_named() -> None:
    pace = Pace()
    pace.follow(tuple(state(rank, 0, 0) for rank in (1, 2, 3)))
    pace.follow((state(1, 100, ENOUGH), state(2, 310, ENOUGH), state(3, 110, ENOUGH)))
    assert pace.words() == "3 stages of 7, 6, 5 layers; stage 2 is slow: 3.10 ms a token, the others 1.05"


def test_few_tokens_say_nothing() -> None:
    pace = Pace()
    pace.follow((state(1, 0, 0), state(2, 0, 0)))
    pace.follow((state(1, 1, ENOUGH - 1), state(2, 100, ENOUGH - 1)))
    assert pace.ms_per_token() == ()


def test_only_the_last_beats_count() -> None:
    pace = Pace()
    pace.follow((state(1, 0, 0), state(2, 0, 0)))
    for beat in range(1, WINDOW + 1):  # stage 2 was slow only before the first of them
        pace.follow((state(1, beat * 100, beat * 100), state(2, 5000 + beat * 100, beat * 100)))
    assert pace.ms_per_token() == (1.0, 1.0)


def test_a_little_slower_is_not_much() -> None:
    assert slowest([1.0, 1.5]) == ""
    assert slowest([1.6, 1.0]).startswith("stage 1 is slow")
    assert slowest([1.0]) == slowest([]) == ""


def test_metrics_are_those_of_the_last_beat() -> None:
    ring = Ring(facts(0), 2, QueueLink(), QueueLink())
    registry = CollectorRegistry()
    registry.register(StageMetrics(ring))
    assert registry.get_sample_value("outrider_verifier_stage_sent_bytes_total", {"stage": "0"}) == 0
    ring.states, ring.round_trip_us = (state(1, 1500, 10), state(2, 500, 10)), 2500
    ring.left_out = 6
    figures = {
        "stage_layers": 7,
        "stage_busy_seconds_total": 1.5,
        "stage_passes_total": 5,
        "stage_tokens_total": 10,
        "stage_waiting_pieces": 1,
        "stage_sent_bytes_total": 100,
    }
    for name, value in figures.items():
        assert registry.get_sample_value(f"outrider_verifier_{name}", {"stage": "1"}) == value
    assert registry.get_sample_value("outrider_verifier_stage_round_trip_seconds") == 0.0025
    assert registry.get_sample_value("outrider_verifier_left_out_tokens_total") == 6
