"""What a pass of the target takes, shape by shape."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cli.calibrate.grid import Grid, PassShape
from cli.command.errors import CommandError
from shared.compute.target import TargetModel, TargetRow
from shared.planning.fit import Timed
from shared.speculative.params import SamplingParams

CHUNK: Final = 512  # tokens of a prompt fed at once

Clock = Callable[[], float]  # seconds
Tick = Callable[[str], None]  # a step is done; the text says what is being measured


def steps(grid: Grid) -> int:
    """How often `measure_passes` ticks."""
    return len(grid.contexts) * max(grid.widths) + len(_warm_up(grid)) + len(grid) * grid.repeats


def measure_passes(
    target: TargetModel, grid: Grid, tick: Tick, clock: Clock = time.perf_counter
) -> list[Timed]:
    """Median milliseconds of every cell. Raises CommandError when the grid does not fit the target.

    Repeats go round the whole grid, there and back, so that whatever else the machine does meanwhile falls on all
    cells alike. Sessions of every context stay in the cache; those with most are admitted first, so that each
    context's lie at equal distances, as a deployment's do.
    """
    sampling = SamplingParams(seed=1, vocab=target.vocab)
    if grid.longest > target.max_context:
        raise CommandError(
            f"--contexts and --lengths: {grid.longest} tokens together, the model takes {target.max_context}"
        )
    for context in sorted(grid.contexts, reverse=True):
        for n, name in enumerate(_sessions(context, max(grid.widths))):
            prompt = [(n * 31 + at) % target.vocab for at in range(context)]
            feed(target, name, prompt, sampling, room=max(grid.lengths))
            tick("caching contexts")
    for cell in _warm_up(grid):
        _pass_s(target, cell, sampling, clock)
        tick("warming up")
    took: dict[PassShape, list[float]] = {cell: [] for cell in grid.cells()}
    for repeat in range(grid.repeats):
        for cell in list(took)[:: -1 if repeat % 2 else 1]:
            took[cell].append(_pass_s(target, cell, sampling, clock))
            tick(f"verifying {cell.rows} rows of {cell.new}")
    for context in grid.contexts:
        for name in _sessions(context, max(grid.widths)):
            target.forget(name)
    return [Timed(c.rows, c.new, c.cached, 1e3 * statistics.median(seconds)) for c, seconds in took.items()]


def feed(target: TargetModel, name: str, ids: Sequence[int], sampling: SamplingParams, room: int = 0) -> None:
    """Cache a new session's tokens, with pages for `room` more. Raises CommandError when there is no room."""
    if not target.admit(name, ids, [name], len(ids) + room):
        raise CommandError(f"no room for {len(ids) + room} KV tokens; raise OUTRIDER_KV_TOKENS")
    while (start := target.cached(name)) < len(ids):
        chunk = ids[start : start + CHUNK]
        target.forward([TargetRow(name, start, chunk, len(chunk), False, sampling)])


def _pass_s(target: TargetModel, cell: PassShape, sampling: SamplingParams, clock: Clock) -> float:
    """Seconds of one pass: of every row one committed token and the rest drafted, all rejected afterwards."""
    names = _sessions(cell.cached, cell.rows)
    for name in names:
        target.admit(name, (), names, cell.cached + cell.new)
    rows = [TargetRow(name, cell.cached, range(1, cell.new + 1), 1, True, sampling) for name in names]
    begun = clock()
    target.forward(rows)
    seconds = clock() - begun
    for name in names:
        target.keep(name, cell.cached)
    return seconds


def _warm_up(grid: Grid) -> list[PassShape]:
    """One pass of every number of tokens: libraries prepare for each of them the first time."""
    cells: Iterable[PassShape] = (cell for cell in grid.cells() if cell.cached == min(grid.contexts))
    return list({cell.rows * cell.new: cell for cell in cells}.values())


def _sessions(context: int, count: int) -> list[str]:
    return [f"c{context}-{n}" for n in range(count)]
