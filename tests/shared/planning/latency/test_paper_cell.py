"""The paper's cell: what it gives, and where its reductions come from."""

import numpy as np
import pytest

from shared.planning.latency import baselines, latency_solver
from shared.planning.latency.paper_cell import BANDWIDTH_HZ, PAIRS, Setting, paper_cohort


def test_the_cell() -> None:
    cohort = paper_cohort(1, Setting(bits_per_token=100.0))
    uploads = cohort.cells[0].uploads
    inputs = np.array([user.prefix for user in cohort.users])
    assert len(cohort.users) == 100
    assert uploads.cell.bandwidth_hz == BANDWIDTH_HZ
    assert uploads.bits.tolist() == (100 * inputs).tolist()
    assert 1 <= inputs.min() < inputs.max() <= 512
    assert 1 <= min(cohort.outputs) < max(cohort.outputs) <= 2048
    assert cohort.lengths == range(1, 11)


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one() -> None:
    few, many = paper_cohort(3, Setting(), users=20), paper_cohort(3, Setting())
    assert few.users == many.users[:20]
    assert few.outputs == many.outputs[:20]


def test_more_path_loss_makes_uploads_longer() -> None:
    near, far = (
        paper_cohort(1, Setting(path_loss_db_at_km=loss)).cells[0].uploads for loss in (128.1, 138.1)
    )
    assert (far.demand > near.demand).all()


@pytest.mark.parametrize("pair", PAIRS)
def test_bandwidth_matters_with_long_payloads_alone(pair: tuple[str, str]) -> None:
    def reduction(bits: float) -> float:
        cohort = paper_cohort(0, Setting(bits_per_token=bits), pair, 30)
        ours, uniform = latency_solver.solve(cohort), baselines.uniform_bandwidth(cohort)
        return 1 - ours.latency_ms / uniform.latency_ms

    assert reduction(16.0) < 0.02
    assert reduction(1e6) > 0.4


def test_a_pipeline_pays_where_drafting_takes_as_long_as_verifying() -> None:
    def reduction(drafter_scale: float) -> float:
        cohort = paper_cohort(0, Setting(c2_scale=0.01, drafter_scale=drafter_scale), users=30)
        return 1 - latency_solver.solve(cohort).latency_ms / baselines.without_pipeline(cohort).latency_ms

    assert reduction(1.0) < 0.1
    assert max(reduction(scale) for scale in (30.0, 60.0, 100.0)) > 0.2
