"""A loop whose processes take turns in a drawn order: it differs by seed, repeats by seed, and keeps each process's."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.protocol.messages import Cancel
from simulator.process import Incarnation, Process, current_incarnation, owned_task
from simulator.process_clock import ProcessClock
from simulator.seeded_loop import Livelock, SeededLoop, run_seeded
from simulator.services import Factory, Surroundings
from simulator.stack import SimulatedStack
from simulator.virtual_loop import Deadlock, run_virtual

Seen = list[tuple[str, int]]
NAMES = ("a", "b", "c")


async def processes(
    run: Callable[[str], Awaitable[None]], clocks: dict[str, ProcessClock] | None = None
) -> None:
    """Run these as processes, until each has ended once."""
    asyncio.get_running_loop().set_task_factory(owned_task)

    def start(name: str) -> Callable[[Incarnation], Callable[[asyncio.Event], Awaitable[None]]]:
        return lambda incarnation: lambda stop: run(name)

    made = [Process(name, start(name), clock=(clocks or {}).get(name, ProcessClock())) for name in NAMES]
    for process in made:
        process.returns = True
    lives = [asyncio.create_task(process.live()) for process in made]
    await asyncio.sleep(0.25)  # less than a process takes to start again
    for process in made:
        process.end()
        assert not process.errors
    await asyncio.gather(*lives)


async def busy(name: str, seen: Seen) -> None:
    """Three tasks of one process, each with some steps at each of three instants."""

    async def task(n: int) -> None:
        for instant in range(3):
            for step in range(3):
                seen.append((name, 100 * instant + 10 * step + n))
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(task(n) for n in range(3)))


def order(run: Callable[[Coroutine[Any, Any, None]], None]) -> Seen:
    seen: Seen = []
    run(processes(lambda name: busy(name, seen)))
    return seen


def seeded(seed: int) -> Seen:
    return order(lambda main: run_seeded(main, seed))


def test_the_order_differs_by_seed_and_repeats_by_seed() -> None:
    orders = [tuple(seeded(seed)) for seed in range(20)]
    assert len(set(orders)) == 20
    assert orders == [tuple(seeded(seed)) for seed in range(20)]


def test_a_process_keeps_the_order_that_it_has_in_a_loop_of_its_own() -> None:
    alone: Seen = []
    asyncio.run(busy("a", alone))
    for seed in range(20):
        seen = seeded(seed)
        for name in NAMES:
            assert [what for who, what in seen if who == name] == [what for _, what in alone]


def test_every_order_of_three_processes_comes_up() -> None:
    firsts = {tuple(dict.fromkeys(name for name, what in seeded(seed) if what < 100)) for seed in range(60)}
    assert len(firsts) == 6


def test_a_process_may_be_overtaken_by_several_turns_of_another() -> None:
    """More than a shuffle of what is ready: one may do all its steps of an instant before another does its first."""
    overtakes = 0
    for seed in range(60):
        names = [name for name, what in seeded(seed) if what < 100]
        overtakes += sum(one == other for one, other in pairwise(names[::3]))
    assert overtakes > 20


def test_timers_of_one_process_at_one_instant_keep_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        loop, seen = asyncio.get_running_loop(), list[int]()
        for n in range(50):
            loop.call_later(0.5, seen.append, n)
        await asyncio.sleep(1.0)
        return seen

    assert run_seeded(main(), 3) == list(range(50))


def test_one_message_wakes_processes_in_any_order() -> None:
    async def main() -> tuple[str, ...]:
        server, woken = MemoryServer(), list[str]()

        async def read(name: str) -> None:
            await MemoryBroker(server).streams.read_inbox(f"inbox-{name}", "0", 1, 5.0)
            woken.append(name)

        async def send() -> None:
            await asyncio.sleep(0.1)
            for name in NAMES:  # atomic, as a script is: all are woken at once
                server.add(f"inbox-{name}", b"")

        sending = asyncio.create_task(send())
        await processes(read)
        await sending
        return tuple(woken[:3])

    assert run_virtual(main()) == NAMES
    orders = {run_seeded(main(), seed) for seed in range(60)}
    assert len(orders) == 6


def test_cancelled_callbacks_and_timers_do_not_run() -> None:
    async def main() -> list[str]:
        loop, seen = asyncio.get_running_loop(), list[str]()
        loop.call_soon(seen.append, "soon").cancel()
        loop.call_later(0.1, seen.append, "later").cancel()
        loop.call_later(0.2, seen.append, "kept")
        await asyncio.sleep(1.0)
        return seen

    assert run_seeded(main(), 1) == ["kept"]


def test_waiting_for_nobody_and_waiting_for_ever_at_one_instant_are_errors() -> None:
    async def nobody() -> None:
        await asyncio.Event().wait()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Deadlock):
        run_seeded(nobody(), 1)
    with pytest.raises(Livelock, match="spin"):
        run_seeded(spin(), 1)


def test_a_suspended_process_stands_still_while_the_others_go_on() -> None:
    seen: list[tuple[str, float]] = []

    async def run(name: str) -> None:
        loop, life = asyncio.get_running_loop(), current_incarnation()
        assert isinstance(loop, SeededLoop)
        assert life is not None
        for step in range(3):
            if name == "a" and step == 1:
                loop.pause(life, 0.1)
            await asyncio.sleep(0.01)
            seen.append((name, round(loop.time(), 3)))

    run_seeded(processes(run), 1)
    assert [at for name, at in seen if name == "a"] == [0.01, 0.11, 0.12]
    assert [at for name, at in seen if name == "b"] == [0.01, 0.02, 0.03]


def test_a_life_that_is_stopped_ends_in_order_and_another_begins() -> None:
    ended: list[int] = []

    async def main() -> Process:
        def start(incarnation: Incarnation) -> Callable[[asyncio.Event], Awaitable[None]]:
            async def run(stop: asyncio.Event) -> None:
                await stop.wait()
                await asyncio.sleep(0.1)
                ended.append(process.lives)

            return run

        process = Process("a", start)
        living = asyncio.create_task(process.live())
        await asyncio.sleep(1.0)
        process.incarnation.stop.set()
        await asyncio.sleep(1.0)
        process.end()
        await living
        return process

    process = run_seeded(main(), 1)
    assert ended == [1, 2]
    assert process.lives == 2


# --- clocks ---


def test_a_process_sees_its_own_clock_and_waits_by_it() -> None:
    clocks = {"a": ProcessClock(1000.0, 1.1), "b": ProcessClock(5.0, 0.9)}
    seen: dict[str, tuple[float, float, float]] = {}

    async def run(name: str) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        began, true = loop.time(), loop.true_time()
        await asyncio.sleep(0.1)
        seen[name] = began, loop.time() - began, loop.true_time() - true

    run_seeded(processes(run, clocks), 1)
    assert {name: began for name, (began, _, _) in seen.items()} == {"a": 1000.0, "b": 5.0, "c": 0.0}
    for name, rate in (("a", 1.1), ("b", 0.9), ("c", 1.0)):
        assert seen[name][1] == pytest.approx(0.1)
        assert seen[name][2] == pytest.approx(0.1 / rate)


@pytest.mark.parametrize(
    "clock", [ProcessClock(12345.678, 1.03), ProcessClock(0.1, 0.97), ProcessClock(9e4, 1.0)]
)
def test_a_timer_never_fires_early(clock: ProcessClock) -> None:
    for n in range(2000):
        local = clock.offset_s + 0.37 * n
        assert local <= clock.local(clock.true(local)) < local + 1e-9


def test_a_clock_runs_forwards() -> None:
    with pytest.raises(ValueError, match="rate"):
        ProcessClock(0.0, 0.0)


async def test_clocks_need_a_loop_that_has_them() -> None:
    class Idle:
        async def run(self, stop: asyncio.Event) -> None:
            await stop.wait()

    def idle(given: Surroundings) -> Idle:
        return Idle()

    factory: Factory = idle
    stack = SimulatedStack(seed=1)
    stack.add("a", factory, clock=ProcessClock(1.0))
    with pytest.raises(ValueError, match="SeededLoop"):
        await stack.__aenter__()


def test_the_brokers_clock_is_nobodys() -> None:
    async def main() -> int:
        stack = SimulatedStack(seed=1)
        clocks = dict.fromkeys(NAMES, ProcessClock(1e6))

        async def run(name: str) -> None:
            await MemoryBroker(stack.server).streams.push("work", Cancel("s0-x", "cancel"))

        await processes(run, clocks)
        return stack.server.now_ms()

    assert run_seeded(main(), 1) < 1000
