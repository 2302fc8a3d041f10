"""Measures passes of the target, shape by shape."""

import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Final

from cli.calibrate.grid import Grid, PassShape
from cli.command.errors import CommandError
from loadgen.measuring.arms import measure_arms
from loadgen.measuring.fixed_pass import FixedPass, NoRoom, cache_context
from loadgen.measuring.timing import Clock, time_s
from shared.compute.target import TargetModel
from shared.planning.fit import Timed
from shared.speculative.params import SamplingParams

Tick = Callable[[str], None]  # a step is done; the text says what is being measured

SEED: Final = 1


def steps(grid: Grid) -> int:
    """How often `measure_passes` calls tick."""
    return len(grid.contexts) * max(grid.widths) + len(_warm_up(grid)) + len(grid) * grid.repeats


def measure_passes(
    target: TargetModel, grid: Grid, tick: Tick, clock: Clock = time.perf_counter
) -> list[Timed]:
    """Median milliseconds of every cell. Raises CommandError when the grid does not fit the target.

    Sessions of every context stay in the cache. Those with the longest context are admitted first, so that the
    sessions of each context lie at equal distances, as in a deployment.
    """
    if grid.longest > target.max_context:
        raise CommandError(
            f"--contexts and --lengths: {grid.longest} tokens together, the model takes {target.max_context}"
        )
    sampling = SamplingParams(SEED, vocab=target.vocab)
    for context in sorted(grid.contexts, reverse=True):
        for n, name in enumerate(_sessions(context, max(grid.widths))):
            prompt = [(n * 31 + at) % target.vocab for at in range(context)]
            try:
                cache_context(target, name, prompt, sampling, room=max(grid.lengths))
            except NoRoom as error:
                raise CommandError(str(error)) from None
            tick("caching contexts")

    def pass_ms(cell: PassShape) -> float:
        names, ids = _sessions(cell.cached, cell.rows), range(1, cell.new + 1)
        one = FixedPass(target, names, [ids] * cell.rows, cell.cached, lambda _: sampling)
        one.reset()
        seconds = time_s(one.run, clock)
        one.reset()
        tick(f"verifying {cell.rows} rows of {cell.new}")
        return 1e3 * seconds

    for cell in _warm_up(grid):
        pass_ms(cell)
    ms = measure_arms(list(grid.cells()), grid.repeats, pass_ms)
    for context in grid.contexts:
        for name in _sessions(context, max(grid.widths)):
            target.forget(name)
    return [Timed(cell.rows, cell.new, cell.cached, median(ms[cell])) for cell in grid.cells()]


def _warm_up(grid: Grid) -> list[PassShape]:
    """One pass of every number of tokens: libraries prepare for each of them the first time."""
    cells: Iterable[PassShape] = (cell for cell in grid.cells() if cell.cached == min(grid.contexts))
    return list({cell.rows * cell.new: cell for cell in cells}.values())


def _sessions(context: int, count: int) -> list[str]:
    return [f"c{context}-{n}" for n in range(count)]
