"""Benchmark summary statistics. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from statistics import median
from typing import Any

from cli.race.race import RaceRun
from loadgen.measuring.intervals import mean_ratio
from shared.planning.cost import Packed


def ceiling(law: Packed, alphas: Sequence[float], context: float) -> float:
    """Tokens a second if the verifier never waited and drafts cost nothing but their verification.

    The best of all lengths, everybody in every pass. context: cached tokens of each user.
    """
    users = len(alphas)
    rates = []
    for length in range(65):
        emitted = sum((1 - alpha ** (length + 1)) / (1 - alpha) for alpha in alphas)
        rates.append(1e3 * emitted / law.cost_ms([(length + 1, round(context))] * users))
    return max(rates)


def rows(runs: Mapping[str, Sequence[RaceRun]], fair: Sequence[float]) -> dict[str, dict[str, Any]]:
    """One row an entrant. fair: each user's rate under the plan that is best for all in proportion."""
    found = {}
    for name, mine in runs.items():
        rates = [run.tokens_per_s for run in mine]
        row: dict[str, Any] = {
            "tokens_per_s": median(rates),
            "tokens_per_s_by_repeat": rates,
            "over": {
                other: _ratio(rates, [r.tokens_per_s for r in theirs]) for other, theirs in runs.items()
            },
        }
        if mine[0].by_user:
            row |= {
                "slowest_user": median(min(run.by_user.values()) for run in mine),
                "least_of_fair_rate": median(
                    min(rate / fair[user] for user, rate in run.by_user.items()) for run in mine
                ),
                "by_user": {
                    user: median(run.by_user.get(user, 0.0) for run in mine) for user in mine[0].by_user
                },
                "verifier_busy": median(run.busy for run in mine),
                "cycle_ms": median(run.cycle_ms for run in mine),
                "wrong_texts": [wrong for run in mine for wrong in run.wrong],
                "absurd_estimates": sum(_sum(run, "absurd_estimates_total") for run in mine),
                "plans": {
                    outcome: sum(run.metrics.get(f'plans_total{{outcome="{outcome}"}}', 0) for run in mine)
                    for outcome in ("made", "none", "raised", "overran", "outdated")
                },
            }
        if mine[0].predicted:
            predicted = [run.predicted for run in mine]
            row |= {
                "predicted_tokens_per_s": median(predicted),
                "realised_over_predicted": _ratio(rates, predicted),
                "predicted_cycle_ms": median(run.predicted_cycle_ms for run in mine),
                "predicted_busy": median(run.predicted_busy for run in mine),
            }
        found[name] = row
    return found


def _sum(run: RaceRun, prefix: str) -> float:
    return sum(value for name, value in run.metrics.items() if name.startswith(prefix))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> list[float] | None:
    """[value, low, high] of the 95 % interval; None when there is nothing to compare."""
    ratio = mean_ratio(ours, theirs)
    return list(astuple(ratio)) if ratio else None
