"""Summary statistics of the demo's runs. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isnan
from statistics import median
from typing import Any

from cli.demo.demo_run import DemoRun
from loadgen.measuring.intervals import mean_ratio


def rows(runs: Mapping[str, Sequence[DemoRun]], bases: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One row per policy, medians over the repeats.

    over: ratio to each of the bases, with its 95 % interval. identical_to_reference: None where no text was checked.
    """
    rates = {name: [run.tokens_per_s for run in repeats] for name, repeats in runs.items()}
    table = {}
    for name, repeats in runs.items():
        over = {base: mean_ratio(rates[name], rates[base]) for base in bases}
        checked = [run.same for run in repeats if run.same is not None]
        table[name] = {
            "tokens_per_s": median(rates[name]),
            "tokens_per_s_by_repeat": rates[name],
            "over": {base: asdict(times) if times else None for base, times in over.items()},
            "alpha": _median(run.alpha for run in repeats),
            "tau": _median(run.tau for run in repeats),
            "ttft_ms_p50": _median(run.ttft_ms for run in repeats),
            "tpot_ms_p50": _median(run.tpot_ms for run in repeats),
            "identical_to_reference": all(checked) if checked else None,
        }
    return table


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if not isnan(value)]
    return median(known) if known else None
