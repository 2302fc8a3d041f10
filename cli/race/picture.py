"""Draws a race: throughput of every arm, and its ratio to a base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw(path: Path, title: str, rows: Mapping[str, Mapping[str, Any]], base: str) -> None:
    """Bars of tokens/s with repeats as dots and the plan's prediction; beside them ratios to `base` with intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    names = list(rows)
    figure = Figure(figsize=(11, 0.5 * len(names) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    speed, ahead = figure.subplots(1, 2, sharey=True)
    for at, name in enumerate(names):
        row = rows[name]
        rates = row["tokens_per_s_by_repeat"]
        speed.barh(at, row["tokens_per_s"], color="#4878a8" if name.startswith("outrider") else "#b8c4d0")
        speed.plot(rates, [at] * len(rates), "o", color="black", markersize=3)
        if "predicted_tokens_per_s" in row:
            speed.plot(
                [row["predicted_tokens_per_s"]], [at], "|", color="#c04030", markersize=16, markeredgewidth=2
            )
        if row["over"].get(base):
            value, low, high = row["over"][base]
            ahead.errorbar(
                value, at, xerr=[[value - low], [high - value]], fmt="o", color="#4878a8", capsize=3
            )
    speed.set_yticks(range(len(names)), names)
    speed.invert_yaxis()
    speed.set_xlabel("tokens/s of all users (dots: repeats; red: predicted)")
    ahead.axvline(1.0, color="#888888", linewidth=1)
    ahead.set_xlabel(f"× {base} (95 % interval)")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
