"""Shares for batches: bounds that hold, tails of users, and form 3 against shares that do not know the batches."""

import numpy as np
import pytest

from shared.planning.bandwidth.shares import SharingName
from shared.planning.latency.radio import Radio, user_tails
from shared.planning.latency.random_cohorts import random_cohort


def test_tails_of_users_follow_their_batches() -> None:
    order = (2, 0, 1, 3)
    first, end = np.array([2, 0]), np.array([4, 2])
    assert user_tails(order, first, end, np.array([7.0, 9.0])).tolist() == [9, 7, 9, 7]
    many = user_tails(
        order, np.stack([first, first]), np.stack([end, end]), np.array([[7.0, 9.0], [1.0, 2.0]])
    )
    assert many.tolist() == [[9, 7, 9, 7], [2, 1, 2, 1]]


@pytest.mark.parametrize("sharing", ["joint", "minmax", "uniform", "weighted"])
def test_no_end_is_earlier_than_its_bound(sharing: SharingName) -> None:
    for seed in range(100):
        radio = Radio(random_cohort(seed, 6, sharing=sharing))
        tails = np.random.default_rng(seed).uniform(10, 1000, 6)
        served = radio.served(tails)
        bound = float(radio.bound_ms(tails))
        assert bound <= served.latency_ms * (1 + 1e-12)
        if sharing != "joint":
            assert bound == pytest.approx(served.latency_ms)
        else:
            assert bound >= 0.5 * served.latency_ms  # else it would be of no use


@pytest.mark.parametrize("sharing", ["minmax", "uniform", "weighted"])
def test_joint_shares_are_never_worse(sharing: SharingName) -> None:
    for seed in range(100):
        tails = np.random.default_rng(seed).uniform(10, 1000, 6)
        joint = Radio(random_cohort(seed, 6)).served(tails).latency_ms
        assert joint <= Radio(random_cohort(seed, 6, sharing=sharing)).served(tails).latency_ms * (1 + 1e-12)


def test_the_band_of_each_cell_is_kept() -> None:
    for seed in range(20):
        group = random_cohort(seed, 9)
        served = Radio(group).served(np.linspace(10, 100, 9))
        for cell in group.cells:
            used = served.bandwidth_hz[list(cell.members)].sum()
            assert used == pytest.approx(cell.uploads.cell.bandwidth_hz)
