"""Banners, cards and tables of the report."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadgen.report.blocks import Banner, Card, Table
from loadgen.report.formatting import format_number, percent
from loadgen.report.timeline import Timeline, time_by_kind
from loadgen.results.result_reader import LoadedResult, SweepPoint, number

LATENCIES: Final = {
    "TTFT, from the scheduled arrival": "ttft_scheduled",
    "TTFT, from the send": "ttft",
    "end to end, from the scheduled arrival": "e2el_scheduled",
    "end to end, from the send": "e2el",
    "TPOT": "tpot",
    "ITL, by piece": "itl",
    "ITL, by token": "itl_token",
    "dispatch delay": "dispatch",
}
DEFINITIONS: Final = {
    "Window": "Requests due and tokens received within the counted window count. Failed requests are counted, but "
    "their latencies are not.",
    "TTFT": "First token − scheduled arrival, when a user starts to wait. TTFT from the send leaves out the load "
    "generator's own queue, as many tools do.",
    "End to end": "Last token − scheduled arrival.",
    "TPOT": "(Last token − first token) / (tokens − 1), of one request.",
    "ITL": "Gaps between the pieces of a stream; by token: a piece of m tokens counts as m gaps of an m-th each.",
    "Dispatch delay": "Send − scheduled arrival: the delay of the load generator itself. If it is too long, "
    "the result is not valid.",
    "Goodput": "Requests per second that met every limit.",
    "τ": "(Accepted + rounds) / rounds: tokens per verified draft, including the corrected or bonus one.",
    "Accepted / drafted": "Of all drafted tokens. α differs: accepted / (accepted + rejected), of the tokens that "
    "the verifier checked.",
    "Fairness": "Jain's index of users' token rates; 1: all are equal.",
    "Class": "Of a simulated run. Stable: no backlog grows while requests arrive. Backlogged: one grows for a time, or "
    "requests fail. Overloaded: one grows throughout, or more than 5 % of the requests fail.",
}
MAX_FAILURES: Final = 20


def banners(all_loaded: Sequence[LoadedResult]) -> list[Banner]:
    """Red: not valid, or failed assertions. Amber: incomplete, or failed requests."""
    found = []
    for one in all_loaded:
        result, of = one.result, f" ({one.label})" if len(all_loaded) > 1 else ""
        if not result.valid or result.problems:
            found.append(Banner("bad", f"Not valid{of}: do not use this result.", result.problems))
        if result.failed_assertions:
            found.append(Banner("bad", f"Failed assertions{of}:", result.failed_assertions))
        if result.partial:
            found.append(Banner("warn", f"Partial{of}: the run ended early, and this is its result so far."))
        if failed := number(result.metrics, "failed"):
            completed = number(result.metrics, "completed") or 0
            found.append(Banner("warn", f"{failed:.0f} of {failed + completed:.0f} requests failed{of}."))
        if result.run_class == "overloaded":
            found.append(
                Banner(
                    "warn",
                    f"Overloaded{of}: requests arrive faster than they end, so latencies grow with time.",
                )
            )
        found += [Banner("warn", why) for why in one.missing]
    return found


def cards(run: LoadedResult) -> list[Card]:
    """The most important metrics; those that were not measured are left out."""
    metrics = run.result.metrics

    def of(name: str) -> str:
        return format_number(number(metrics, name))

    def count(name: str) -> str:
        return format_number(number(metrics, name), digits=0)

    def tail(name: str) -> str:
        return f"p90 {of(f'p90_{name}_ms')}, p99 {of(f'p99_{name}_ms')} ms"

    values: list[tuple[str, float | None, str, str]] = [
        (
            "Output",
            number(metrics, "output_throughput"),
            "tokens/s",
            f"{count('total_output_tokens')} tokens",
        ),
        (
            "Requests",
            number(metrics, "request_throughput"),
            "/s",
            f"{count('completed')} done, {count('failed')} failed",
        ),
        (
            "Time to first token",
            number(metrics, "median_ttft_scheduled_ms"),
            "ms, median",
            tail("ttft_scheduled"),
        ),
        ("Time per output token", number(metrics, "median_tpot_ms"), "ms, median", tail("tpot")),
        ("End to end", number(metrics, "median_e2el_scheduled_ms"), "ms, median", tail("e2el_scheduled")),
        ("Goodput", number(metrics, "request_goodput"), "/s", str(run.result.config.get("goodput") or "")),
        *_speculation_cards(run),
        ("Fairness", number(metrics, "jain"), "", f"worst user {of('worst_user_tokens_per_s')} tokens/s"),
        ("Dispatch delay", number(metrics, "p99_dispatch_ms"), "ms", "p99, the load generator's own"),
    ]
    measured = [
        Card(name, format_number(value), unit, more)
        for name, value, unit, more in values
        if value is not None
    ]
    run_class = run.result.run_class
    return measured + ([Card("Class", run_class, "", "of the run")] if run_class else [])


def _speculation_cards(run: LoadedResult) -> list[tuple[str, float | None, str, str]]:
    metrics, stack = run.result.metrics, run.result.stack
    tau = number(metrics, "tau")
    drafted = format_number(number(metrics, "drafted_tokens"), digits=0)
    return [
        ("τ", stack.tau if tau is None else tau, "", "tokens per verified draft"),
        ("Accepted / drafted", percent(number(metrics, "draft_efficiency")), "%", f"of {drafted} tokens"),
        ("α", percent(stack.alpha), "%", "accepted, of those checked"),
        ("Verifiers busy", percent(stack.verifier_utilisation), "%", "of the run"),
        ("Links", stack.link_bytes_per_emitted_token, "bytes/token", "of emitted tokens"),
    ]


def latencies(run: LoadedResult) -> Table:
    """All latencies, in milliseconds."""
    statistics = ("median", "mean", "std", "p90", "p99", "max")
    rows = [
        [name, *(format_number(number(run.result.metrics, f"{which}_{key}_ms")) for which in statistics)]
        for name, key in LATENCIES.items()
    ]
    return Table(["ms", *statistics], rows)


def comparison(runs: Sequence[LoadedResult]) -> Table:
    """A row per run."""
    columns = {
        "tokens/s": "output_throughput",
        "requests/s": "request_throughput",
        "goodput": "request_goodput",
        "TTFT p50": "median_ttft_scheduled_ms",
        "TTFT p99": "p99_ttft_scheduled_ms",
        "TPOT p50": "median_tpot_ms",
        "TPOT p99": "p99_tpot_ms",
        "end to end p50": "median_e2el_scheduled_ms",
        "τ": "tau",
        "failed": "failed",
    }
    measured = {
        name: key
        for name, key in columns.items()
        if any(number(r.result.metrics, key) is not None for r in runs)
    }
    rows = [
        [
            run.label,
            *(
                format_number(number(run.result.metrics, key), digits=0 if key == "failed" else None)
                for key in measured.values()
            ),
            _state(run),
        ]
        for run in runs
    ]
    return Table(["run", *measured, ""], rows)


def _state(run: LoadedResult) -> str:
    state = "not valid" if not run.result.valid else "partial" if run.result.partial else "valid"
    return f"{state}, {run.result.run_class}" if run.result.run_class else state


def speculation(runs: Sequence[LoadedResult]) -> Table | None:
    """Speculation by kind of prompt; None without drafts."""
    rows = []
    for run in runs:
        for kind, metrics in run.result.by_kind.items():
            if number(metrics, "drafted_tokens"):
                counts = [
                    format_number(number(metrics, name), digits=0)
                    for name in ("completed", "total_output_tokens")
                ]
                shares = [
                    format_number(number(metrics, name))
                    for name in ("tau", "draft_efficiency", "median_tpot_ms")
                ]
                rows.append([*([run.label] if len(runs) > 1 else []), kind or "–", *counts, *shares])
    first = ["run", "prompts"] if len(runs) > 1 else ["prompts"]
    headings = [*first, "requests", "tokens", "τ", "accepted / drafted", "TPOT p50, ms"]
    return Table(headings, rows) if rows else None


def shares(seen: Timeline) -> Table:
    """How each row of a timeline spent its time, as percentages."""
    found = time_by_kind(seen)
    kinds = list(dict.fromkeys(kind for _, kind in found))
    span = seen.end - seen.start
    rows = [
        [
            row,
            *(format_number(found[row, kind] / span, 100) if (row, kind) in found else "" for kind in kinds),
        ]
        for row in seen.rows
    ]
    return Table(["% of the time drawn", *kinds], rows)


def failures(runs: Sequence[LoadedResult]) -> Table | None:
    """Errors and how often they occurred, most frequent first; None without errors."""
    found = Counter(
        (run.label, r.fault or "empty", r.error or "an answer without a token")
        for run in runs
        for r in run.records
        if r.error or not r.chunks
    )
    rows = [
        [label, fault, f"{count:,}", error[:400]]
        for (label, fault, error), count in found.most_common(MAX_FAILURES)
    ]
    if not rows:
        return None
    more = len(found) - len(rows)
    after = f"{more} more kinds are not shown." if more > 0 else ""
    return Table(["run", "fault", "requests", "message"], rows, text=True, after=after)


def sweep_points(one: LoadedResult) -> Table:
    """A row per point of a sweep, and its knees and crossovers."""
    by, classes = one.result.axis, any(point.run_class for point in one.result.points)
    headings = [
        "policy",
        by,
        "repeat",
        "tokens/s",
        "goodput",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
        "failed",
        "τ",
        "busy %",
        *(["class"] if classes else []),
        "file",
    ]
    rows = [_point_row(point, classes) for point in one.result.points]
    return Table(headings, rows, before=_knees(one, by))


def _point_row(point: SweepPoint, classes: bool) -> list[str]:
    return [
        point.policy or "–",
        format_number(point.x) if point.value is None else str(point.value),
        str(point.repeat),
        *(format_number(number(point.metrics, name)) for name in ("output_throughput", "request_goodput")),
        *(format_number(number(point.metrics, f"{which}_ttft_scheduled_ms")) for which in ("median", "p99")),
        format_number(number(point.metrics, "median_tpot_ms")),
        format_number(number(point.metrics, "failed"), digits=0),
        format_number(point.stack.tau),
        format_number(percent(point.stack.verifier_utilisation)),
        *([point.run_class] if classes else []),
        point.file,
    ]


def _knees(one: LoadedResult, unit: str) -> str:
    """Knees and crossovers as one sentence, "" where there are none."""
    parts = [
        f"{name}: knee at {format_number(level)} {unit}"
        for name, level in one.result.knees.items()
        if level is not None
    ]
    parts += [
        f"{' and '.join(c.between)} cross over at {format_number(c.level)} {unit}"
        for c in one.result.crossovers
    ]
    return "; ".join(parts) + "." if parts else ""


def settings(all_loaded: Sequence[LoadedResult]) -> Table:
    """Settings, commit and hardware of every result; empty ones are left out."""
    columns = [_settings_of(one) for one in all_loaded]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    if len(columns) > 1:  # different settings first
        rows.sort(key=lambda row: len(set(row[1:])) == 1)
    return Table(["", *(one.label for one in all_loaded)], rows, text=True)


def _settings_of(one: LoadedResult) -> dict[str, str]:
    result = one.result
    facts: Mapping[str, Any] = {
        "file": one.path.name,
        "date": result.date,
        "commit": result.git,
        **{f"hardware: {name}": value for name, value in result.hardware.items()},
        **result.config,
    }
    return {name: _as_text(value) for name, value in facts.items() if value not in (None, "", [], {}, False)}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
