"""Tables of simulated runs, one a scenario, which fit into 80 columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from cli.simulate.planned_run import PlannedRun
from cli.simulate.sweep_field import POLICY, K

TEXTS: Final = ("policy", "class")
WIDTH: Final = 80
CAPTION: Final = "TTFT, TPOT: medians, ms"
GOOD: Final = "; good: within the limits of goodput"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A finished run: body of its result file. speed: virtual / wall-clock seconds, None if it ran elsewhere."""

    run: PlannedRun
    body: Mapping[str, Any]
    speed: float | None = None

    @property
    def state(self) -> str:
        """The class of the run, or that its result is not valid."""
        return str(self.body["class"]) if self.body["valid"] else "NOT VALID"


def print_tables(console: Console, rows: Sequence[TableRow]) -> None:
    """Print a table for every scenario of these runs."""
    for scenario in dict.fromkeys(row.run.scenario for row in rows):
        console.print(table(scenario, [row for row in rows if row.run.scenario == scenario]))


def table(scenario: str, rows: Sequence[TableRow]) -> Table:
    """One row per run: swept fields, then metrics. A cell that is too wide continues in the next line."""
    cells = [_cells(row) for row in rows]
    shown = [heading for heading in cells[0] if any(row[heading] for row in cells)]
    needed = sum(max(len(heading), *(len(row[heading]) for row in cells)) for heading in shown)
    gap = 1 if needed + 2 * (len(shown) - 1) <= WIDTH else 0  # beside the column that divides two others
    rendered = Table(
        title=scenario,
        caption=CAPTION + (GOOD if "good" in shown else ""),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap, 0, 0),
    )
    for heading in shown:
        rendered.add_column(heading, justify="left" if heading in TEXTS else "right", overflow="fold")
    for row in cells:
        rendered.add_row(*(row[heading] for heading in shown))
    return rendered


def _cells(row: TableRow) -> dict[str, str]:
    metrics, stack = row.body["figures"], row.body["stack"]
    return {
        **{
            headings(row.run.fields)[path]: str(value)
            for path, value in row.run.fields.items()
            if path != POLICY
        },
        "policy": str(row.run.simulation.policy.policy) if K in row.run.fields else row.run.policy,
        "tok/s": _number(metrics["output_throughput"], 1),
        "TTFT": _number(metrics["median_ttft_scheduled_ms"]),
        "TPOT": _number(metrics["median_tpot_ms"], 1),
        "good": _percent(good_share(metrics)),
        "α": _number(stack["alpha"], 2) if stack["drafted_tokens"] else "",
        "busy": _percent(stack["verifier_utilisation"]),
        "class": row.state,
        "× real": "" if row.speed is None else f"{row.speed:.1f}",
    }


def headings(fields: Mapping[str, Any]) -> dict[str, str]:
    """A heading for every swept field: the last part of its path, or the whole one where two are alike."""
    short = {path: path.rpartition(".")[2] for path in fields}
    return {path: name if list(short.values()).count(name) == 1 else path for path, name in short.items()}


def good_share(metrics: Mapping[str, Any]) -> float | None:
    """Requests within the limits of goodput, as a share of all that were due; None without limits."""
    due = metrics["completed"] + metrics["failed"]
    if metrics["request_goodput"] is None or not due:
        return None
    return float(metrics["request_goodput"] * metrics["duration"] / due)


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"  # noqa: PLR0124  # nan


def _percent(share: float | None) -> str:
    return "" if share is None or share != share else f"{share:.0%}"  # noqa: PLR0124  # nan
