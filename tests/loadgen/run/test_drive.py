"""Open and closed loops against the mock server: what is reported is what a person would have waited."""

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
from loadgen.workload.arrivals import arrivals, steady
from loadgen.workload.schedule import Planned
from tests.loadgen.mocked import driven, requests, served


async def test_a_queue_at_the_endpoint_is_not_hidden() -> None:
    """One worker of 20 ms, 75 requests a second: the i-th waits i * 6.67 ms. Tools that wait for answers say 20.

    The bounds leave room for a busy machine; a slow test below has narrow ones.
    """
    course = await driven(Mock(workers=1, service_s=0.02, tokens=1), [i / 75 for i in range(60)])
    took = [record.ended - record.scheduled for record in sorted(course.records, key=lambda r: r.scheduled)]
    expected = [0.02 + i * (0.02 - 1 / 75) for i in range(60)]
    assert not [record.error for record in course.records if record.error]
    assert np.median(took) == pytest.approx(np.median(expected), rel=0.5)
    assert max(took) == pytest.approx(max(expected), rel=0.5)


async def test_the_own_lateness_is_told_apart() -> None:
    """A loop that is held up sends late; TTFT from the schedule has that in it, TTFT from the send has not."""
    course = RunState()
    schedule = [Planned(i / 100, request) for i, request in enumerate(requests(20))]
    async with served(Mock(workers=100, service_s=0.001, tokens=1)) as url, Client(url, plain=True) as client:
        task = asyncio.create_task(open_loop(client, schedule, course, 10.0))
        await asyncio.sleep(0.08)
        time.sleep(0.3)  # noqa: ASYNC251  # holds the loop up, on purpose
        await task
    seen = summarise(course.records)
    assert seen.dispatch.most > 250
    assert seen.ttft.p99 > 250
    assert seen.ttft_sent.p99 < 0.8 * seen.ttft.p99


async def test_a_closed_loop_never_has_more_in_flight_than_users() -> None:
    course, most = RunState(), 0
    async with served(Mock(workers=100, service_s=0.02)) as url:

        def look(_: object) -> None:
            nonlocal most
            most = max(most, len(client.flying))

        async with Client(url, on_event=look, plain=True) as client:
            await closed_loop(client, requests(30), course, 4, 0.0, 30, None, 10.0)
    assert (len(course.records), most) == (30, 4)
    assert summarise(course.records).dispatch.median < 50


async def test_a_closed_loop_ends_in_time_and_users_think() -> None:
    course = RunState()
    async with served(Mock(workers=100, service_s=0.02)) as url, Client(url, plain=True) as client:
        await closed_loop(client, iter(requests(1000)), course, 2, 0.08, None, 0.55, 10.0)
    assert 8 <= len(course.records) <= 14  # two users, a tenth of a second a turn


async def test_users_do_not_hammer_an_endpoint_that_fails() -> None:
    course = RunState()
    async with Client("http://127.0.0.1:9", plain=True) as client:
        await closed_loop(client, iter(requests(1000)), course, 2, 0.0, None, 0.8, 10.0)
    assert len(course.records) == 4
    assert {record.fault for record in course.records} == {"connect"}


async def test_told_to_end_it_keeps_what_there_is() -> None:
    course = RunState()
    schedule = [Planned(i / 50, request) for i, request in enumerate(requests(200))]
    async with served(Mock(workers=1, service_s=0.1)) as url, Client(url, plain=True) as client:
        task = asyncio.create_task(open_loop(client, schedule, course, 10.0))
        await asyncio.sleep(0.5)
        course.over.set()
        await asyncio.wait_for(task, 2)
    assert course.sent == len(course.records) < 40
    ended = [record for record in course.records if not record.error]
    assert ended
    assert {record.fault for record in course.records if record.error} == {"stopped"}


async def test_a_schedule_that_is_overdue_can_be_ended() -> None:
    """Whatever is due at once is not sent for without a look at anything else."""
    course = RunState()

    class Ending(Client):
        async def complete(self, record: Record) -> None:
            course.over.set()

    schedule = [Planned(0.0, request) for request in requests(1)] * 50_000
    async with Ending("http://127.0.0.1:9", plain=True) as client:
        await asyncio.wait_for(open_loop(client, schedule, course, 10.0), 20)
    assert 0 < course.sent < 25_000


async def test_the_drain_has_an_end() -> None:
    course = await driven(Mock(workers=1, service_s=5.0), [0.0, 0.01], drain_s=0.3)
    assert [record.fault for record in course.records] == ["stopped", "stopped"]


@pytest.mark.slow
async def test_a_constant_overload_waits_as_reckoned() -> None:
    """100 ms of service, 15 requests a second, 300 of them: request i waits i * 33.3 ms."""
    course = await driven(Mock(workers=1, service_s=0.1, tokens=1), [i / 15 for i in range(300)])
    expected = [1e3 * (0.1 + i * (0.1 - 1 / 15)) for i in range(300)]
    seen = summarise(course.records)
    assert seen.errors == 0
    assert seen.ttft.median == pytest.approx(np.median(expected), rel=0.05)
    assert seen.ttft.p99 == pytest.approx(np.percentile(expected, 99), rel=0.05)


async def driven_awake(mock: Mock, times: list[float]) -> RunState:
    """A run during which this machine did not stand still, of three: a pause makes a queue of its own.

    It shows as lateness of what was due meanwhile.
    """
    for _ in range(3):
        course = await driven(mock, times)
        if max(record.sent - record.scheduled for record in course.records) < 0.1:
            break
    return course


@pytest.mark.slow
async def test_an_m_d_1_queue_waits_as_pollaczek_and_khinchine_say() -> None:
    """Load 0.7, as of 7 requests a second for 100 ms of service, ten times as fast: W = ρ s / 2(1 − ρ).

    What a request takes besides the queue is known from those that found it empty.
    """
    service_s, load, count = 0.01, 0.7, 6000
    times = list(islice(arrivals(steady(load / service_s), "poisson", np.random.default_rng(11)), count))
    course = await driven_awake(Mock(workers=1, service_s=service_s, tokens=1), times)
    took = np.array([r.ended - r.scheduled for r in sorted(course.records, key=lambda r: r.scheduled)])
    free, queued = 0.0, []  # what this very schedule waits in a queue without any overhead
    for at in times:
        queued.append(max(0.0, free - at))
        free = max(free, at) + service_s
    waits = took - service_s
    overhead = np.median(waits[np.array(queued) == 0])
    assert overhead < 0.005
    waits -= overhead
    assert waits.mean() == pytest.approx(np.mean(queued), abs=0.001)
    blocks = waits.reshape(20, -1).mean(axis=1)  # neighbours wait in the same queue: blocks of 300 do not
    interval = 2.1 * blocks.std(ddof=1) / len(blocks) ** 0.5
    assert interval < 0.004
    assert waits.mean() == pytest.approx(load * service_s / (2 * (1 - load)), abs=interval + 0.001)
