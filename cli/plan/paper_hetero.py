"""`outrider paper hetero`: reductions of latency in the paper's cell, published and ours, and where they hold."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared.planning.latency import baselines, latency_solver
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.latency_plan import LatencyPlan
from shared.planning.latency.paper_cell import PAIRS, USERS, Setting, paper_cohort

OURS: Final = "joint"
METHODS: Final[dict[str, Callable[[Cohort], LatencyPlan]]] = {
    OURS: latency_solver.solve,
    "paper": baselines.paper,
    "uniform bandwidth": baselines.uniform_bandwidth,
    "no pipeline": baselines.without_pipeline,
    "maximal batching": baselines.maximal_batching,
    "heuristic batching": baselines.heuristic_batching,
    "static batching": baselines.static_batching,
    f"l = {baselines.FIXED_LENGTH}": baselines.fixed_length,
}
IDS, STATES = 16.0, 16.0 * 768  # bits of a token: its id; a hidden state of the 68M model in 16 bits
BITS: Final = (IDS, 1e3, STATES, 16.0 * 4096, 1e6)
C1_SCALES: Final = (0.1, 1.0, 10.0)
C2_SCALES: Final = (1.0, 0.1, 0.01)
DRAFTER_SCALES: Final = (1.0, 10.0, 30.0, 100.0, 300.0)
BALANCED: Final = 10.0  # draft node of the picture's cohorts: there drafting takes about as long as verifying
COHORTS: Final = (10, 20, 40, 60, 80, 100)


Job = tuple[Setting, tuple[str, str], int]  # with the pair of models and the number of users


@dataclass(frozen=True, slots=True)
class Published:
    """A published reduction in per cent, the method it is over, and the number of users."""

    over: str
    percent: str
    users: int


PUBLISHED: Final = (
    Published("uniform bandwidth", "44.9", USERS),
    Published("no pipeline", "31.6", USERS),
    Published("maximal batching", "21.4", 90),
    Published("heuristic batching", "19.6 to 20.5", USERS),
)


@dataclass(frozen=True, slots=True)
class Point:
    """Mean latencies by method over some cohorts, in ms, and our mean share of uploading in the paper's method."""

    pair: str
    users: int
    setting: Setting
    latency_ms: dict[str, float]
    upload_share: float
    draft_length: float
    batches: float

    def reduction(self, over: str, of: str = OURS) -> float:
        """1 − latency/latency of another method, in per cent."""
        return round(100 * (1 - self.latency_ms[of] / self.latency_ms[over]), 6) + 0.0


def point(setting: Setting, draws: int, pair: tuple[str, str] = PAIRS[0], users: int = USERS) -> Point:
    """All methods on the same random cohorts."""
    plans: dict[str, list[LatencyPlan]] = {name: [] for name in METHODS}
    for seed in range(draws):
        cohort = paper_cohort(seed, setting, pair, users)
        for name, method in METHODS.items():
            plans[name].append(method(cohort))
    return Point(
        "/".join(pair),
        users,
        setting,
        {name: statistics.fmean(plan.latency_ms for plan in each) for name, each in plans.items()},
        statistics.fmean(float(plan.upload_ms.max()) / plan.latency_ms for plan in plans["paper"]),
        statistics.fmean(plan.draft_length for plan in plans[OURS]),
        statistics.fmean(len(plan.batches) for plan in plans[OURS]),
    )


def run(out: Path, setting: Setting, draws: int) -> None:
    """Print the tables; write all points as JSON and a picture. Raises OSError."""
    from cli.plan.hetero_picture import draw

    console = Console(highlight=False)
    jobs = sweeps(setting)
    every = [(name, *job) for name, part in jobs.items() for job in part]
    points: dict[str, list[Point]] = {name: [] for name in jobs}
    for name, given, pair, users in track(every, "cohorts", console=Console(stderr=True), transient=True):
        points[name].append(point(given, draws, pair, users))
    console.print(headline_table(points["pairs"]))
    console.print(sensitivity_table(points["bits"]))
    console.print(sensitivity_table(points["drafters"]))
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "settings": asdict(setting),
        "draws": draws,
        **{name: [as_json(each) for each in part] for name, part in points.items()},
    }
    (out / "hetero.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    scaled = [each for each in points["bits"] if each.setting.c1_scale == setting.c1_scale]
    draw(out / "hetero.png", points["users"], scaled, list(METHODS))
    console.print(f"All points: {out / 'hetero.json'}, {out / 'hetero.png'}")


def sweeps(setting: Setting) -> dict[str, list[Job]]:
    """The points of each table and of the picture."""
    pairs = [(setting, pair, users) for pair in PAIRS for users in (USERS, 90)]
    bits = [
        (replace(setting, bits_per_token=each, c1_scale=setting.c1_scale * scale), PAIRS[0], USERS)
        for scale in C1_SCALES
        for each in BITS
    ]
    drafters = [
        (replace(setting, c2_scale=setting.c2_scale * scale, drafter_scale=each), PAIRS[0], USERS)
        for scale in C2_SCALES
        for each in DRAFTER_SCALES
    ]
    balanced = replace(setting, bits_per_token=STATES, drafter_scale=BALANCED)
    return {
        "pairs": pairs,
        "bits": bits,
        "drafters": drafters,
        "users": [(balanced, PAIRS[0], users) for users in COHORTS],
    }


def headline_table(points: Sequence[Point]) -> Table:
    """Published reductions beside ours, for each pair."""
    table = Table("less latency than with", "users", "published, %", *("/".join(pair) for pair in PAIRS))
    for each in PUBLISHED:
        ours = [f"{p.reduction(each.over):.1f}" for p in points if p.users == each.users]
        table.add_row(each.over, str(each.users), each.percent, *ours)
    for name in METHODS:
        if name not in (OURS, *(each.over for each in PUBLISHED)):
            table.add_row(
                name, str(USERS), "", *(f"{p.reduction(name):.1f}" for p in points if p.users == USERS)
            )
    return table


def sensitivity_table(points: Sequence[Point]) -> Table:
    """Reductions over what the paper leaves open; the uploads' share of the latency under the paper's method."""
    names = [each.over for each in PUBLISHED]
    short = [name.split()[-1 if name == "no pipeline" else 0] for name in names]
    table = Table("bits", "c1 ×", "c2 ×", "drafter ×", "upload %", *short, "paper", "l", "batches")
    for p in points:
        table.add_row(
            f"{p.setting.bits_per_token:g}",
            f"{p.setting.c1_scale:g}",
            f"{p.setting.c2_scale:g}",
            f"{p.setting.drafter_scale:g}",
            f"{100 * p.upload_share:.1f}",
            *(f"{p.reduction(name):.1f}" for name in names),
            f"{p.reduction('paper'):.2f}",
            f"{p.draft_length:.1f}",
            f"{p.batches:.1f}",
        )
    return table


def as_json(each: Point) -> dict[str, Any]:
    """A point, with its reductions."""
    rounded = {name: round(ms, 3) for name, ms in each.latency_ms.items()}
    reductions = {name: round(each.reduction(name), 3) for name in METHODS if name != OURS}
    return {
        **asdict(each),
        "latency_ms": rounded,
        "upload_share": round(each.upload_share, 5),
        "reduction_percent": reductions,
    }
