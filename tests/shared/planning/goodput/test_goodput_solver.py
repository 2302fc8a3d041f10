"""Solver, brute force and baselines of objective `goodput`."""

from dataclasses import replace

import numpy as np
import pytest

from shared.planning.bandwidth.uploads import Cell, CellError, Floats, Uploads
from shared.planning.cost import Packed
from shared.planning.goodput import baselines, brute_force, goodput_solver
from shared.planning.goodput.drafting_cells import DraftCell, DraftingCells
from shared.planning.goodput.goodput_plan import goodput_of, plan_of
from shared.planning.goodput.random_cells import random_cells
from shared.planning.goodput.uplink import BestShares, EqualShares
from shared.planning.problem import PackedServer, User
from shared.planning.solvers.solve import Infeasible


def cells_of(
    alpha: Floats,
    draft_ms: Floats,
    alone_ms: Floats,
    *,
    deadline_ms: float = np.inf,
    server: PackedServer | None = None,
    floor_hz: Floats | None = None,
    min_draft: int = 0,
    max_draft: int = 8,
) -> DraftingCells:
    """Users of one cell, alone_ms: of a token's upload with all of it. A pass takes 20 ms and 1 ms a token."""
    n, bits = len(alpha), alone_ms * 1e3
    ids = [f"u{k}" for k in range(n)]
    uploads = Uploads.of(Cell("c", 1e6), ids, bits * max_draft, np.ones(n), floor_hz=floor_hz)
    users = tuple(User(ids[k], alpha[k], 100, draft_ms[k]) for k in range(n))
    return DraftingCells(
        users,
        server or PackedServer(Packed(20.0, 1.0)),
        (DraftCell(uploads, tuple(range(n))),),
        bits,
        np.zeros(n),
        np.full(n, deadline_ms),
        min_draft,
        max_draft,
    )


@pytest.mark.parametrize("kind", [BestShares, EqualShares])
def test_brute_force_is_hardly_better(kind: type[BestShares] | type[EqualShares]) -> None:
    gaps = []
    for seed in range(12):
        cells = random_cells(seed, 1 + seed % 4, max_draft=5)
        uplink = kind(cells)
        found, best = (
            float(goodput_of(cells, uplink, lengths))
            for lengths in (
                goodput_solver.best_lengths(cells, uplink),
                brute_force.best_lengths(cells, uplink),
            )
        )
        assert best >= found * (1 - 1e-12)
        gaps.append(1 - found / best if best else 0.0)
    assert np.mean(gaps) <= 0.001
    assert max(gaps) <= 0.005


def test_brute_force_tries_every_choice() -> None:
    cells = random_cells(2, 2, max_draft=4)
    uplink = BestShares(cells)
    every = [(a, b) for a in cells.lengths for b in cells.lengths]
    values = [float(goodput_of(cells, uplink, np.array(each))) for each in every]
    assert brute_force.choices(cells) == len(every)
    assert tuple(brute_force.best_lengths(cells, uplink)) == every[int(np.argmax(values))]


def test_no_baseline_is_better() -> None:
    for seed in range(6):
        cells = random_cells(seed, 6, max_draft=5)
        joint, own, shares, fixed = (
            method(cells).goodput
            for method in (
                goodput_solver.solve,
                baselines.equal_own,
                baselines.best_fixed,
                baselines.equal_fixed,
            )
        )
        assert joint >= max(own, shares) * (1 - 1e-9)
        assert min(own, shares) >= fixed * (1 - 1e-9)


def test_a_plan_is_the_round_that_it_makes() -> None:
    cells = cells_of(np.array([0.8, 0.6]), np.array([5.0, 3.0]), np.array([2.0, 4.0]))
    plan = plan_of(cells, BestShares(cells), np.array([3, 2]))
    ends = np.array([3 * 5.0, 2 * 3.0]) + plan.upload_ms
    assert ends == pytest.approx(plan.drafts_ms)  # both end together
    assert plan.bandwidth_hz.sum() == pytest.approx(1e6)
    assert plan.upload_ms == pytest.approx(np.array([6e6, 8e6]) / plan.bandwidth_hz)
    assert plan.round_ms == pytest.approx(plan.drafts_ms + 20 + 5 + 2)
    assert plan.goodput == pytest.approx(1e3 * (1 + 0.8 + 0.64 + 0.512 + 1 + 0.6 + 0.36) / plan.round_ms)


