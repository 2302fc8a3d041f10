"""Devices of one cell: their messages share its band, keep their order, and end with the device that sends them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry

from services.draft_worker.link import DelayLine, Delivery, Link
from services.draft_worker.metrics import Metrics
from services.draft_worker.outbox import Outbox
from services.draft_worker.radio import Radio
from services.draft_worker.timeline import Timeline
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.cells.cell import Cell
from shared.cells.sharing import Sharing
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Draft
from shared.runtime.ids import Ids
from shared.runtime.service import FineLoop
from simulator.virtual_loop import run_virtual
from tests.services.draft_worker.worker_world import World

T = TypeVar("T")
BITS_S = 8000.0  # so that a message of 1,000 bytes takes a second alone


def links(sharing: Sharing, *etas: float, delay_s: float = 0.0) -> tuple[Radio, list[Link]]:
    """The links of devices that are in a cell."""
    radio = Radio(Cell(BITS_S, sharing))
    made = [
        Link(Ids(n + 1), delay_s, station=radio.station(f"device-{n}", eta)) for n, eta in enumerate(etas)
    ]
    for link in made:
        assert link.station is not None
        link.station.join()
    return radio, made


def on_both_clocks(play: Callable[[], Awaitable[T]]) -> list[T]:
    async def main() -> T:
        return await play()

    with asyncio.Runner(loop_factory=FineLoop) as runner:
        return [run_virtual(main()), runner.run(main())]


def test_messages_of_two_devices_share_the_band_and_the_delay_comes_after_it() -> None:
    async def play() -> list[tuple[str, float]]:
        loop, seen = asyncio.get_running_loop(), list[tuple[str, float]]()
        _, (a, b) = links("contention", 1.0, 1.0, delay_s=0.05)
        down = Delivery[str](a, lambda item: seen.append((item, loop.time() - began)))
        up = DelayLine[str](b)
        began = loop.time()
        up.put("b1", 100)
        down.put("a1", 100)
        down.put("a2", 50)
        while await up.take():
            seen.append(("b1", loop.time() - began))
            up.close()
        await asyncio.sleep(0.6)
        return sorted(seen)

    on_virtual_time, on_the_real_clock = on_both_clocks(play)
    assert [name for name, _ in on_the_real_clock] == ["a1", "a2", "b1"]
    assert [at for _, at in on_virtual_time] == pytest.approx([0.25, 0.30, 0.25], abs=1e-3)
    for (_, due), (_, at) in zip(on_virtual_time, on_the_real_clock, strict=True):
        assert at >= due - 1e-3  # never early, however late a busy machine is


def test_on_virtual_time_the_ends_are_exact() -> None:
    async def play() -> list[float]:
        loop, seen = asyncio.get_running_loop(), list[float]()
        _, (a, b) = links("contention", 1.0, 0.5)
        lines = [Delivery[int](link, lambda _: seen.append(loop.time())) for link in (a, b)]
        lines[0].put(1, 1000)
        await asyncio.sleep(0.5)
        lines[1].put(1, 500)  # from here on both have half of the time, b at half the rate
        await asyncio.sleep(10)
        return seen

    assert run_virtual(play()) == pytest.approx([1.5, 2.0], abs=1e-9)


def test_shares_change_in_mid_transfer() -> None:
    async def play() -> list[float]:
        loop, seen = asyncio.get_running_loop(), list[float]()
        _, (a, b) = links("shares", 1.0, 1.0)
        for link in (a, b):
            Delivery[int](link, lambda _: seen.append(loop.time())).put(1, 1000)
        await asyncio.sleep(1.0)  # each has half of its bits left
        a.keep(0.75 * BITS_S)
        b.keep(0.25 * BITS_S)
        await asyncio.sleep(10)
        return seen

    assert run_virtual(play()) == pytest.approx([1 + 4000 / 6000, 3.0], abs=1e-9)


def test_what_was_dropped_neither_arrives_nor_takes_time() -> None:
    async def play() -> tuple[list[tuple[int, float]], int]:
        loop, seen = asyncio.get_running_loop(), list[tuple[int, float]]()
        _, (a, b) = links("contention", 1.0, 1.0)
        ours = Delivery[int](a, lambda item: seen.append((item, loop.time())))
        theirs = DelayLine[int](b)
        ours.put(1, 1000)
        for n in range(3):
            theirs.put(n, 1000)
        await asyncio.sleep(0.5)
        waiting = len(theirs)
        theirs.clear()
        assert len(theirs) == 0
        theirs.put(7, 250)
        await asyncio.sleep(10)
        assert await theirs.take() == [7]
        return seen, waiting

    seen, waiting = run_virtual(play())
    assert waiting == 3
    assert seen == [(1, pytest.approx(1.5))]  # 2.0 if the dropped ones still shared the band


def test_a_closed_line_still_sends_what_is_on_air() -> None:
    async def play() -> list[int]:
        _, (a,) = links("equal", 1.0)
        line = DelayLine[int](a)
        line.put(1, 100)
        line.put(2, 100)
        line.close()
        found = list[int]()
        while some := await line.take():
            found += some
        return found

    assert run_virtual(play()) == [1, 2]


def test_a_device_that_comes_back_has_nothing_under_way() -> None:
    async def play() -> list[int]:
        seen = list[int]()
        radio, (a,) = links("equal", 1.0)
        line = Delivery[int](a, seen.append)
        line.put(1, 1000)
        radio.leave("device-0")
        line.put(2, 1000)  # lost: nobody is there
        await asyncio.sleep(5)
        radio.join("device-0", 1.0)
        line.put(3, 1000)
        await asyncio.sleep(1.001)
        return seen

    assert run_virtual(play()) == [3]


def test_a_draft_is_as_large_as_its_payload_makes_it() -> None:
    async def play() -> tuple[int, float]:
        server, registry = MemoryServer(), CollectorRegistry()
        broker, metrics = MemoryBroker(server), Metrics(registry)
        await broker.streams.make_groups([Keys().draft])
        link = Link(Ids(1), bytes_per_s=1000, payload_bits_per_token=801)
        timeline = Timeline("d", on=False)
        outbox = Outbox(broker.streams, Keys().draft, link, Ids(2), metrics, lambda _: True, timeline)
        draft = Draft("s", 1, 1, 8, "d:1", (4, 5, 6), b"\xff\xf0\xe0", (), 10, 0, -1)
        outbox.put(draft)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await outbox.turn()
        sent = registry.get_sample_value("outrider_device_link_bytes_total", {"direction": "out"})
        assert sent == len(wire.encode(draft)) + 301
        return round(sent), loop.time() - began

    size, took = run_virtual(play())
    assert took == pytest.approx(size / 1000, abs=1e-6)


def test_a_draft_worker_is_in_its_cell_while_it_runs() -> None:
    async def play() -> None:
        world, radio = World(), Radio(Cell(BITS_S, "equal"))
        world.launch()
        world.worker.link.station = radio.station("d", 1.0)
        await asyncio.sleep(0.1)
        assert "d" in radio.cell
        world.stop.set()
        await world.task
        assert "d" not in radio.cell

    run_virtual(play())


def test_devices_keep_the_shares_that_they_are_given_where_the_cell_enforces_them() -> None:
    async def ends(sharing: Sharing) -> list[float]:
        _, made = links(sharing, 1.0, 0.5)
        loop, seen = asyncio.get_running_loop(), dict[int, float]()

        def arrive(n: int) -> None:
            seen[n] = loop.time()

        lines = [Delivery[int](link, arrive) for link in made]
        made[0].keep(2000.0)  # of 8,000
        made[1].keep(3000.0)  # at 0.5 bit/s for each unit of the band: 6,000 of 8,000
        for n, line in enumerate(lines):
            line.put(n, 1000)
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        return [seen[0], seen[1]]

    assert run_virtual(ends("shares")) == pytest.approx([4.0, 8 / 3], rel=0.01)
    assert run_virtual(ends("equal")) == pytest.approx([2.0, 4.0], rel=0.01)
