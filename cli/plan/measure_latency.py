"""Quality and speed of objective `latency`: `python -m cli.plan.measure_latency` makes the tables of docs/hetero.md."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from shared.planning.bandwidth.noise_density import NoisyUploads, min_max_noisy
from shared.planning.bandwidth.shares import min_max, min_weighted_sum, with_offsets
from shared.planning.bandwidth.uploads import Cell, Uploads
from shared.planning.latency import baselines, brute_force, latency_solver
from shared.planning.latency.random_cohorts import random_cohort

ROUNDS = (3.0, 20.0, 100.0)


def quality(instances: int) -> dict[str, Any]:
    """Latency above that of brute force in per cent, for 2 to 8 users: our solver's, and the paper's batching's."""
    ours, paper = [], []
    for seed in range(instances):
        cohort = random_cohort(seed, 2 + seed % 7, rounds=ROUNDS[seed % 3])
        found = latency_solver.best_candidate(cohort).latency_ms
        best = brute_force.best_candidate(cohort, found).latency_ms
        ours.append(100 * (found / best - 1))
        paper.append(100 * (baselines.paper_batching(cohort).latency_ms / best - 1))
    return {"instances": instances, "ours_percent": _spread(ours), "scalar_percent": _spread(paper)}


def against_paper(instances: int) -> list[dict[str, Any]]:
    """Reductions in per cent for 20 users: by the joint method over the paper's, and by joint shares alone."""
    rows = []
    for rounds in ROUNDS:
        method, shares = [], []
        for seed in range(instances):
            cohort = random_cohort(seed, 20, rounds=rounds, max_draft=8)
            joint = latency_solver.solve(cohort).latency_ms
            method.append(100 * (1 - joint / baselines.paper(cohort).latency_ms))
            shares.append(100 * (1 - joint / latency_solver.solve(cohort.with_sharing("minmax")).latency_ms))
        rows.append({"rounds": rounds, "method_percent": _spread(method), "shares_percent": _spread(shares)})
    return rows


def planning_s(instances: int) -> list[dict[str, Any]]:
    """Seconds to plan, and the processor's."""
    rows = []
    for users in (100, 1000):
        wall, busy = [], []
        for seed in range(instances):
            cohort = random_cohort(seed, users, max_draft=10)
            start, cpu = time.perf_counter(), time.process_time()
            latency_solver.solve(cohort)
            wall.append(time.perf_counter() - start)
            busy.append(time.process_time() - cpu)
        rows.append({"users": users, "wall_s": _spread(wall), "processor_s": _spread(busy)})
    return rows


def sharing_ms(repeats: int) -> dict[str, float]:
    """Median milliseconds to share a cell among 1,000 users, with floors and ceilings."""
    rng, users = np.random.default_rng(0), 1000
    cell, ids, bits = Cell("c", 2e7), [f"u{k}" for k in range(users)], rng.uniform(1e3, 1e6, users)
    limits = {"floor_hz": rng.uniform(0, 1e4, users), "ceiling_hz": rng.uniform(1.5e4, 1e5, users)}
    uploads = Uploads.of(cell, ids, bits, rng.uniform(0.1, 8, users), **limits)
    noisy = NoisyUploads.of(cell, ids, bits, 10 ** rng.uniform(-15, -9, users), 4e-21, **limits)
    offsets = rng.uniform(0, 5000, users)
    forms: dict[str, Callable[[], object]] = {
        "minmax": lambda: min_max(uploads),
        "weighted": lambda: min_weighted_sum(uploads),
        "offsets": lambda: with_offsets(uploads, offsets),
        "noise density": lambda: min_max_noisy(noisy, offsets),
    }
    return {name: _median_ms(form, repeats) for name, form in forms.items()}


def main(
    out: Annotated[Path, typer.Option(help="JSON.")] = Path(".outrider/latency-planning.json"),
    instances: Annotated[int, typer.Option(min=1, help="Cohorts compared with brute force.")] = 210,
) -> None:
    """Measure and print as JSON; some minutes."""
    results = {
        "quality": quality(instances),
        "against_paper": against_paper(40),
        "sharing_ms": sharing_ms(50),
        "planning_s": planning_s(6),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    Console(highlight=False).print_json(json.dumps(results))


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(statistics.fmean(values), 6), "worst": round(max(values), 6)}


def _median_ms(form: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        form()
        times.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    typer.run(main)
