"""Draws a sweep: throughput, latencies and goodput over the first swept field, a line a policy and other fields."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from cli.simulate.table import good_share
from shared.planning.policies import REGISTRY

MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Final = ("-", "--", ":", "-.")

Point = Mapping[str, Any]


def draw(path: Path, title: str, axis: str, points: Sequence[Point]) -> None:
    """Means over seeds as lines, single runs as dots. points: of the sweep's result file. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    panels = {
        name: value for name, value in _panels().items() if any(value(point) is not None for point in points)
    }
    figure = Figure(figsize=(5.2 * min(2, len(panels)), 3.4 * ((len(panels) + 1) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots((len(panels) + 1) // 2, min(2, len(panels)), squeeze=False).flatten()
    lines = list(dict.fromkeys(point["policy"] for point in points))
    styles = dict(zip(lines, _styles(lines), strict=True))
    for plot, (name, value) in zip(axes, panels.items(), strict=False):
        _draw_panel(plot, points, value, styles)
        plot.set_ylabel(name)
        plot.set_xlabel(axis + _unit(points))
        plot.set_ylim(bottom=0)
        plot.grid(alpha=0.25)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    figure.suptitle(title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _panels() -> dict[str, Callable[[Point], float | None]]:
    def metric(name: str) -> Callable[[Point], float | None]:
        return lambda point: point["figures"][name]

    return {
        "tokens/s": metric("output_throughput"),
        "TTFT, ms (median)": metric("median_ttft_scheduled_ms"),
        "TPOT, ms (median)": metric("median_tpot_ms"),
        "requests within the limits, share": lambda point: good_share(point["figures"]),
    }


def _draw_panel(
    plot: Any, points: Sequence[Point], value: Callable[[Point], float | None], styles: Mapping[str, Any]
) -> None:
    is_numeric = all(point["level"] is not None for point in points)
    names = list(dict.fromkeys(str(point["value"]) for point in points))
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        at, height = point["level"] if is_numeric else names.index(str(point["value"])), value(point)
        if height is not None:
            found[point["policy"]][at].append(height)
    for name, by_place in found.items():
        places = sorted(by_place)
        plot.plot(places, [fmean(by_place[at]) for at in places], label=name, **styles[name])
        for at, heights in by_place.items():
            if len(heights) > 1:
                plot.plot([at] * len(heights), heights, ".", color=styles[name]["color"], alpha=0.4)
    if not is_numeric:
        plot.set_xticks(range(len(names)), names)


def _styles(lines: Sequence[str]) -> list[dict[str, Any]]:
    """The policy's colour; a mark and a dash that differ among the lines of one policy."""
    seen: dict[str, int] = defaultdict(int)
    styles = []
    for at, line in enumerate(lines):
        policy = line.partition(",")[0].partition(" ")[0]
        colour = REGISTRY[policy].colour if policy in REGISTRY else f"C{at}"
        number = seen[policy]
        seen[policy] += 1
        styles.append(
            {
                "color": colour,
                "marker": MARKS[number % len(MARKS)],
                "linestyle": DASHES[number % len(DASHES)],
                "markersize": 4,
            }
        )
    return styles


def _unit(points: Sequence[Point]) -> str:
    """The unit of the axis where the values are times."""
    last = str(points[0]["value"]).rpartition(" ")[2]
    return {"ms": ", ms", "s": ", ms", "verify": ", passes", "kbit": ", kbit/s"}.get(last, "")
