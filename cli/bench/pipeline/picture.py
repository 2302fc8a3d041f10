"""Draws a comparison of methods, and what the stages do under one of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.bench.pipeline.options import Cell
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.run import run_method
from simulator.pipeline.timeline import Timeline

TOKENS: Final = 60  # of the run that is drawn
PASSES: Final = 24  # slowest passes shown
COLORS: Final = {"verify": "#4878a8", "head": "#c04030", "draft": "#b8c4d0"}


def draw(path: Path, found: Sequence[Mapping[str, Any]], cell: Cell, seed: int) -> None:
    """Rates over c's by cell; below them the stages of f, or of the last method, in the first cell. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    names = list(found[0]["methods"])
    base = "c" if "c" in names else names[0]
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1)
    for at, name in enumerate(names):
        heights = [
            one["methods"][name]["tokens_per_s"] / one["methods"][base]["tokens_per_s"] for one in found
        ]
        above.plot(heights, label=name, color=f"C{at}", marker="o", linewidth=1)
    labels = [f"{c['law']} N{c['stages']}\n{c['hop_ms']:g} ms\n{c['p1']:g} U{c['users']}" for c in found]
    above.set_xticks(range(len(found)), labels, fontsize=6)
    above.set_ylabel(f"tokens/s over those of {base}")
    above.grid(alpha=0.25)
    figure.legend(
        *above.get_legend_handles_labels(), loc="outside upper center", ncols=len(names), fontsize=8
    )
    drawn = "f" if "f" in names else names[-1]
    _draw_timeline(below, timeline_of(cell, drawn, seed), cell)
    below.set_title(f"{drawn}: rows of each pass (rows dropped); {cell.name}, p1 {cell.p1:g}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def timeline_of(cell: Cell, method: str, seed: int) -> Timeline:
    """What the stages do in a short run of a method."""
    made = METHODS[method].make(cell.law, cell.p1, cell.users)
    return run_method(made, cell.law, cell.p1, cell.users, TOKENS * cell.users, seed).timeline


def _draw_timeline(panel: Any, timeline: Timeline, cell: Cell) -> None:
    """Bars of the passes by stage, from the middle of the run."""
    middle = timeline.passes[len(timeline.passes) // 2].begin
    width = PASSES * cell.law.slowest(8).pass_ms(8) / 1e3
    for one in timeline.passes:
        if middle <= one.begin < middle + width:
            left, length = 1e3 * (one.begin - middle), 1e3 * (one.end - one.begin)
            panel.barh(one.stage, length, left=left, color=COLORS[one.what], edgecolor="white", linewidth=0.5)
            if one.stage:
                text = f"{one.rows}" + (f"\n({one.dropped})" if one.dropped else "")
                panel.text(left + length / 2, one.stage, text, ha="center", va="center", fontsize=6)
    panel.set_yticks(
        range(timeline.stages + 1), ["rank 0", *(f"stage {n + 1}" for n in range(timeline.stages))]
    )
    panel.invert_yaxis()
    panel.set_xlabel("ms (grey: drafting, red: output head)")
