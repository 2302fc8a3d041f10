"""Prints results to the terminal: runs, comparisons, sweeps and fleets."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadgen.fleet import FleetSample
from loadgen.results.comparison import MetricComparison
from loadgen.run.outcome import RunOutcome

LATENCIES: Final = {
    "TTFT": "ttft_scheduled",
    "TTFT from the send": "ttft",
    "TPOT": "tpot",
    "ITL, by piece": "itl",
    "ITL, by token": "itl_token",
    "end to end": "e2el_scheduled",
    "dispatch delay": "dispatch",
}


def show(console: Console, outcome: RunOutcome, out: Path | None) -> None:
    """Print a run's metrics. out: the result file, None if it could not be written."""
    metrics, window = outcome.metrics, outcome.body["window"]
    table = Table(
        title=f"{metrics['completed']} requests in {metrics['duration']:.1f} s", title_justify="left"
    )
    for heading in ("ms", "median", "mean", "p90", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "ms" else "right", no_wrap=True)
    for name, key in LATENCIES.items():
        table.add_row(
            name, *(_number(metrics[f"{of}_{key}_ms"]) for of in ("median", "mean", "p90", "p99", "max"))
        )
    console.print(table)
    console.print(
        f"{metrics['request_throughput']:.2f} requests/s, {metrics['output_throughput']:.1f} tokens/s"
        + (
            f", goodput {metrics['request_goodput']:.2f} requests/s"
            if metrics["request_goodput"] is not None
            else ""
        )
        + f"; counted from {window['start']:.1f} to {window['end']:.1f} s; "
        + f"fairness {_number(metrics['jain'])} (Jain), "
        + f"worst user {_number(metrics['worst_user_tokens_per_s'])} tokens/s"
    )
    if metrics["rounds"]:
        _speculation(console, outcome.body)
    if metrics["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(metrics["faults"].items()))
        console.print(f"[red]{metrics['failed']} failed[/]: {kinds}")
    if outcome.body["partial"]:
        console.print("ended early: the result so far is kept and marked as partial")
    if out:
        console.print(f"written to {out}")


def show_comparison(console: Console, first: str, second: str, rows: Sequence[MetricComparison]) -> None:
    """Print a comparison. Ratios whose interval excludes 1 are bold."""
    table = Table()
    for heading in ("", first, second, "ratio", "95 %"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for row in rows:
        style = "" if isnan(row.ratio) or row.low <= 1 <= row.high else "bold"
        interval = f"{row.low:.3f}–{row.high:.3f}" if not isnan(row.low) else "–"
        ratio = "–" if isnan(row.ratio) else f"{row.ratio:.3f}"
        table.add_row(row.metric, _number(row.first), _number(row.second), ratio, interval, style=style)
    console.print(table)


def show_sweep(console: Console, whole: Mapping[str, Any], out: Path) -> None:
    """Print a line for every run, then knees and crossovers."""
    table = Table()
    for heading in ("policy", "load", "requests/s", "tokens/s", "TTFT p50", "p99", "TPOT", "valid"):
        table.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for point in whole["points"]:
        metrics = point["figures"]
        names = (
            "request_throughput",
            "output_throughput",
            "median_ttft_scheduled_ms",
            "p99_ttft_scheduled_ms",
        )
        values = (_number(metrics[name]) for name in (*names, "median_tpot_ms"))
        table.add_row(point["policy"], f"{point['level']:g}", *values, "yes" if point["valid"] else "NO")
    console.print(table)
    for policy, knee in whole["knees"].items():
        console.print(
            f"{policy}: " + ("overloaded at the lowest level" if knee is None else f"knee at {knee:g}")
        )
    for crossing in whole["crossovers"]:
        first, second = crossing["between"]
        console.print(f"from {crossing['level']:.2g} on, {first} is no better than {second}")
    console.print(f"written to {out}")


def fleet_status(sample: FleetSample) -> str:
    """The status of a fleet in one line."""
    return (
        f"{sample.at_s:.0f} s: {sample.ready} devices ready, {sample.sessions} sessions, {sample.drafts} drafts, "
        f"{sample.messages_in} messages, {sample.memory_mib:.0f} MiB"
    )


def show_fleet(console: Console, metrics: Mapping[str, Any], out: Path) -> None:
    """Print a fleet's metrics."""
    console.print(
        f"{metrics['devices_ready']} devices, {metrics['seconds']:.0f} s: {metrics['drafts_per_s']:.1f} drafts/s of "
        f"{metrics['drafted_tokens_per_s']:.1f} tokens/s, {metrics['messages_in_per_s']:.1f} messages/s, "
        f"{metrics['bytes_per_draft']:.0f} link bytes per draft; "
        f"broker: {metrics['broker_calls_per_s']:.0f} calls/s, {metrics['broker_us_per_draft']:.0f} µs per draft, "
        f"{100 * metrics['broker_share']:.0f} % of a core; "
        f"{metrics['refused']} messages refused; {metrics['memory_mib']:.0f} MiB here"
    )
    console.print(f"written to {out}")


def _speculation(console: Console, body: Mapping[str, Any]) -> None:
    table = Table(title="speculation", title_justify="left")
    for heading in ("prompts", "requests", "tokens", "τ", "accepted / drafted", "TPOT"):
        table.add_column(heading, justify="left" if heading == "prompts" else "right")
    for kind, row in body["by_kind"].items():
        table.add_row(
            kind or "–",
            str(row["completed"]),
            str(row["total_output_tokens"]),
            _number(row["tau"]),
            _number(row["draft_efficiency"]),
            _number(row["median_tpot_ms"]),
        )
    console.print(table)
    stack = body["stack"]
    if stack:
        console.print(
            f"α {_number(stack['alpha'])}, verifiers busy {100 * stack['verifier_utilisation']:.0f} %, "
            f"{stack['wasted_tokens']:.0f} of {stack['drafted_tokens']:.0f} drafted tokens wasted, "
            f"{_number(stack['link_bytes_per_emitted_token'])} link bytes per emitted token"
        )


def _number(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
