"""Benchmark summary statistics. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from statistics import median
from typing import Any

from cli.race.race import RaceRun
from loadgen.measuring.intervals import mean_ratio
from shared.planning.cost import Packed


def ceiling(law: Packed, alphas: Sequence[float], context: float) -> float:
    """Upper bound in tokens/s: the verifier never waits, and drafts cost nothing but their verification.

    The best draft length, with all users in every pass. context: cached tokens of each user.
    """
    users = len(alphas)
    rates = []
    for length in range(65):
        emitted = sum((1 - alpha ** (length + 1)) / (1 - alpha) for alpha in alphas)
        rates.append(1e3 * emitted / law.cost_ms([(length + 1, round(context))] * users))
    return max(rates)


def rows(runs: Mapping[str, Sequence[RaceRun]], fair: Sequence[float]) -> dict[str, dict[str, Any]]:
    """One row per arm, medians over the repeats. fair: each user's rate under the proportionally fair plan."""
    table = {}
    for name, repeats in runs.items():
        rates = [run.tokens_per_s for run in repeats]
        row: dict[str, Any] = {
            "tokens_per_s": median(rates),
            "tokens_per_s_by_repeat": rates,
            "over": {
                other: _ratio(rates, [r.tokens_per_s for r in others]) for other, others in runs.items()
            },
        }
        if repeats[0].by_user:
            row |= {
                "slowest_user": median(min(run.by_user.values()) for run in repeats),
                "least_of_fair_rate": median(
                    min(rate / fair[user] for user, rate in run.by_user.items()) for run in repeats
                ),
                "by_user": {
                    user: median(run.by_user.get(user, 0.0) for run in repeats) for user in repeats[0].by_user
                },
                "verifier_busy": median(run.busy for run in repeats),
                "cycle_ms": median(run.cycle_ms for run in repeats),
                "wrong_texts": [wrong for run in repeats for wrong in run.wrong],
                "absurd_estimates": sum(_sum(run, "absurd_estimates_total") for run in repeats),
                "plans": {
                    outcome: sum(run.metrics.get(f'plans_total{{outcome="{outcome}"}}', 0) for run in repeats)
                    for outcome in ("made", "none", "raised", "overran", "outdated")
                },
            }
        if repeats[0].predicted:
            predicted = [run.predicted for run in repeats]
            row |= {
                "predicted_tokens_per_s": median(predicted),
                "realised_over_predicted": _ratio(rates, predicted),
                "predicted_cycle_ms": median(run.predicted_cycle_ms for run in repeats),
                "predicted_busy": median(run.predicted_busy for run in repeats),
            }
        table[name] = row
    return table


def _sum(run: RaceRun, prefix: str) -> float:
    return sum(value for name, value in run.metrics.items() if name.startswith(prefix))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> list[float] | None:
    """[value, low, high] of the 95 % interval; None when there is nothing to compare."""
    ratio = mean_ratio(ours, theirs)
    return list(astuple(ratio)) if ratio else None
