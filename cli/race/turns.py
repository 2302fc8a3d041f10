"""Interleaved repeats: each repeat runs every entrant once, in a rotated order, so that none always runs first."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

E = TypeVar("E", bound=Hashable)
R = TypeVar("R")


async def by_turns(entrants: Sequence[E], repeats: int, run: Callable[[E], Awaitable[R]]) -> dict[E, list[R]]:
    """What `run` returned, by entrant, in the order of the repeats."""
    runs: dict[E, list[R]] = {entrant: [] for entrant in entrants}
    for repeat in range(repeats):
        turn = repeat % len(entrants)
        for entrant in (*entrants[turn:], *entrants[:turn]):
            runs[entrant].append(await run(entrant))
    return runs
