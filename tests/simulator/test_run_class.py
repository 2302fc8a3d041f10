"""The class of a run, on queues of known load: the recursion that the stack follows to the microsecond."""

from collections import Counter, deque
from dataclasses import replace

import numpy as np
import pytest

from loadgen.metrics.summary import Window
from loadgen.request import ChatRequest, Chunk, Record
from simulator.run_class import classify
from tests.simulator.queueing import Draws, Queue, kiefer_wolfowitz

REQUEST = ChatRequest("r", "modelled", (1,), 1)
SEEDS = range(40)


def records(drawn: Draws, servers: int = 1) -> list[Record]:
    """The requests of a queue, all served to the end."""
    waits = kiefer_wolfowitz(*drawn, servers)
    return [
        Record(REQUEST, due, due, ended=due + wait + service)
        for due, service, wait in zip(*drawn, waits, strict=True)
    ]


def whole(of: list[Record]) -> Window:
    """From the first arrival to the last end, as of a load without warm-up."""
    return Window(of[0].scheduled, max(record.ended for record in of))


def arriving(of: list[Record]) -> Window:
    """While requests arrive."""
    return Window(of[0].scheduled, of[-1].scheduled)


def classes(queue: Queue) -> Counter[str]:
    """How often a queue is of each class."""
    runs = [records(queue.draw(seed), queue.servers) for seed in SEEDS]
    return Counter(classify(run, whole(run)) for run in runs)


def with_burst(at: float, seed: int = 1, extra: int = 400) -> list[Record]:
    """A queue of load 0.5 and 1,000 requests; at a share of the run further requests come within a twentieth of it."""
    due, services = Queue(0.5, 1000).draw(seed)
    rng = np.random.default_rng(seed)
    burst = due[-1] * (at + 0.05 * rng.random(extra))
    return records((sorted([*due, *burst.tolist()]), [*services, *rng.exponential(0.02, extra).tolist()]))


def in_turn(load: float, requests: int, seed: int, pass_s: float = 0.05, tokens: int = 40) -> list[Record]:
    """Requests that take turns at a server, a token each, until all are served; lengths differ by half."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(pass_s * tokens / load, requests)).tolist()
    left = rng.integers(tokens // 2, tokens + tokens // 2, requests).tolist()
    waiting, now, run = deque[int](), 0.0, [Record(REQUEST, at, at) for at in due]
    arrived = 0
    while arrived < requests or waiting:
        now = max(now, due[arrived]) if not waiting else now
        while arrived < requests and due[arrived] <= now:
            waiting.append(arrived)
            arrived += 1
        now += pass_s
        n = waiting.popleft()
        run[n].chunks.append(Chunk(now, "", (1,), 0))
        run[n].ended, left[n] = now, left[n] - 1
        if left[n]:
            waiting.append(n)
    return run


@pytest.mark.parametrize(
    ("load", "requests"), [(0.5, 300), (0.8, 300), pytest.param(0.8, 1000, marks=pytest.mark.slow)]
)
def test_turns_below_load_one_are_stable(load: float, requests: int) -> None:
    found = Counter(classify(run, arriving(run)) for run in (in_turn(load, requests, n) for n in range(6)))
    assert found["stable"] >= 5


@pytest.mark.parametrize(("load", "requests"), [(1.5, 300), (2.5, 300), (2.5, 100)])
def test_turns_above_load_one_are_an_overload(load: float, requests: int) -> None:
    """Those that come late share the server with fewer in the end: from arrival to end they take no longer."""
    found = Counter(classify(run, arriving(run)) for run in (in_turn(load, requests, n) for n in range(6)))
    assert found["overloaded"] >= 5


@pytest.mark.parametrize("requests", [100, 400, 1000])
@pytest.mark.parametrize("load", [0.5, 0.9])
def test_load_below_one_is_stable(load: float, requests: int) -> None:
    """At 0.9 the number in the system fluctuates from none to forty within a run."""
    assert classes(Queue(load, requests))["stable"] >= 0.95 * len(SEEDS)


@pytest.mark.parametrize(
    ("load", "requests"), [pytest.param(1.1, 4000, marks=pytest.mark.slow), (1.5, 400), (3.0, 100)]
)
def test_load_above_one_is_an_overload(load: float, requests: int) -> None:
    """The backlog outgrows chance with the square root of the run's length: the less above one, the longer it takes."""
    assert classes(Queue(load, requests))["overloaded"] >= 0.9 * len(SEEDS)


def test_load_one_and_a_tenth_shows_in_a_thousand_requests() -> None:
    found = classes(Queue(1.1, 1000))
    assert found["overloaded"] + found["backlogged"] >= 0.5 * len(SEEDS)


def test_filling_up_is_no_backlog() -> None:
    """Long requests at many servers: the number in the system grows for most of the run, nobody waits."""
    assert classes(Queue(0.06, 240, servers=2000, service=100.0))["stable"] >= 0.95 * len(SEEDS)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_burst_is_no_overload(at: float) -> None:
    """One that is worked off within the run is over; one shortly before its end is a backlog."""
    runs = [with_burst(at, seed) for seed in range(10)]
    found = Counter(classify(run, whole(run)) for run in runs)
    assert found["overloaded"] <= 1
    assert found["stable"] == 10 or at > 0.4
    assert found["backlogged"] >= 8 or at < 0.8


def test_failed_requests() -> None:
    run = records(Queue(0.5, 400).draw(1))
    some = [replace(record, error="cut") if n % 100 == 0 else record for n, record in enumerate(run)]
    many = [replace(record, error="cut") if n % 10 == 0 else record for n, record in enumerate(run)]
    assert [classify(one, whole(one)) for one in (run, some, many)] == ["stable", "backlogged", "overloaded"]


def test_nothing_to_judge() -> None:
    assert classify([], Window(0.0, 1.0)) == "stable"
    assert classify(records(([1.0, 1.0], [9.0, 9.0])), Window(0.0, 100.0)) == "stable"
