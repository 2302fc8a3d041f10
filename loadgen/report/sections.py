"""What the page says in words and tables: banners, cards, figures, failures, and how it was set."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadgen.report.blocks import Banner, Card, Table
from loadgen.report.formatting import format_number, percent
from loadgen.report.timeline import Timeline, spent
from loadgen.results.result_reader import LoadedResult, Point, number

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
COUNTED: Final = {
    "Window": "Requests count that were due within the counted window, tokens that came within it. Failed requests are "
    "counted, not measured.",
    "TTFT": "First token − scheduled arrival: a person waits from there, also while the load generator does. From the "
    "send: what tools report that leave their own queue out.",
    "End to end": "Last token − scheduled arrival.",
    "TPOT": "(Last token − first token) / (tokens − 1), of one request.",
    "ITL": "Gaps between the pieces of a stream; by token: m tokens at once are m gaps of an m-th.",
    "Dispatch delay": "Send − scheduled arrival: the load generator's own. Too much of it makes a result not valid.",
    "Goodput": "Requests a second that kept every limit which was set.",
    "τ": "(Accepted + rounds) / rounds: tokens that a verified draft brings, the corrected or bonus one included.",
    "Accepted / drafted": "Of all tokens that devices drafted. α is another: accepted / (accepted + rejected), of "
    "those that the verifier came to look at.",
    "Fairness": "Jain's index of users' tokens a second, 1 when all are equal.",
}
MAX_FAILURES: Final = 20


def banners(all_loaded: Sequence[LoadedResult]) -> list[Banner]:
    """Red for what is not valid or failed, amber for what is not whole."""
    found = []
    for one in all_loaded:
        result, of = one.result, f" ({one.label})" if len(all_loaded) > 1 else ""
        if not result.valid or result.problems:
            found.append(Banner("bad", f"Not valid{of}: these figures are not to be used.", result.problems))
        if result.failed_assertions:
            found.append(Banner("bad", f"Not reached{of}:", result.failed_assertions))
        if result.partial:
            found.append(
                Banner("warn", f"Partial{of}: the run was ended early; this is what there was by then.")
            )
        if failed := number(result.figures, "failed"):
            completed = number(result.figures, "completed") or 0
            found.append(Banner("warn", f"{failed:.0f} of {failed + completed:.0f} requests failed{of}."))
        found += [Banner("warn", why) for why in one.missing]
    return found


def cards(run: LoadedResult) -> list[Card]:
    """The figures a person looks for first; those that there are none of are left out."""
    seen = run.result.figures

    def of(name: str) -> str:
        return format_number(number(seen, name))

    def count(name: str) -> str:
        return format_number(number(seen, name), digits=0)

    def tail(name: str) -> str:
        return f"p90 {of(f'p90_{name}_ms')}, p99 {of(f'p99_{name}_ms')} ms"

    values: list[tuple[str, float | None, str, str]] = [
        ("Output", number(seen, "output_throughput"), "tokens/s", f"{count('total_output_tokens')} tokens"),
        (
            "Requests",
            number(seen, "request_throughput"),
            "/s",
            f"{count('completed')} done, {count('failed')} failed",
        ),
        (
            "Time to first token",
            number(seen, "median_ttft_scheduled_ms"),
            "ms, median",
            tail("ttft_scheduled"),
        ),
        ("Time per output token", number(seen, "median_tpot_ms"), "ms, median", tail("tpot")),
        ("End to end", number(seen, "median_e2el_scheduled_ms"), "ms, median", tail("e2el_scheduled")),
        ("Goodput", number(seen, "request_goodput"), "/s", str(run.result.config.get("goodput") or "")),
        *_speculation_cards(run),
        ("Fairness", number(seen, "jain"), "", f"worst user {of('worst_user_tokens_per_s')} tokens/s"),
        ("Dispatch delay", number(seen, "p99_dispatch_ms"), "ms", "p99, the load generator's own"),
    ]
    return [
        Card(name, format_number(value), unit, more)
        for name, value, unit, more in values
        if value is not None
    ]


def _speculation_cards(run: LoadedResult) -> list[tuple[str, float | None, str, str]]:
    seen, stack = run.result.figures, run.result.stack
    tau = number(seen, "tau")
    drafted = format_number(number(seen, "drafted_tokens"), digits=0)
    return [
        ("τ", stack.tau if tau is None else tau, "", "tokens a verified draft"),
        ("Accepted / drafted", percent(number(seen, "draft_efficiency")), "%", f"of {drafted} tokens"),
        ("α", percent(stack.alpha), "%", "accepted, of those looked at"),
        ("Verifiers busy", percent(stack.verifier_utilisation), "%", "of the run"),
        ("Links", stack.link_bytes_per_emitted_token, "bytes/token", "of emitted tokens"),
    ]


def latencies(run: LoadedResult) -> Table:
    """All of them, in milliseconds."""
    of = ("median", "mean", "std", "p90", "p99", "max")
    rows = [
        [name, *(format_number(number(run.result.figures, f"{which}_{key}_ms")) for which in of)]
        for name, key in LATENCIES.items()
    ]
    return Table(["ms", *of], rows)


def compared(runs: Sequence[LoadedResult]) -> Table:
    """A row a run."""
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
    there = {
        name: key
        for name, key in columns.items()
        if any(number(r.result.figures, key) is not None for r in runs)
    }
    rows = [
        [
            run.label,
            *(
                format_number(number(run.result.figures, key), digits=0 if key == "failed" else None)
                for key in there.values()
            ),
            _state(run),
        ]
        for run in runs
    ]
    return Table(["run", *there, ""], rows)


def _state(run: LoadedResult) -> str:
    return "not valid" if not run.result.valid else "partial" if run.result.partial else "valid"


def speculation(runs: Sequence[LoadedResult]) -> Table | None:
    """By kind of prompt, where anything was drafted."""
    rows = []
    for run in runs:
        for kind, seen in run.result.by_kind.items():
            if number(seen, "drafted_tokens"):
                counts = [
                    format_number(number(seen, name), digits=0)
                    for name in ("completed", "total_output_tokens")
                ]
                shares = [
                    format_number(number(seen, name))
                    for name in ("tau", "draft_efficiency", "median_tpot_ms")
                ]
                rows.append([*([run.label] if len(runs) > 1 else []), kind or "–", *counts, *shares])
    first = ["run", "prompts"] if len(runs) > 1 else ["prompts"]
    headings = [*first, "requests", "tokens", "τ", "accepted / drafted", "TPOT p50, ms"]
    return Table(headings, rows) if rows else None


def shares(seen: Timeline) -> Table:
    """What each row did, as shares of the window."""
    found = spent(seen)
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
    """What went wrong and how often, the most frequent first."""
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
    after = f"{more} kinds more are not shown." if more > 0 else ""
    return Table(["run", "fault", "requests", "what was said"], rows, text=True, after=after)


def points(one: LoadedResult) -> Table:
    """A row a point of a sweep, and its knees and crossovers."""
    by = "requests/s" if any(point.rate is not None for point in one.result.points) else "users"
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
        "file",
    ]
    return Table(headings, [_point_row(point) for point in one.result.points], before=_knees(one, by))


def _point_row(point: Point) -> list[str]:
    return [
        point.policy or "–",
        format_number(point.rate if point.rate is not None else point.concurrency),
        str(point.repeat),
        *(format_number(number(point.figures, name)) for name in ("output_throughput", "request_goodput")),
        *(format_number(number(point.figures, f"{which}_ttft_scheduled_ms")) for which in ("median", "p99")),
        format_number(number(point.figures, "median_tpot_ms")),
        format_number(number(point.figures, "failed"), digits=0),
        format_number(point.stack.tau),
        format_number(percent(point.stack.verifier_utilisation)),
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
        f"{' and '.join(c.between)} change places at {format_number(c.level)} {unit}"
        for c in one.result.crossovers
    ]
    return "; ".join(parts) + "." if parts else ""


def settings(all_loaded: Sequence[LoadedResult]) -> Table:
    """How each was set and on what; what was left empty is left out."""
    columns = [_told(one) for one in all_loaded]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    if len(columns) > 1:  # what differs is what a reader looks for
        rows.sort(key=lambda row: len(set(row[1:])) == 1)
    return Table(["", *(one.label for one in all_loaded)], rows, text=True)


def _told(one: LoadedResult) -> dict[str, str]:
    result = one.result
    facts: Mapping[str, Any] = {
        "file": one.path.name,
        "date": result.date,
        "commit": result.git,
        **{f"hardware: {name}": value for name, value in result.hardware.items()},
        **result.config,
    }
    return {name: _shown(value) for name, value in facts.items() if value not in (None, "", [], {}, False)}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
