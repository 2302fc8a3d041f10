"""The stages of pipelines as a table: how busy they are, in what pieces, and what they compute in vain."""

from collections.abc import Sequence

from loadgen.report.blocks import Table
from loadgen.report.formatting import format_number
from loadgen.report.timeline import IDLE, VERIFYING, Bar, is_stage, span_bars
from loadgen.results.spans import Span


def stages(spans: Sequence[Span]) -> Table | None:
    """A row per stage, over the whole run; None without stages."""
    bars = [bar for bar in span_bars(spans, 0.0) if is_stage(bar.row)]
    names = list(dict.fromkeys(bar.row for bar in bars))
    if not names:
        return None
    names.sort(key=lambda name: (len(name), name))
    rows = [_row(name, [bar for bar in bars if bar.row == name]) for name in names]
    return Table(
        ["stage", "busy %", "pieces", "rows a piece", "users a piece", "dead rows %", "gaps", "gap ms"],
        rows,
        after="Dead rows: nodes of a tree that were decided otherwise before the stage computed them. "
        "Gaps: longer than a tenth of a millisecond; their mean.",
    )


def _row(name: str, bars: Sequence[Bar]) -> list[str]:
    passes = [bar for bar in bars if bar.kind == VERIFYING]
    gaps = [1e3 * (bar.end - bar.start) for bar in bars if bar.kind == IDLE]
    gaps = [gap for gap in gaps if gap > 0.1]
    whole = max(bar.end for bar in bars) - min(bar.start for bar in bars)
    count, rows = len(passes), sum(bar.rows for bar in passes)
    return [
        name,
        format_number(100 * sum(bar.end - bar.start for bar in passes) / whole if whole else None),
        str(count),
        format_number(rows / count if count else None),
        format_number(sum(len(bar.sessions) for bar in passes) / count if count else None),
        format_number(100 * sum(bar.dead for bar in passes) / rows if rows else None),
        str(len(gaps)),
        format_number(sum(gaps) / len(gaps) if gaps else None),
    ]
