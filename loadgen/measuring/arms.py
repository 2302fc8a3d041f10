"""Interleaved repeats. Each repeat measures every arm once, so that a machine that drifts affects all arms alike."""

from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from typing import TypeVar

A = TypeVar("A", bound=Hashable)
R = TypeVar("R")


def order(arms: Sequence[A], repeat: int) -> list[A]:
    """The arms in the order of one repeat (from 0). Example, three arms: abc, cba, bca, acb, cab, bac.

    Repeats come in pairs, forwards and backwards: a steady drift cancels within a pair. Each pair starts one arm
    further on, so that no arm is always the first.
    """
    start = repeat // 2 % len(arms)
    rotated = [*arms[start:], *arms[:start]]
    return rotated[::-1] if repeat % 2 else rotated


def interleave(arms: Sequence[A], repeats: int) -> Iterator[A]:
    """Every arm once per repeat."""
    for repeat in range(repeats):
        yield from order(arms, repeat)


def measure_arms(arms: Sequence[A], repeats: int, measure: Callable[[A], R]) -> dict[A, list[R]]:
    """Results by arm, in the order of the repeats."""
    results: dict[A, list[R]] = {arm: [] for arm in arms}
    for arm in interleave(arms, repeats):
        results[arm].append(measure(arm))
    return results


async def measure_arms_async(
    arms: Sequence[A], repeats: int, measure: Callable[[A], Awaitable[R]]
) -> dict[A, list[R]]:
    """Results by arm, in the order of the repeats."""
    results: dict[A, list[R]] = {arm: [] for arm in arms}
    for arm in interleave(arms, repeats):
        results[arm].append(await measure(arm))
    return results