def test_who_is_accepted_more_gets_more_of_the_band() -> None:
    plan = goodput_solver.solve(cells_of(np.array([0.5, 0.9]), np.full(2, 3.0), np.full(2, 4.0)))
    assert plan.lengths[0] < plan.lengths[1]
    assert plan.bandwidth_hz[0] < plan.bandwidth_hz[1]
    with_one_length = baselines.best_fixed(cells_of(np.full(2, 0.8), np.array([2.0, 9.0]), np.full(2, 4.0)))
    assert with_one_length.bandwidth_hz[0] < with_one_length.bandwidth_hz[1]  # the slower one gets more


def test_without_uploads_shares_gain_nothing() -> None:
    cells = cells_of(np.array([0.5, 0.8, 0.9]), np.array([3.0, 9.0, 5.0]), np.zeros(3))
    assert goodput_solver.solve(cells).goodput == pytest.approx(baselines.equal_own(cells).goodput)
    assert baselines.best_fixed(cells).goodput == pytest.approx(baselines.equal_fixed(cells).goodput)


def test_who_costs_more_than_it_brings_drafts_nothing_where_that_is_allowed() -> None:
    far = (np.full(3, 0.8), np.full(3, 3.0), np.array([1.0, 1.0, 500.0]))
    assert goodput_solver.solve(cells_of(*far)).lengths[2] == 0
    assert goodput_solver.solve(cells_of(*far, min_draft=1)).lengths[2] == 1


def test_users_of_several_cells_and_of_none() -> None:
    cells = random_cells(7, 9)
    plan = goodput_solver.solve(cells)
    members = {member for cell in cells.cells for member in cell.members}
    assert len(cells.cells) == 2
    assert members < set(range(9))
    for cell in cells.cells:
        assert plan.bandwidth_hz[list(cell.members)].sum() == pytest.approx(1e6)
    assert not plan.bandwidth_hz[list(set(range(9)) - members)].any()


def test_users_in_time_keep_their_deadline_and_the_others_hold_nobody_up() -> None:
    cells = cells_of(np.array([0.9, 0.9, 0.3]), np.full(3, 4.0), np.full(3, 2.0))
    free = goodput_solver.solve(cells)
    tight = replace(cells, deadline_ms=np.array([16.0, 16.0, 16.0]))
    plan = goodput_solver.solve(tight)
    assert plan.late == (2,)
    assert plan.lengths[2] == 0
    per_token = plan.round_ms / tight.of_users(tight.tokens, np.array(plan.lengths))
    assert (per_token[:2] <= 16.0).all()
    assert plan.goodput <= free.goodput


def test_where_nobody_can_be_in_time_the_plan_is_that_without_deadlines() -> None:
    cells = cells_of(np.array([0.8, 0.6]), np.full(2, 4.0), np.full(2, 2.0))
    plan = goodput_solver.solve(replace(cells, deadline_ms=np.full(2, 1.0)))
    assert plan.goodput == 0
    assert plan.late == (0, 1)
    assert plan.lengths == goodput_solver.solve(cells).lengths


def test_many_users_are_planned() -> None:
    cells = random_cells(1, 70)
    assert goodput_solver.solve(cells).goodput >= baselines.best_fixed(cells).goodput


def test_what_cannot_be_planned_is_refused_by_name() -> None:
    two = (np.full(2, 0.8), np.full(2, 4.0), np.full(2, 2.0))
    with pytest.raises(Infeasible, match=r"memory_bytes: one pass over 2 users, 'u0'.* needs 2000 bytes"):
        cells_of(*two, server=PackedServer(Packed(1, 1), 1e3, 10.0))
    with pytest.raises(CellError, match=r"user 'u1': floor_hz.*1e\+06 Hz of cell 'c'"):
        cells_of(*two, floor_hz=np.array([1e6, 0.0]))
    cells = cells_of(*two)
    with pytest.raises(CellError, match="user 'u0': cell: in 'c' and in 'c'"):
        replace(cells, cells=(cells.cells[0], cells.cells[0]))
