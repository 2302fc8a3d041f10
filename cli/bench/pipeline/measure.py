"""Measures one cell of `outrider bench pipeline`: every method on the same texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cli.bench.pipeline.options import Cell
from loadgen.measuring.intervals import mean_ratio
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.run import Outcome, run_method, settings_of

TEXTS: Final = 3  # of each user: as many runs
RATIOS: Final = (("f", "c"), ("f", "c_star"), ("f", "e"), ("f", "b"))
RATIO_NAMES: Final = tuple("/".join(pair) for pair in RATIOS)


def measure(
    cell: Cell, methods: Sequence[str], seed: int, tokens: int, tick: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The cell's result, see docs/pipeline.md. tokens: of all users together in each of TEXTS runs."""
    law = cell.law
    found: dict[str, Any] = {}
    for name in methods:
        method = METHODS[name].make(law, cell.p1, cell.users)
        runs = [
            run_method(method, law, cell.p1, cell.users, tokens, TEXTS * seed + text) for text in range(TEXTS)
        ]
        found[name] = summary(runs) | {"settings": settings_of(method)}
        tick(f"{name}: {found[name]['tokens_per_s']:.4g} tokens/s")
    return as_result("simulated", cell, seed, found)


def as_result(mode: str, cell: Cell, seed: int, found: dict[str, Any]) -> dict[str, Any]:
    """A cell of a result file. mode: simulated or live; found: figures by method."""
    return {"mode": mode, **cell.place(seed), "methods": found, "ratios": ratios(found)}


def summary(runs: Sequence[Outcome]) -> dict[str, Any]:
    """Figures of a method's runs. ci95: of the rate, from the runs' parts, whose logarithms are taken as normal."""
    tokens, seconds = sum(run.tokens for run in runs), sum(run.seconds for run in runs)
    parts = [count / time for run in runs for count, time in run.blocks if time > 0]
    interval = mean_ratio(parts, [1.0] * len(parts))
    rate = tokens / seconds
    spread = (interval.low / interval.value, interval.high / interval.value) if interval else (1.0, 1.0)
    return {
        "tokens_per_s": rate,
        "ci95": [rate * share for share in spread],
        "messages_per_token": sum(run.messages_per_token for run in runs) / len(runs),
        "bytes_per_token": sum(run.bytes_per_token for run in runs) / len(runs),
        "idle": sum(run.idle for run in runs) / len(runs),
    }


def ratios(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Rates of f over those of the others that were measured."""
    return {
        f"{one}/{other}": methods[one]["tokens_per_s"] / methods[other]["tokens_per_s"]
        for one, other in RATIOS
        if one in methods and other in methods
    }
