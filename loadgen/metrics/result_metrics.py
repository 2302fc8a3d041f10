"""A run's figures as the result file has them: flat, by the names of `vllm bench serve` where the meaning is the same.

There a latency counts from the send, so the plain names do here; `…_scheduled_ms` counts from the scheduled arrival,
from which a person waits.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadgen.metrics.slo import good
from loadgen.metrics.summary import Spread, Summary, Window, summarise
from loadgen.request import Record


def figures(records: Sequence[Record], window: Window, goodput: Mapping[str, float]) -> dict[str, Any]:
    """Of the requests due within the window."""
    seen = summarise(records, window)
    spreads = {
        "ttft": seen.ttft_sent,
        "ttft_scheduled": seen.ttft,
        "tpot": seen.tpot,
        "itl": seen.itl,
        "itl_token": seen.itl_token,
        "e2el": seen.e2e_sent,
        "e2el_scheduled": seen.e2e,
        "dispatch": seen.dispatch,
    }
    kept = sum(good(record, goodput) for record in records if window.has(record.scheduled)) if goodput else 0
    return {
        "duration": seen.duration_s,
        "completed": seen.requests - seen.errors,
        "failed": seen.errors,
        "faults": dict(seen.faults),
        "total_input_tokens": seen.prompt_tokens,
        "total_output_tokens": seen.tokens,
        "request_throughput": seen.requests_per_s,
        "request_goodput": kept / seen.duration_s if goodput and seen.duration_s > 0 else None,
        "output_throughput": seen.tokens_per_s,
        **{key: value for name, spread in spreads.items() for key, value in _flat(name, spread).items()},
        "jain": seen.jain,
        "worst_user_tokens_per_s": seen.worst_user_per_s,
        **_speculation(seen),
    }


def grouped(
    records: Sequence[Record], window: Window, key: Callable[[Record], str]
) -> dict[str, dict[str, Any]]:
    """A few figures of each group of records."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return {name: _short(summarise(group, window)) for name, group in sorted(groups.items())}


def _short(seen: Summary) -> dict[str, Any]:
    return {
        "completed": seen.requests - seen.errors,
        "failed": seen.errors,
        "total_output_tokens": seen.tokens,
        "median_ttft_scheduled_ms": seen.ttft.median,
        "p99_ttft_scheduled_ms": seen.ttft.p99,
        "median_tpot_ms": seen.tpot.median,
        **_speculation(seen),
    }


def _speculation(seen: Summary) -> dict[str, Any]:
    return {
        "rounds": seen.rounds,
        "drafted_tokens": seen.drafted,
        "accepted_tokens": seen.accepted,
        "tau": seen.tau,
        "draft_efficiency": seen.draft_efficiency,
    }


def _flat(name: str, spread: Spread) -> dict[str, float]:
    return {
        f"mean_{name}_ms": spread.mean,
        f"median_{name}_ms": spread.median,
        f"std_{name}_ms": spread.std,
        f"p90_{name}_ms": spread.p90,
        f"p99_{name}_ms": spread.p99,
        f"max_{name}_ms": spread.most,
    }
