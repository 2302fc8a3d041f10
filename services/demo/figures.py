"""What the demo's runs come to. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isnan
from statistics import median
from typing import Any

from services.bench.figures import ratio
from services.demo.entrants import Entrant, Run
from services.demo.reference import Text


def rows(
    runs: Mapping[Entrant, Sequence[Run]], expected: Mapping[str, Text], bases: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """One row a policy, medians over the repeats. over: times each of the bases, with its 95 % interval.

    identical_to_reference: None where there is no text to check.
    """
    rates = {entrant.policy: [run.tokens_per_s for run in mine] for entrant, mine in runs.items()}
    found = {}
    for entrant, mine in runs.items():
        over = {base: ratio(rates[entrant.policy], rates[base]) for base in bases}
        found[entrant.policy] = {
            "tokens_per_s": median(rates[entrant.policy]),
            "tokens_per_s_by_repeat": rates[entrant.policy],
            "over": {base: asdict(times) if times else None for base, times in over.items()},
            "alpha": _median(run.alpha for run in mine),
            "tau": _median(run.tau for run in mine),
            "ttft_ms_p50": _median(run.ttft_ms for run in mine),
            "tpot_ms_p50": _median(run.tpot_ms for run in mine),
            "identical_to_reference": _same(mine, expected),
            "threads": {"verifier": entrant.verifier_threads, "draft_worker": entrant.draft_threads},
            "k": entrant.k,
        }
    return found


def _same(runs: Sequence[Run], expected: Mapping[str, Text]) -> bool | None:
    records = [record for run in runs for record in run.records]
    if not records:
        return None
    return all(tuple(record.tokens) == expected[record.request.id].answer for record in records)


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if not isnan(value)]
    return median(known) if known else None
