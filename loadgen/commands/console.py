"""Prints results to the terminal: runs, comparisons, sweeps and fleets."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadgen.fleet import FleetSample
from loadgen.results.comparison import Row
from loadgen.run.runner import Outcome

LATENCIES: Final = {
    "TTFT": "ttft_scheduled",
    "TTFT from the send": "ttft",
    "TPOT": "tpot",
    "ITL, by piece": "itl",
    "ITL, by token": "itl_token",
    "end to end": "e2el_scheduled",
    "dispatch delay": "dispatch",
}


def show(console: Console, outcome: Outcome, out: Path | None) -> None:
    """The figures as tables. out: where the result is, None where it could not be written."""
    seen, window = outcome.figures, outcome.body["window"]
    table = Table(title=f"{seen['completed']} requests in {seen['duration']:.1f} s", title_justify="left")
    for heading in ("ms", "median", "mean", "p90", "p99", "most"):
        table.add_column(heading, justify="left" if heading == "ms" else "right", no_wrap=True)
    for name, key in LATENCIES.items():
        table.add_row(
            name, *(_figure(seen[f"{of}_{key}_ms"]) for of in ("median", "mean", "p90", "p99", "max"))
        )
    console.print(table)
    console.print(
        f"{seen['request_throughput']:.2f} requests/s, {seen['output_throughput']:.1f} tokens/s"
        + (
            f", goodput {seen['request_goodput']:.2f} requests/s"
            if seen["request_goodput"] is not None
            else ""
        )
        + f"; counted from {window['start']:.1f} to {window['end']:.1f} s; "
        + f"fairness {_figure(seen['jain'])} (Jain), worst user {_figure(seen['worst_user_tokens_per_s'])} tokens/s"
    )
    if seen["rounds"]:
        _speculation(console, outcome.body)
    if seen["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(seen["faults"].items()))
        console.print(f"[red]{seen['failed']} failed[/]: {kinds}")
    if outcome.body["partial"]:
        console.print("ended early: what there is by then is kept, and marked partial")
    if out:
        console.print(f"written to {out}")


def show_comparison(console: Console, first: str, second: str, rows: Sequence[Row]) -> None:
    """Side by side. A ratio whose interval has 1 in it is not told apart from no difference."""
    table = Table()
    for heading in ("", first, second, "ratio", "95 %"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for row in rows:
        apart = "" if isnan(row.ratio) or row.low <= 1 <= row.high else "bold"
        interval = f"{row.low:.3f}–{row.high:.3f}" if not isnan(row.low) else "–"
        ratio = "–" if isnan(row.ratio) else f"{row.ratio:.3f}"
        table.add_row(row.figure, _figure(row.first), _figure(row.second), ratio, interval, style=apart)
    console.print(table)


def show_sweep(console: Console, whole: Mapping[str, Any], out: Path) -> None:
    """A line for every run, then knees and crossovers."""
    table = Table()
    for heading in ("policy", "load", "requests/s", "tokens/s", "TTFT p50", "p99", "TPOT", "valid"):
        table.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for point in whole["points"]:
        seen = point["figures"]
        names = (
            "request_throughput",
            "output_throughput",
            "median_ttft_scheduled_ms",
            "p99_ttft_scheduled_ms",
        )
        figures = (_figure(seen[name]) for name in (*names, "median_tpot_ms"))
        table.add_row(point["policy"], f"{point['level']:g}", *figures, "yes" if point["valid"] else "NO")
    console.print(table)
    for policy, knee in whole["knees"].items():
        console.print(f"{policy}: " + ("overloaded from the first" if knee is None else f"knee at {knee:g}"))
    for crossing in whole["crossovers"]:
        mine, theirs = crossing["between"]
        console.print(f"from {crossing['level']:.2g} on, {mine} is no better than {theirs}")
    console.print(f"written to {out}")


def fleet_status(look: FleetSample) -> str:
    """How a fleet does, in a line."""
    return (
        f"{look.at_s:.0f} s: {look.ready} devices ready, {look.sessions} sessions, {look.drafts} drafts, "
        f"{look.messages_in} messages, {look.memory_mib:.0f} MiB"
    )


def show_fleet(console: Console, seen: Mapping[str, Any], out: Path) -> None:
    """What it came to."""
    console.print(
        f"{seen['devices_ready']} devices, {seen['seconds']:.0f} s: {seen['drafts_per_s']:.1f} drafts/s of "
        f"{seen['drafted_tokens_per_s']:.1f} tokens/s, {seen['messages_in_per_s']:.1f} messages/s, "
        f"{seen['bytes_per_draft']:.0f} bytes of links a draft; the broker: {seen['broker_calls_per_s']:.0f} calls/s, "
        f"{seen['broker_us_per_draft']:.0f} µs a draft, {100 * seen['broker_share']:.0f} % of a core; "
        f"{seen['refused']} messages refused; {seen['memory_mib']:.0f} MiB here"
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
            _figure(row["tau"]),
            _figure(row["draft_efficiency"]),
            _figure(row["median_tpot_ms"]),
        )
    console.print(table)
    stack = body["stack"]
    if stack:
        console.print(
            f"α {_figure(stack['alpha'])}, verifiers busy {100 * stack['verifier_utilisation']:.0f} %, "
            f"{stack['wasted_tokens']:.0f} of {stack['drafted_tokens']:.0f} drafted tokens in vain, "
            f"{_figure(stack['link_bytes_per_emitted_token'])} bytes of links an emitted token"
        )


def _figure(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
