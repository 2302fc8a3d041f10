"""Rounds of users, users in two cells, and costs of intervals against the laws themselves."""

from dataclasses import replace

import numpy as np
import pytest

from shared.planning.bandwidth.uploads import Cell, CellError, Uploads
from shared.planning.cost import Packed, Padded, Shape
from shared.planning.latency.cohort import Cohort, SharedCell
from shared.planning.latency.interval_costs import Intervals
from shared.planning.latency.random_cohorts import random_cohort
from shared.planning.problem import PackedServer, PaddedServer, User

SERVER = PackedServer(Packed(10.0, 1.0))


def test_rounds() -> None:
    users = (User("a", 0.0, 1, 1.0), User("b", 0.5, 1, 1.0))
    rounds = Cohort(users, (7, 7), SERVER, None).rounds_of
    assert rounds(3) == (7, 4)  # E = 1 and 1.875
    assert Cohort(users, (1, 7), SERVER, None).rounds(1) == 5  # 7/1.5
    whole = Cohort((User("c", 0.5, 1, 1.0),), (15,), SERVER, None)
    assert whole.rounds(1) == 10  # 15/1.5, not one more by rounding


def test_a_user_in_two_cells_is_refused() -> None:
    users = (User("a", 0.5, 1, 1.0),)
    cells = tuple(
        SharedCell(Uploads.of(Cell(name, 1e6), ["a"], [8], [1]), (0,), "minmax") for name in ("c1", "c2")
    )
    with pytest.raises(CellError, match="user 'a': cell: in 'c1' and in 'c2'"):
        Cohort(users, (1,), SERVER, None, cells)


@pytest.mark.parametrize("seed", range(12))
def test_costs_of_an_interval_are_those_of_its_batch(seed: int) -> None:
    group = random_cohort(seed, 6)
    intervals = Intervals.of(group, group.by_input())
    costs = intervals.costs(3)
    for first in range(6):
        for end in range(first + 1, 7):
            batch = [group.users[m] for m in group.by_input()[first:end]]
            inputs = [user.prefix for user in batch]
            b, longest = len(batch), max(inputs)
            passed = group.verifier.law.pass_ms(Shape(b, 4 * b, 4, sum(inputs), longest))
            assert costs.verify_ms[first, end] == pytest.approx(passed)
            if group.drafter is None:
                drafted, link = max(user.ready_ms(3) for user in batch), 0.0
            else:
                drafted = 3 * float(group.drafter.pass_ms(Shape(b, b, 1, sum(inputs), longest)))
                link = max(user.comm_ms for user in batch)
            assert costs.draft_ms[first, end] == pytest.approx(drafted)
            assert costs.loop_ms[first, end] == pytest.approx(drafted + link + passed)
            need = group.verifier.needed_bytes(b, longest, sum(inputs))
            assert intervals.fits[first, end] == (need <= group.verifier.memory_bytes)


def test_memory_of_all_batches_counts_weights_once() -> None:
    server = PaddedServer(Padded(1.0, 1e-9, 2, 8, 16), 1e12)
    users = tuple(User(f"u{k}", 0.5, 10 * (k + 1), 1.0) for k in range(3))
    weights, row = float(server.needed_bytes(0, 0, 0)), 4 * 2 * 8
    apart = row * (10 + 20 + 30)
    group = Cohort(users, (5, 5, 5), server, None, resident_bytes=weights + apart)
    costs = Intervals.of(group, (0, 1, 2)).costs(1)
    alone = (np.array([0, 1, 2]), np.array([1, 2, 3]))
    assert costs.admits(*alone)
    assert not costs.admits(np.array([0, 2]), np.array([2, 3]))  # padded: 2 rows of 20
    tight = Intervals.of(replace(group, resident_bytes=weights + apart - 1), (0, 1, 2)).costs(1)
    assert not tight.admits(*alone)
