"""Measures one cell of `outrider bench pipeline --live`: every method over the same processes, one after the other."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from cli.bench.pipeline.live.live_ring import LiveRing
from cli.bench.pipeline.live.processes import run_live
from cli.bench.pipeline.measure import TEXTS, as_result, summary
from cli.bench.pipeline.options import Cell
from cli.command.errors import CommandError
from shared.planning.pieces import PipelineLaw
from simulator.pipeline.context import Context
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.rank_zero import RankZero
from simulator.pipeline.run import Method, Outcome, outcome, sessions_of, settings_of, texts
from simulator.pipeline.timeline import Timeline

SLACK: Final = 5.0  # a run may take so many times as long as decoding token by token
EXTRA_S: Final = 60.0


def measure_live(
    cell: Cell, methods: Sequence[str], seed: int, tokens: int, tick: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The cell's result as `measure` has it, in seconds of the wall clock, and measured_hop_ms of a real hop.

    Raises CommandError, ProcessFailed, WrongText.
    """

    made = {name: METHODS[name].make(cell.law, cell.p1, cell.users) for name in methods}

    async def work(ring: LiveRing) -> tuple[float, dict[str, list[Outcome]]]:
        runs: dict[str, list[Outcome]] = {name: [] for name in methods}
        hop_ms = await ring.measure_hop()
        law = replace(cell.law, hop_ms=max(hop_ms, cell.law.hop_ms))  # as rank 0 can know it
        for text in range(TEXTS):  # by turns, so that a busy moment of the machine slows all methods
            for name, method in made.items():
                run_seed = TEXTS * seed + text
                run = await run_over(ring, method, law, cell.p1, cell.users, tokens, run_seed)
                runs[name].append(run)
                tick(f"live {name}: {run.tokens_per_s:.4g} tokens/s")
        return hop_ms, runs

    hop_ms, runs = asyncio.run(run_live(cell.law, work))
    found = {name: summary(runs[name]) | {"settings": settings_of(made[name])} for name in methods}
    return as_result("live", cell, seed, found) | {"measured_hop_ms": hop_ms}


async def run_over(
    ring: LiveRing, method: Method, law: PipelineLaw, p1: float, users: int, tokens: int, seed: int
) -> Outcome:
    """`run_method` over a ring of processes. law: as rank 0 knows it.

    Raises WrongText, and CommandError when it takes too long.
    """
    timeline = Timeline(len(law.stages))
    sessions = sessions_of(texts(p1, users, seed))
    context = Context(law, ring, ring.turns, RankZero(law, timeline), sessions, timeline, tokens)
    limit_s = EXTRA_S + SLACK * tokens * (law.round_trip_ms(1) + law.draft_ms) / 1e3
    try:
        async with asyncio.timeout(limit_s):
            await method.run(context)
            await ring.finish(timeline)
    except TimeoutError:
        raise CommandError(f"--live: {method} has not emitted {tokens} tokens in {limit_s:.0f} s") from None
    return outcome(method, context)
