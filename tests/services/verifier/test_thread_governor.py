"""The thread governor: on a quiet machine, beside busy processes and after they end."""

import itertools

import pytest
import torch

from services.verifier import torch_target
from services.verifier.cpu_times import CpuTimes
from services.verifier.thread_governor import ThreadGovernor
from shared.compute.target import TargetRow
from tests.services.verifier.tiny import configs, greedy, target


def spent(wall: float = 0.1, *, waited: float = 0.0, others: float = 0.0) -> CpuTimes:
    """A pass of `wall` seconds; waited and others as shares of it."""
    return CpuTimes(wall, waited * wall, 1.5 * wall, (1.5 + others) * wall)


def after(governor: ThreadGovernor, passes: int, one: CpuTimes) -> int:
    for _ in range(passes):
        governor.after_pass(one)
    return governor.threads


def test_a_quiet_machine_keeps_all_threads() -> None:
    assert after(ThreadGovernor(2, 2), 100, spent(waited=0.05, others=0.2)) == 2


def test_one_busy_process_costs_a_thread_within_twenty_passes_and_gives_it_back_when_it_ends() -> None:
    governor = ThreadGovernor(2, 2)
    after(governor, 20, spent(waited=0.05))
    assert after(governor, 20, spent(waited=0.55, others=0.5)) == 1
    # alone on its core it waits for nobody; the other process now has the other core
    assert after(governor, 100, spent(waited=0.04, others=0.97)) == 1
    assert after(governor, 20, spent(others=0.05)) == 2


def test_two_busy_processes_leave_one_thread() -> None:
    governor = ThreadGovernor(2, 2)
    assert after(governor, 20, spent(waited=1.1, others=1.0)) == 1
    assert after(governor, 100, spent(waited=0.15, others=1.3)) == 1


def test_niced_neighbours_cost_no_thread() -> None:
    """They do not count among the others, and a pass waits little for them."""
    assert after(ThreadGovernor(2, 2), 100, spent(waited=0.28)) == 2


def test_a_core_is_not_given_up_to_one_that_does_no_harm() -> None:
    assert after(ThreadGovernor(2, 2), 100, spent(waited=0.1, others=0.6)) == 2


def test_a_single_bad_pass_changes_nothing() -> None:
    governor = ThreadGovernor(2, 2)
    after(governor, 10, spent(waited=0.05))
    assert after(governor, 1, spent(waited=0.9, others=0.5)) == 2
    assert after(governor, 10, spent(waited=0.05)) == 2


def test_on_many_cores_only_the_taken_ones_are_given_up() -> None:
    governor = ThreadGovernor(16, 16)
    assert after(governor, 20, spent(waited=0.6, others=3.0)) == 13
    assert after(governor, 20, spent(others=1.0)) == 15


@pytest.mark.parametrize("limit", [1, 4])
def test_never_more_than_the_limit_nor_less_than_one(limit: int) -> None:
    governor = ThreadGovernor(limit, 8)
    assert after(governor, 50, spent()) == limit
    assert after(governor, 50, spent(waited=2.0, others=8.0)) == 1


def test_a_new_limit_starts_anew() -> None:
    governor = ThreadGovernor(2, 2)
    after(governor, 20, spent(waited=0.6, others=0.5))
    governor.limit_to(2)
    assert governor.threads == 2
    assert after(governor, 2, spent(waited=0.6, others=0.5)) == 2, "what was seen before counts no more"
    assert after(governor, 20, spent(waited=0.6, others=0.5)) == 1


def test_a_target_computes_on_the_threads_that_the_governor_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that wait for cores end on one thread; a policy's own number brings the rest back."""
    waiting = (CpuTimes(0.1 * i, 0.08 * i, 0.1 * i, 0.2 * i) for i in itertools.count())
    monkeypatch.setattr(torch_target, "read_cpu_times", lambda: next(waiting))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        model = target(configs()["llama"])
        model.governor = ThreadGovernor(2, 2)
        for position in range(20):
            assert model.admit("s", (), ["s"], position + 1)
            model.forward([TargetRow("s", position, (1,), 1, True, greedy())])
        assert torch.get_num_threads() == 1
        model.set_threads(2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
