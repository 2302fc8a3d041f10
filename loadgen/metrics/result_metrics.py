"""A run's metrics as in the result file: flat, with the names of `vllm bench serve` where the meaning is the same.

Latencies with these names count from the send, as in vLLM; `…_scheduled_ms` counts from the scheduled arrival, when a
user starts to wait.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadgen.metrics.slo import good
from loadgen.metrics.summary import Spread, Summary, Window, summarise
from loadgen.request import Record


def run_metrics(records: Sequence[Record], window: Window, goodput: Mapping[str, float]) -> dict[str, Any]:
    """Metrics of the requests that were due within the window. goodput: limits in ms by name, empty for none."""
    summary = summarise(records, window)
    spreads = {
        "ttft": summary.ttft_sent,
        "ttft_scheduled": summary.ttft,
        "tpot": summary.tpot,
        "itl": summary.itl,
        "itl_token": summary.itl_token,
        "e2el": summary.e2e_sent,
        "e2el_scheduled": summary.e2e,
        "dispatch": summary.dispatch,
    }
    kept = sum(good(record, goodput) for record in records if window.has(record.scheduled)) if goodput else 0
    return {
        "duration": summary.duration_s,
        "completed": summary.requests - summary.errors,
        "failed": summary.errors,
        "faults": dict(summary.faults),
        "total_input_tokens": summary.prompt_tokens,
        "total_output_tokens": summary.tokens,
        "request_throughput": summary.requests_per_s,
        "request_goodput": kept / summary.duration_s if goodput and summary.duration_s > 0 else None,
        "output_throughput": summary.tokens_per_s,
        **{key: value for name, spread in spreads.items() for key, value in _flat(name, spread).items()},
        "jain": summary.jain,
        "worst_user_tokens_per_s": summary.worst_user_per_s,
        **_speculation(summary),
    }


def grouped(
    records: Sequence[Record], window: Window, key: Callable[[Record], str]
) -> dict[str, dict[str, Any]]:
    """The main metrics of each group of records."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return {name: _short(summarise(group, window)) for name, group in sorted(groups.items())}


def _short(summary: Summary) -> dict[str, Any]:
    return {
        "completed": summary.requests - summary.errors,
        "failed": summary.errors,
        "total_output_tokens": summary.tokens,
        "median_ttft_scheduled_ms": summary.ttft.median,
        "p99_ttft_scheduled_ms": summary.ttft.p99,
        "median_tpot_ms": summary.tpot.median,
        **_speculation(summary),
    }


def _speculation(summary: Summary) -> dict[str, Any]:
    return {
        "rounds": summary.rounds,
        "drafted_tokens": summary.drafted,
        "accepted_tokens": summary.accepted,
        "tau": summary.tau,
        "draft_efficiency": summary.draft_efficiency,
    }


def _flat(name: str, spread: Spread) -> dict[str, float]:
    return {
        f"mean_{name}_ms": spread.mean,
        f"median_{name}_ms": spread.median,
        f"std_{name}_ms": spread.std,
        f"p90_{name}_ms": spread.p90,
        f"p99_{name}_ms": spread.p99,
        f"max_{name}_ms": spread.maximum,
    }
