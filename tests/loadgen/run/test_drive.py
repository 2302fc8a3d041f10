"""Open and closed loops against the mock server: latencies are those that a user would experience."""

import asyncio
import time
from itertools import islice

import numpy as np
import pytest

from loadgen.client.streaming import Client
from loadgen.metrics.summary import summarise
from loadgen.mock_server import Mock
from loadgen.request import Record
from loadgen.run.drive import RunState, closed_loop, open_loop
from loadgen.workload.arrivals import arrivals, constant_rate
from loadgen.workload.schedule import ScheduledRequest
from tests.loadgen.mock_runs import driven, requests, served


async def test_a_queue_at_the_endpoint_is_not_hidden() -> None:
    """One worker of 20 ms, 75 requests a second: the i-th waits i * 6.67 ms. Tools that wait for answers report 20.

    The bounds leave room for a busy machine; a slow test below has narrow ones.
    """
    state = await driven(Mock(workers=1, service_s=0.02, tokens=1), [i / 75 for i in range(60)])
    took = [record.ended - record.scheduled for record in sorted(state.records, key=lambda r: r.scheduled)]
    expected = [0.02 + i * (0.02 - 1 / 75) for i in range(60)]
    assert not [record.error for record in state.records if record.error]
    assert np.median(took) == pytest.approx(np.median(expected), rel=0.5)
    assert max(took) == pytest.approx(max(expected), rel=0.5)


async def test_dispatch_delay_is_measured_separately() -> None:
    """A blocked loop sends late, which TTFT from the schedule includes and TTFT from the send does not."""
    state = RunState()
    schedule = [ScheduledRequest(i / 100, request) for i, request in enumerate(requests(20))]
    async with served(Mock(workers=100, service_s=0.001, tokens=1)) as url, Client(url, plain=True) as client:
        task = asyncio.create_task(open_loop(client, schedule, state, 10.0))
        await asyncio.sleep(0.08)
        time.sleep(0.3)  # noqa: ASYNC251  # holds the loop up, on purpose
        await task
    seen = summarise(state.records)
    assert seen.dispatch.maximum > 250
    assert seen.ttft.p99 > 250
    assert seen.ttft_sent.p99 < 0.8 * seen.ttft.p99


async def test_a_closed_loop_never_has_more_in_flight_than_users() -> None:
    state, max_in_flight = RunState(), 0
    async with served(Mock(workers=100, service_s=0.02)) as url:

        def look(_: object) -> None:
            nonlocal max_in_flight
            max_in_flight = max(max_in_flight, len(client.in_flight))

        async with Client(url, on_event=look, plain=True) as client:
            await closed_loop(client, requests(30), state, 4, 0.0, 30, None, 10.0)
    assert (len(state.records), max_in_flight) == (30, 4)
    assert summarise(state.records).dispatch.median < 50


async def test_a_closed_loop_ends_in_time_and_users_pause() -> None:
    state = RunState()
    async with served(Mock(workers=100, service_s=0.02)) as url, Client(url, plain=True) as client:
        await closed_loop(client, iter(requests(1000)), state, 2, 0.08, None, 0.55, 10.0)
    assert 8 <= len(state.records) <= 14  # two users, a tenth of a second a turn


async def test_users_pause_after_a_failed_request() -> None:
    state = RunState()
    async with Client("http://127.0.0.1:9", plain=True) as client:
        await closed_loop(client, iter(requests(1000)), state, 2, 0.0, None, 0.8, 10.0)
    assert len(state.records) == 4
    assert {record.fault for record in state.records} == {"connect"}


async def test_a_stopped_run_keeps_its_records() -> None:
    state = RunState()
    schedule = [ScheduledRequest(i / 50, request) for i, request in enumerate(requests(200))]
    async with served(Mock(workers=1, service_s=0.1)) as url, Client(url, plain=True) as client:
        task = asyncio.create_task(open_loop(client, schedule, state, 10.0))
        while not any(record.finish for record in state.records):
            await asyncio.sleep(0.05)
        state.stop.set()
        await asyncio.wait_for(task, 2)
    assert state.sent == len(state.records) < 200
    assert {record.fault for record in state.records if record.error} == {"stopped"}


async def test_an_overdue_schedule_can_be_stopped() -> None:
    """Sending many overdue requests does not block signals."""
    state = RunState()

    class Ending(Client):
        async def complete(self, record: Record) -> None:
            state.stop.set()

    schedule = [ScheduledRequest(0.0, request) for request in requests(1)] * 50_000
    async with Ending("http://127.0.0.1:9", plain=True) as client:
        await asyncio.wait_for(open_loop(client, schedule, state, 10.0), 20)
    assert 0 < state.sent < 25_000


async def test_the_drain_has_a_time_limit() -> None:
    state = await driven(Mock(workers=1, service_s=5.0), [0.0, 0.01], drain_s=0.3)
    assert [record.fault for record in state.records] == ["stopped", "stopped"]


@pytest.mark.slow
async def test_waits_under_constant_overload_are_as_computed() -> None:
    """100 ms of service, 15 requests a second, 300 of them: request i waits i * 33.3 ms."""
    state = await driven(Mock(workers=1, service_s=0.1, tokens=1), [i / 15 for i in range(300)])
    expected = [1e3 * (0.1 + i * (0.1 - 1 / 15)) for i in range(300)]
    seen = summarise(state.records)
    assert seen.errors == 0
    assert seen.ttft.median == pytest.approx(np.median(expected), rel=0.05)
    assert seen.ttft.p99 == pytest.approx(np.percentile(expected, 99), rel=0.05)


async def driven_awake(mock: Mock, times: list[float]) -> RunState:
    """The first of up to three runs without a pause of this machine, which would add a queue.

    It shows as lateness of what was due meanwhile.
    """
    for _ in range(3):
        state = await driven(mock, times)
        if max(record.sent - record.scheduled for record in state.records) < 0.1:
            break
    return state


@pytest.mark.slow
async def test_waits_of_an_m_d_1_queue_follow_pollaczek_and_khinchine() -> None:
    """Load 0.7, as of 7 requests a second for 100 ms of service, ten times as fast: W = ρ s / 2(1 − ρ).

    What a request takes besides the queue is known from those that found it empty.
    """
    service_s, load, count = 0.01, 0.7, 6000
    times = list(
        islice(arrivals(constant_rate(load / service_s), "poisson", np.random.default_rng(11)), count)
    )
    state = await driven_awake(Mock(workers=1, service_s=service_s, tokens=1), times)
    took = np.array([r.ended - r.scheduled for r in sorted(state.records, key=lambda r: r.scheduled)])
    free, queued = 0.0, []  # what this very schedule waits in a queue without any overhead
    for at in times:
        queued.append(max(0.0, free - at))
        free = max(free, at) + service_s
    waits = took - service_s
    overhead = np.median(waits[np.array(queued) == 0])
    assert overhead < 0.005
    waits -= overhead
    assert waits.mean() == pytest.approx(np.mean(queued), abs=0.002)
    blocks = waits.reshape(20, -1).mean(axis=1)  # neighbours wait in the same queue: blocks of 300 do not
    interval = 2.1 * blocks.std(ddof=1) / len(blocks) ** 0.5
    assert interval < 0.004
    assert waits.mean() == pytest.approx(load * service_s / (2 * (1 - load)), abs=interval + 0.002)
