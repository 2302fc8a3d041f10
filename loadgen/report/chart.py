"""Charts as plotly.js takes them, with a common style and a colour per policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from loadgen.results.result_reader import LoadedResult
from shared.planning.policies import REGISTRY

Trace = dict[str, Any]

INK, MUTED, GRID, SHADE = "#1b2733", "#5b6b7b", "#e3e8ee", "#eef3f9"
PALETTE: Final = ("#2463ae", "#d97a1e", "#17907f", "#a8428a", "#7a6bc4", "#8a6d3b", "#c43d4b", "#5f7f2e")
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the page. name: its data-chart attribute; wide: takes the page's whole width; height: pixels."""

    name: str
    title: str
    caption: str
    traces: Sequence[Trace]
    layout: Mapping[str, Any]
    wide: bool = False
    height: int = 300


def plain(text: str) -> str:
    """Text escaped for a chart, because plotly interprets a few tags; – for empty text."""
    return escape(text, quote=False) or "–"


def faint(colour: str, opacity: float) -> str:
    """The colour (#rrggbb) with this opacity, from 0 to 1."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({','.join(str(part) for part in parts)},{opacity:g})"


def policy_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per name: a known policy has the same one on every page, other names get the next free one."""
    found = {name: REGISTRY[name].colour for name in names if name in REGISTRY}
    rest = [colour for colour in PALETTE if colour not in found.values()] or list(PALETTE)
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    return found | {name: rest[at % len(rest)] for at, name in enumerate(unknown)}


def run_colours(runs: Sequence[LoadedResult]) -> dict[str, str]:
    """A colour per label: the policy's if the runs have different ones, else the next of the palette."""
    policies = [run.policy for run in runs]
    if all(policies) and len(set(policies)) == len(runs):
        colours = policy_colours(policies)
        return {run.label: colours[run.policy] for run in runs}
    return {run.label: PALETTE[at % len(PALETTE)] for at, run in enumerate(runs)}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """A plotly axis."""
    return {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 8},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"size": 11, "color": MUTED},
        **more,
    }


def layout(x: Mapping[str, Any], y: Mapping[str, Any], legend: bool = True, **more: Any) -> dict[str, Any]:
    """A plotly layout, with the legend above the chart."""
    return {
        "xaxis": dict(x),
        "yaxis": dict(y),
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 48, "r": 16, "t": 34 if legend else 12, "b": 40},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
        "hoverlabel": {"font": {"family": FONT, "size": 12}, "align": "left"},
        "hovermode": "closest",
        **more,
    }


def line(name: str, x: Sequence[float | None], y: Sequence[float | None], colour: str, **more: Any) -> Trace:
    """A plotly line. more: its scatter options; dash, shape and width apply to the line."""
    drawn = {key: more.pop(key) for key in ("dash", "shape", "width") if key in more}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2, **drawn},
        **more,
    }


def bars(
    name: str, x: Sequence[str], y: Sequence[float | None], colours: str | Sequence[str], **more: Any
) -> Trace:
    """Vertical bars, labelled with their values."""
    return {
        "type": "bar",
        "name": plain(name),
        "x": [plain(one) for one in x],
        "y": list(y),
        "marker": {"color": colours if isinstance(colours, str) else list(colours)},
        "texttemplate": "%{y:.3~s}",
        "textposition": "auto",
        "textfont": {"size": 11},
        "cliponaxis": False,
        "hovertemplate": "%{x}: %{y:.4~g}<extra>%{fullData.name}</extra>",
        **more,
    }
