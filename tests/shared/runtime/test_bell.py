"""A bell wakes the one task that waits for it, or the next that will."""

import asyncio

from shared.runtime.bell import Bell
from simulator.virtual_loop import run_virtual


async def waits(bell: Bell) -> float:
    """When a wait that begins now ends."""
    await bell.wait()
    return asyncio.get_running_loop().time()


def test_it_ends_a_wait() -> None:
    async def play() -> float:
        bell = Bell()
        asyncio.get_running_loop().call_later(2.0, bell.ring)
        return await waits(bell)

    assert run_virtual(play()) == 2.0


def test_rung_before_it_ends_the_next_wait_and_no_other() -> None:
    async def play() -> tuple[float, float]:
        bell = Bell()
        bell.ring()
        bell.ring()
        first = await waits(bell)
        asyncio.get_running_loop().call_later(1.0, bell.ring)
        return first, await waits(bell)

    assert run_virtual(play()) == (0.0, 1.0)


def test_a_cancelled_wait_leaves_it_as_it_was() -> None:
    async def play() -> float:
        bell = Bell()
        waiting = asyncio.create_task(bell.wait())
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.wait([waiting])
        bell.ring()
        return await waits(bell)

    assert run_virtual(play()) == 0.5
