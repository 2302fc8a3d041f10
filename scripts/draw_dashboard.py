"""Plots the dashboard's panels from a Prometheus server without Grafana, with the same queries in the same order.

.venv/bin/python scripts/draw_dashboard.py --prometheus http://127.0.0.1:9090 --minutes 5 -o dashboard.png
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "observability" / "grafana" / "dashboards" / "outrider.json"
RATE = "20s"  # Grafana's value of $__rate_interval for a scrape interval of 5 s
STEP_S = 5
COLUMNS = 3
UNITS = {
    "s": (1000.0, "ms"),
    "percentunit": (100.0, "%"),
    "Bps": (1e-3, "kB/s"),
    "ms": (1.0, "ms"),
    "reqps": (1.0, "/s"),
}


def main():
    """Plot all panels. Exits with 1 when a query fails or all are empty."""
    parser = argparse.ArgumentParser(description="Plot the dashboard to a file.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=5.0, help="range of the plots, up to now")
    parser.add_argument("-o", "--out", type=Path, default=Path("dashboard.png"))
    args = parser.parse_args()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(5.5 * COLUMNS, 2.9 * rows), squeeze=False)
    drawn, now = 0, time.time()
    for axis, panel in zip(axes.flat, panels, strict=False):
        drawn += draw(axis, panel, args.prometheus, now - 60 * args.minutes, now)
    figure.tight_layout()
    figure.savefig(args.out, dpi=75)
    print(f"{drawn} series in {len(panels)} panels: {args.out}")
    sys.exit(0 if drawn else 1)


def draw(axis, panel, prometheus, start, end):
    """Plot one panel. Returns the number of its series."""
    factor, unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1.0, ""))
    series = []
    for target in panel["targets"]:
        for one in query_range(prometheus, target["expr"].replace("$__rate_interval", RATE), start, end):
            name = target["legendFormat"]
            for label, value in one["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            points = [
                (float(at) - start, factor * float(value)) for at, value in one["values"] if value != "NaN"
            ]
            if points:
                series.append((name, points))
    for name, points in series:
        axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
    axis.set_title(panel["title"] + (f" ({unit})" if unit else ""), fontsize=10)
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, end - start)
    axis.tick_params(labelsize=7)
    if series:
        axis.legend(fontsize=6, ncols=2, loc="best")
    return len(series)


def query_range(prometheus, query, start, end):
    """Series of a query between two times in seconds. Exits with Prometheus' message when it fails."""
    fields = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": STEP_S})
    try:
        # The user gives the URL with --prometheus.
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{fields}", timeout=30) as answer:  # noqa: S310
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{query}: {error.read().decode()}")
    except OSError as error:
        sys.exit(f"{prometheus}: {error}")


if __name__ == "__main__":
    main()
