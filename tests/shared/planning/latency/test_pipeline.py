"""The pipeline's longest paths against a plain simulation of the two nodes, and its steady period."""

import numpy as np
import pytest

from shared.planning.latency.pipeline import Pipeline, serial_ms


def simulated(pipeline: Pipeline, rounds: int, ready: np.ndarray) -> np.ndarray:
    """Ends of all verifications [rounds, n], event by event."""
    free_drafter = free_verifier = 0.0
    after, ends = ready.copy(), np.empty((rounds, len(ready)))
    for turn in range(rounds):
        for j in range(len(ready)):
            start = max(after[j], free_drafter) if pipeline.one_drafter else after[j]
            drafted = start + pipeline.draft_ms[j]
            free_drafter = drafted
            free_verifier = max(drafted + pipeline.link_ms[j], free_verifier) + pipeline.verify_ms[j]
            after[j] = ends[turn, j] = free_verifier
    return ends


def draw(seed: int) -> tuple[Pipeline, int, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    scale = 10 ** rng.uniform(-1, 1)
    link = rng.uniform(0, 5, n) * (seed % 3 == 0)
    if seed % 5 == 0:  # equal batches: many paths tie
        draft, verify = np.full(n, 3.0), np.full(n, 3.0 if seed % 2 else 4.0)
    else:
        draft, verify = rng.uniform(0, 10, n) * scale, rng.uniform(0.1, 10, n)
    pipeline = Pipeline(draft, verify, link, bool(seed % 4))
    return pipeline, int(rng.integers(1, 40)), rng.uniform(0, 40, n)


@pytest.mark.parametrize("seed", range(120))
def test_the_end_is_the_latest_of_ready_plus_tail(seed: int) -> None:
    pipeline, rounds, ready = draw(seed)
    expected = simulated(pipeline, rounds, ready)
    assert pipeline.ends_ms(rounds, ready) == pytest.approx(expected)
    assert (ready + pipeline.tails_ms(rounds)).max() == pytest.approx(expected[-1, -1], rel=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_a_tail_is_the_end_of_a_cohort_of_which_all_others_are_ready_long_ago(seed: int) -> None:
    pipeline, rounds, _ = draw(seed)
    for j, tail in enumerate(pipeline.tails_ms(rounds)):
        ready = np.where(np.arange(len(pipeline.draft_ms)) == j, 1e6, 0.0)
        assert simulated(pipeline, rounds, ready)[-1, -1] - 1e6 == pytest.approx(tail)


@pytest.mark.parametrize("seed", range(40))
def test_rounds_take_the_period_in_the_end(seed: int) -> None:
    pipeline, _, ready = draw(seed)
    ends = simulated(pipeline, 600, ready)[:, -1]
    assert (ends[-1] - ends[-201]) / 200 == pytest.approx(float(pipeline.period_ms()), rel=1e-3)


def test_many_pipelines_at_once() -> None:
    rng = np.random.default_rng(1)
    draft, verify, link = rng.uniform(0, 5, (7, 3)), rng.uniform(1, 5, (7, 3)), np.zeros((7, 3))
    together = Pipeline(draft, verify, link, True)
    for row in range(7):
        alone = Pipeline(draft[row], verify[row], link[row], True)
        assert together.tails_ms(9)[row] == pytest.approx(alone.tails_ms(9))
        assert together.period_ms()[row] == alone.period_ms()


def test_very_many_rounds_take_the_period_each() -> None:
    pipeline = Pipeline(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.zeros(2), True)
    more = pipeline.tails_ms(1_000_000) - pipeline.tails_ms(500_000)
    assert more == pytest.approx(500_000 * 7.0)


def test_without_a_pipeline_batches_take_turns() -> None:
    pipeline = Pipeline(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.5, 0.0]), True)
    assert serial_ms(pipeline, 3) == 3 * 10.5
