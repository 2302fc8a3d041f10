"""Prints the demo's result: some of the texts, then one table of both halves."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from loadgen.request import Record
from shared.scenario.scenario import Scenario

HEADINGS: Final = ("drafts", "policy", "tok/s", "×\ngreedy", "×\ngenerate", "α", "τ", "TTFT", "TPOT", "same")
LEFT: Final = HEADINGS[:2]
TEXTS: Final = 3


def show(
    console: Console,
    records: Sequence[Record],
    local: Mapping[str, Mapping[str, Any]],
    emulated: Mapping[str, Mapping[str, Any]],
    scenario: Scenario,
) -> None:
    """Print all of it. records: of one run; local, emulated: rows by policy (cli/demo/statistics.py)."""
    for record in records[:TEXTS]:
        console.print(f"[bold]{record.request.prompt}[/]")
        console.print(record.text.strip(), markup=False)
        console.print()
    table = Table(
        title=f"{len(records)} users; texts are the target's own in every row with a yes",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in LEFT else "right", no_wrap=True)
    for drafts, rows in (("here", local), ("emulated", emulated)):
        for name, row in rows.items():
            table.add_row(drafts if name == next(iter(rows)) else "", *_cells(name, row))
        table.add_section()
    console.print(table)
    console.print(meaning(scenario), highlight=False)
    console.print(
        "×: times greedy-batch of its half, times transformers' generate (one padded batch). TTFT, TPOT: ms.",
        style="dim",
    )


def meaning(scenario: Scenario) -> str:
    """The meaning of the two halves, in one sentence. scenario: of the second half, with one group of devices."""
    (kind,) = scenario.devices
    link = f"link {kind.link.delay} each way"
    return (
        "here: the drafts compete with the verifier for this machine's cores, and their model is as large as the "
        "target, so this half shows that every text is the target's own, not speed; emulated: as many users have a "
        f"device each elsewhere (modelled: {kind.draft} a token, α {kind.alpha}, {link}; drafts are replayed, all "
        "else is real), and that is what Outrider is for."
    )


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    same = {True: "yes", False: "NO", None: "–"}[row["identical_to_reference"]]
    return [
        name,
        f"{row['tokens_per_s']:.1f}",
        _cell(_times(row, "greedy-batch")),
        _cell(_times(row, "generate")),
        _cell(row["alpha"]),
        _cell(row["tau"]),
        _cell(row["ttft_ms_p50"], 0),
        _cell(row["tpot_ms_p50"], 1),
        same,
    ]


def _times(row: Mapping[str, Any], base: str) -> float | None:
    times = row["over"].get(base)
    return times["value"] if times else None


def _cell(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
