"""Devices that draft in the paper's radio cell: what they share with its cohorts, and where anything is gained."""

import numpy as np
import pytest

from shared.planning.goodput import baselines, goodput_solver
from shared.planning.goodput.paper_cells import ALPHAS, SLOWER, Devices, paper_cells
from shared.planning.latency.paper_cell import ALPHA, BANDWIDTH_HZ, Setting, paper_cohort


def gain_percent(devices: Devices) -> float:
    cells = paper_cells(1, devices)
    return 100 * (goodput_solver.solve(cells).goodput / baselines.equal_fixed(cells).goodput - 1)


def test_radio_prompts_and_server_are_the_cohort_s() -> None:
    cells, cohort = paper_cells(3, Devices(6, 512.0)), paper_cohort(3, Setting(), users=6)
    (cell,) = cells.cells
    assert cell.uploads.efficiency == pytest.approx(cohort.cells[0].uploads.efficiency)
    assert cell.uploads.cell.bandwidth_hz == BANDWIDTH_HZ
    assert [user.prefix for user in cells.users] == [user.prefix for user in cohort.users]
    assert cells.server == cohort.verifier


def test_devices_differ_in_what_they_should_alone() -> None:
    all_differ = paper_cells(3, Devices(6, 512.0))
    alphas = [user.alpha for user in all_differ.users]
    assert len(set(alphas)) == 6
    assert ALPHAS[0] <= min(alphas) <= max(alphas) <= ALPHAS[1]
    alike = paper_cells(3, Devices(6, 512.0, radio=False, alpha=False, speed=False))
    assert {user.alpha for user in alike.users} == {ALPHA}
    assert np.ptp(alike.cells[0].uploads.efficiency) == 0
    speeds = [user.draft_ms for user in all_differ.users]
    assert SLOWER[0] < max(speeds) / min(speeds) <= 1.1 * SLOWER[1]
    assert max(user.draft_ms for user in alike.users) < 1.1 * min(user.draft_ms for user in alike.users)
    without_one = paper_cells(3, Devices(6, 512.0, speed=False))
    assert [user.alpha for user in without_one.users] == alphas


def test_nothing_is_gained_among_equals() -> None:
    alike = Devices(4, 12_288.0, min_draft=1, radio=False, alpha=False, speed=False)
    assert gain_percent(alike) == pytest.approx(0, abs=1.0)


def test_gains_of_the_published_size_need_long_uploads_of_everybody() -> None:
    assert gain_percent(Devices(4, 16.0)) < 25
    assert gain_percent(Devices(16, 512_000.0, min_draft=1)) > 88
    assert gain_percent(Devices(16, 512_000.0)) == pytest.approx(
        0, abs=1e-9
    )  # nobody drafts, under either method
