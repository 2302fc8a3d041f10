"""Metrics by their symbols. Pure.

For one request: a its scheduled arrival, f its first token, e its end, n its completion tokens.
TTFT = f − a.  e2e = e − a.  TPOT = (e − f) / (n − 1).
Over requests: α = accepted / (accepted + rounds that ended in a rejection); τ = (accepted + rounds) / rounds,
tokens emitted a verification that had a draft, corrected or bonus token included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadgen.request import Record


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run comes to. Times in milliseconds; nan where nothing was measured."""

    requests: int
    errors: int
    tokens: int
    duration_s: float
    tokens_per_s: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    tpot_ms_p50: float
    tpot_ms_p99: float
    tau: float
    draft_efficiency: float  # accepted / drafted; not α


def summarise(records: Sequence[Record]) -> Summary:
    """One run: from its first scheduled arrival to its last end."""
    good = [record for record in records if not record.error and record.chunks]
    duration_s = max(r.ended for r in records) - min(r.scheduled for r in records)
    tokens = sum(len(record.tokens) for record in good)
    ttft_ms = [1e3 * (record.chunks[0].at - record.scheduled) for record in good]
    tpot_ms = [
        1e3 * (r.chunks[-1].at - r.chunks[0].at) / (len(r.tokens) - 1) for r in good if len(r.tokens) > 1
    ]
    rounds = sum(record.rounds for record in good)
    accepted = sum(record.accepted_tokens for record in good)
    drafted = sum(record.drafted_tokens for record in good)
    return Summary(
        requests=len(records),
        errors=len(records) - len(good),
        tokens=tokens,
        duration_s=duration_s,
        tokens_per_s=tokens / duration_s,
        ttft_ms_p50=percentile(ttft_ms, 50),
        ttft_ms_p99=percentile(ttft_ms, 99),
        tpot_ms_p50=percentile(tpot_ms, 50),
        tpot_ms_p99=percentile(tpot_ms, 99),
        tau=(accepted + rounds) / rounds if rounds else float("nan"),
        draft_efficiency=accepted / drafted if drafted else float("nan"),
    )


def percentile(values: Sequence[float], q: float) -> float:
    """Linear-interpolated percentile, nan of nothing."""
    return float(np.percentile(values, q)) if values else float("nan")
