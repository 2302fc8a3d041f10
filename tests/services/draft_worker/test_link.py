"""The delayed link: order, fixed delay and mean jitter."""

import asyncio

import pytest

from services.draft_worker.link import MAX_RESENDS, RESEND_TIMEOUT_S, DelayLine, Delivery, Link
from shared.runtime.ids import Ids
from shared.runtime.service import FineLoop
from simulator.virtual_loop import run_virtual


async def arrivals(link: Link, messages: int, every_s: float) -> list[tuple[int, float]]:
    """(message, how long it took) for messages put at equal distances."""
    loop, line = asyncio.get_running_loop(), DelayLine[int](link)

    async def put() -> None:
        for n in range(messages):
            line.put(n)
            await asyncio.sleep(every_s)
        line.close()

    putting = asyncio.create_task(put())
    seen: list[tuple[int, float]] = []
    while some := await line.take():
        seen += [(n, loop.time() - n * every_s) for n in some]
    await putting
    return seen


def test_a_delay_is_a_delay() -> None:
    seen = run_virtual(arrivals(Link(Ids(1), 0.02), 5, 0.001))
    assert [n for n, _ in seen] == list(range(5))
    assert [took for _, took in seen] == pytest.approx([0.02] * 5, abs=1e-6)


def test_a_single_message_arrives_though_timers_are_early() -> None:
    async def cross() -> None:
        line = DelayLine[int](Link(Ids(1), jitter_s=0.005))
        for n in range(50):
            taking = asyncio.create_task(line.take())
            await asyncio.sleep(0.0007)
            line.put(n)  # wakes nobody but by its own timer
            assert await asyncio.wait_for(taking, 10) == [n]

    with asyncio.Runner(loop_factory=FineLoop) as runner:
        runner.run(cross())


def test_jitter_comes_on_top_and_keeps_the_order() -> None:
    seen = run_virtual(arrivals(Link(Ids(1), 0.02, 0.04), 2000, 1.0))
    took = [took for _, took in seen]
    assert min(took) >= 0.02
    assert sum(took) / len(took) == pytest.approx(0.06, rel=0.1)
    crowded = run_virtual(arrivals(Link(Ids(1), 0.0, 0.04), 200, 0.001))
    assert [n for n, _ in crowded] == list(range(200))


def test_a_rate_takes_its_time_by_the_size() -> None:
    async def ends() -> list[float]:
        loop, line = asyncio.get_running_loop(), DelayLine[int](Link(Ids(1), 0.02, bytes_per_s=1000))
        began = loop.time()
        for size in (100, 100, 0, 300):
            line.put(size, size)
        line.close()
        seen: list[float] = []
        while some := await line.take():
            seen += [loop.time() - began] * len(some)
        return seen

    assert run_virtual(ends()) == pytest.approx([0.12, 0.22, 0.22, 0.52], abs=1e-5)


def test_what_is_lost_comes_again_later() -> None:
    seen = run_virtual(arrivals(Link(Ids(1), 0.01, loss=0.25), 4000, 10.0))
    took = [round(took, 3) for _, took in seen]
    assert [n for n, _ in seen] == list(range(4000))
    assert set(took) >= {0.01, round(0.01 + RESEND_TIMEOUT_S, 3), round(0.01 + 3 * RESEND_TIMEOUT_S, 3)}
    assert sum(late > 0.01 for late in took) / len(took) == pytest.approx(0.25, abs=0.03)
    assert max(took) <= 0.01 + RESEND_TIMEOUT_S * (2**MAX_RESENDS - 1) + 0.001


async def delivered(link: Link, sizes: tuple[int, ...], every_s: float = 0.0) -> list[tuple[int, float]]:
    """(message, when it was delivered) for messages of these sizes put at equal distances."""
    loop, seen = asyncio.get_running_loop(), list[tuple[int, float]]()
    line = Delivery[int](link, lambda item: seen.append((item, loop.time())))
    for n, size in enumerate(sizes):
        line.put(n, size)
        await asyncio.sleep(every_s)
    await asyncio.sleep(10)
    return seen


def test_a_delivery_is_as_late_as_its_link() -> None:
    seen = run_virtual(delivered(Link(Ids(1), 0.02, bytes_per_s=1000), (100, 100, 0, 300)))
    assert [n for n, _ in seen] == [0, 1, 2, 3]
    assert [at for _, at in seen] == pytest.approx([0.12, 0.22, 0.22, 0.52], abs=1e-5)


def test_without_a_delay_it_delivers_at_once_and_in_order_after_one() -> None:
    async def play() -> list[int]:
        link, seen = Link(Ids(1), 0.02), list[int]()
        line = Delivery[int](link, seen.append)
        line.put(1)
        link.delay_s = 0.0
        line.put(2)
        before = list(seen)
        await asyncio.sleep(1)
        line.put(3)
        return [*before, *seen]

    assert run_virtual(play()) == [1, 2, 3]


def test_closed_it_delivers_nothing() -> None:
    async def play() -> list[int]:
        seen = list[int]()
        line = Delivery[int](Link(Ids(1), 0.02), seen.append)
        line.put(1)
        line.close()
        line.put(2)
        await asyncio.sleep(1)
        return seen

    assert run_virtual(play()) == []


def test_a_share_is_kept_by_what_is_sent_and_not_by_what_arrives() -> None:
    async def ends() -> tuple[list[float], float]:
        loop, link = asyncio.get_running_loop(), Link(Ids(1))
        assert link.is_instant
        link.keep(8000.0)
        line, arrived = DelayLine[int](link), list[float]()
        for n in range(4):
            line.put(n, 1000)
        seen = list[float]()
        while len(seen) < 4:
            seen += [loop.time() for _ in await line.take()]
        inbox = Delivery[int](link, lambda _: arrived.append(loop.time()))
        inbox.put(1, 1000)
        inbox.put(2, 1000)
        await asyncio.sleep(0.1)
        return seen, max(arrived) - seen[-1]

    sent, arriving_s = run_virtual(ends())
    assert sent == pytest.approx([0.0, 1.0, 2.0, 3.0], abs=1e-5)
    assert arriving_s < 0.01
