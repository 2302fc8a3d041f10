"""Textbook queues of the simulator's parts: each wait as the recursion gives it, the mean as the formula does.

The stack itself is M/M/1 and M/D/1: requests of one pass (single_passes.py). It is no M/M/c, since a session is placed
on a verifier when it comes; there each verifier's waits equal its own recursion. M/M/c is built of a work stream and
processes that read and compute (stream_servers.py).
"""

import numpy as np
import pytest

from tests.simulator.queueing import Draws, Queue, kiefer_wolfowitz, lindley, md1_wait, mean_wait, mmc_wait
from tests.simulator.runs import run, scenario
from tests.simulator.single_passes import served
from tests.simulator.stream_servers import waits

MICROSECOND = 1e-6
WIDEST = 0.7  # of the formula: half of an interval that still says something
REQUESTS = {0.5: 1000, 0.9: 3000}  # by load: the more load, the longer a queue remembers
SEED = 1


def assert_mean(waited: list[float], drawn: Draws, queue: Queue) -> None:
    """The interval of the mean contains the formula, and is not so wide that it would contain anything."""
    interval = mean_wait(waited, drawn, queue)
    assert queue.formula in interval, (interval, queue.formula)
    assert interval.half < WIDEST * queue.formula, (interval, queue.formula)


def test_recursions_and_formulas_by_hand() -> None:
    assert lindley([0, 1, 2, 9], [3, 1, 1, 1]) == [0.0, 2.0, 2.0, 0.0]
    assert kiefer_wolfowitz([0, 0, 0, 1], [4, 2, 5, 1], servers=2) == [0.0, 0.0, 2.0, 3.0]
    assert kiefer_wolfowitz([0, 1, 2, 9], [3, 1, 1, 1], servers=1) == lindley([0, 1, 2, 9], [3, 1, 1, 1])
    assert md1_wait(0.9, 2.0) == pytest.approx(9.0)
    assert mmc_wait(0.9, 1.0, servers=1) == pytest.approx(9.0)
    assert mmc_wait(0.75, 1.0, servers=2) == pytest.approx(9 / 7)  # C(2, 1.5) = 9 / 14


@pytest.mark.slow
@pytest.mark.parametrize("load", REQUESTS)
def test_the_stack_is_mm1(load: float) -> None:
    queue = Queue(load, REQUESTS[load])
    due, services = queue.draw(SEED)
    passed = served(due, services)
    expected = lindley(due, services)
    assert [one.wait for one in passed] == pytest.approx(expected, abs=MICROSECOND)
    answered = [one.answered - one.arrived for one in passed]
    assert answered == pytest.approx(
        [w + s for w, s in zip(expected, services, strict=True)], abs=MICROSECOND
    )
    assert_mean([one.wait for one in passed], (due, services), queue)


@pytest.mark.slow
@pytest.mark.parametrize("load", REQUESTS)
def test_a_simulated_scenario_is_md1(load: float) -> None:
    """`outrider simulate` of one verifier and prompts of equal length, by loadgen's own arrivals and records."""
    queue = Queue(load, REQUESTS[load], fixed=True)
    law = {"law": "packed", "beta_ms": 12.0, "per_token_ms": 0.5, "per_context_ms": 0.0}
    what = scenario(
        core={"hop": "0 ms", "server": law | {"memory_bytes": 8e9, "kv_bytes_per_token": 1.0}},
        devices=[{"alpha": 0.5, "draft": "5 ms"}],
        load={"rate": 1 / queue.gap, "requests": queue.requests, "prompt-tokens": 16, "answer-tokens": 1},
    )
    records = run(what, "autoregressive").records
    begun = records[0].scheduled - queue.gap
    due, services = [record.scheduled - begun for record in records], [queue.service] * queue.requests
    assert due == sorted(due)
    waited = [record.chunks[0].at - record.scheduled - queue.service for record in records]
    assert waited == pytest.approx(lindley(due, services), abs=MICROSECOND)
    assert_mean(waited, (due, services), queue)


@pytest.mark.slow
def test_each_of_several_verifiers_serves_its_own_queue_in_order() -> None:
    """The stack places a session on the verifier with the fewest: better than blindly, no better than one queue."""
    queue = Queue(0.8, 1500, servers=3)
    due, services = queue.draw(SEED)
    passed = served(due, services, queue.servers)
    for name in ("verifier-0", "verifier-1", "verifier-2"):
        own = [n for n, one in enumerate(passed) if one.verifier == name]
        expected = lindley([due[n] for n in own], [services[n] for n in own])
        assert [passed[n].wait for n in own] == pytest.approx(expected, abs=MICROSECOND)
    blind = [lindley(due[n :: queue.servers], services[n :: queue.servers]) for n in range(queue.servers)]
    one_queue = kiefer_wolfowitz(due, services, queue.servers)
    assert np.mean(one_queue) < np.mean([one.wait for one in passed]) < np.mean(np.concatenate(blind))


@pytest.mark.slow
@pytest.mark.parametrize(("load", "servers"), [(0.5, 2), (0.9, 1), (0.9, 2), (0.9, 5)])
def test_stream_servers_are_mmc(load: float, servers: int) -> None:
    queue = Queue(load, 4 * REQUESTS[load], servers)
    due, services = queue.draw(SEED)
    waited = waits(due, services, servers)
    assert waited == pytest.approx(kiefer_wolfowitz(due, services, servers), abs=MICROSECOND)
    assert_mean(waited, (due, services), queue)
