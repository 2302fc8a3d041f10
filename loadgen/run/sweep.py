"""Sweeps over rates or concurrent users, interleaving policies: finds knees and crossovers."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp

from loadgen.client.streaming import Client
from loadgen.metrics.knee import LoadPoint, crossover, knee_of_rates, knee_of_users
from loadgen.results.output import OutputError, keep
from loadgen.results.partial_rows import PartialRows
from loadgen.results.result_file import write_result
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import endpoint, make_plan
from loadgen.run.runner import Observer, client_of, run_observed, write
from shared.planning.policies import REGISTRY

POLICY_PAUSE_S: Final = 1.0  # after a change of policy


class SweepError(ValueError):
    """Invalid sweep options; the text names the option."""


@dataclass(frozen=True, slots=True)
class SweepPolicy:
    """A policy and its draft length, 0 for its default. name "": the policy in force."""

    name: str = ""
    k: int = 0

    def __str__(self) -> str:
        return (f"{self.name} k={self.k}" if self.k else self.name) or "as it is"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The runs of a sweep. levels: requests per second (open loop), or concurrent users."""

    levels: Sequence[float]
    open_loop: bool
    policies: Sequence[SweepPolicy]
    repeats: int


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep. number: from 1, in the order of the runs."""

    number: int
    repeat: int
    level: float
    policy: SweepPolicy

    @property
    def name(self) -> str:
        """Name of its file, without the suffix."""
        return f"{str(self.policy).replace(' ', '-')}-{self.level:g}-{self.repeat}"


def parse_policies(text: str) -> list[SweepPolicy]:
    """`greedy-batch,fixed-k:4,outrider`. Raises SweepError."""
    policies = []
    for word in text.replace(",", " ").split():
        name, _, k = word.partition(":")
        if k and not k.isdigit():
            raise SweepError(f"--policies {word!r}: give POLICY or POLICY:K")
        policies.append(SweepPolicy(name, int(k or 0)))
    return policies or [SweepPolicy()]


def parse_levels(text: str, option: str) -> list[float]:
    """`0.5,1,2`. Raises SweepError."""
    try:
        levels = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < 1e6 for level in levels) or len(set(levels)) < len(levels):
        raise SweepError(f"--{option} {text!r}: give different numbers above 0, separated by commas")
    return sorted(levels)


def sweep_runs(sweep: Sweep) -> Iterator[SweepRun]:
    """Repeat by repeat, level by level, every policy once; the first policy rotates."""
    number = 0
    for turn, (repeat, level) in enumerate(product(range(sweep.repeats), sweep.levels)):
        first = turn % len(sweep.policies)
        for policy in [*sweep.policies[first:], *sweep.policies[:first]]:
            number += 1
            yield SweepRun(number, repeat, level, policy)


async def run_sweep(
    sweep: Sweep,
    options: RunOptions,
    model: str,
    out: Path,
    start_leg: Callable[[SweepRun], tuple[RunState, Observer]],
) -> Mapping[str, Any]:
    """Do all runs. Returns the body of the sweep's result file.

    Each run's result goes into a folder beside `out`; `out` itself is written after every run. start_leg(leg) gives
    a run its state and observer; to stop that state ends the sweep. Raises what a run raises.
    """
    points: list[dict[str, Any]] = []
    folder = out.with_suffix("")
    whole: Mapping[str, Any] = {}
    for leg in sweep_runs(sweep):
        mine = replace(options, label=str(leg.policy), **_load(leg, sweep))
        where = endpoint(mine)
        plan = make_plan(mine, where, model)
        state, observer = start_leg(leg)
        file = folder / f"{leg.name}.json"
        rows = PartialRows(file, plan.config)
        state.on_end = rows.add
        async with client_of(where) as client:
            if leg.policy.name:
                await _set_policy(client, leg.policy)
            outcome = await run_observed(plan, state, client, observer)
        kept = keep(file, partial(write, outcome, plan.config, state))
        rows.close(keep=False)
        if kept != file:
            raise OutputError(f"{file} cannot be written; its result is in {kept}, and the sweep has ended")
        points.append(_point(leg, sweep, outcome.body, file.relative_to(out.parent)))
        whole = {
            "points": points,
            **knees_and_crossovers(points, sweep.open_loop),
            "partial": state.stop.is_set(),
        }
        of_one_leg = {"rate": None, "concurrency": None}
        config = {**plan.config, **of_one_leg, "label": options.label, "levels": list(sweep.levels)}
        write_result(out, "sweep", config, whole)
        if state.stop.is_set():
            break
    return whole


async def _set_policy(client: Client, policy: SweepPolicy) -> None:
    """Set the endpoint's policy. Raises SweepError."""
    try:
        await client.set_policy(policy.name, policy.k)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SweepError(f"--policies {policy}: the endpoint rejects it: {error}") from None
    await asyncio.sleep(POLICY_PAUSE_S)


def _load(leg: SweepRun, sweep: Sweep) -> dict[str, Any]:
    """The option that sets the level of load."""
    return {"rate_per_s": leg.level} if sweep.open_loop else {"concurrency": round(leg.level)}


def knees_and_crossovers(points: Sequence[Mapping[str, Any]], open_loop: bool) -> dict[str, Any]:
    """Knees by policy, and the crossovers of each policy that speculates with each that does not."""
    curves = {
        policy: _curve([point for point in points if point["policy"] == policy])
        for policy in dict.fromkeys(point["policy"] for point in points)
    }
    knee = knee_of_rates if open_loop else knee_of_users
    crossovers = [
        {"between": [mine, theirs], "level": level}
        for mine in curves
        for theirs in curves
        if _speculates(mine) and not _speculates(theirs)
        if (level := crossover(curves[mine], curves[theirs], open_loop)) is not None
    ]
    return {"knees": {policy: knee(curve) for policy, curve in curves.items()}, "crossovers": crossovers}


def _speculates(curve: str) -> bool:
    """Whether devices draft under a policy; assumed of names that are not in the registry."""
    entry = REGISTRY.get(curve)
    return entry is None or entry.speculates


def _curve(points: Sequence[Mapping[str, Any]]) -> list[LoadPoint]:
    """One policy's medians over repeats, by level."""
    levels = sorted({point["level"] for point in points})
    return [
        LoadPoint(level, *(median(values) for values in zip(*_values_at(points, level), strict=True)))
        for level in levels
    ]


def _values_at(points: Sequence[Mapping[str, Any]], level: float) -> list[tuple[float, float, float]]:
    names = ("request_throughput", "output_throughput", "median_e2el_scheduled_ms")
    return [
        (metrics[names[0]] or 0.0, metrics[names[1]] or 0.0, metrics[names[2]] or 0.0)
        for point in points
        if point["level"] == level
        for metrics in [point["figures"]]
    ]


def _point(leg: SweepRun, sweep: Sweep, body: Mapping[str, Any], file: Path) -> dict[str, Any]:
    return {
        "policy": str(leg.policy),
        "level": leg.level,
        "rate": leg.level if sweep.open_loop else None,
        "concurrency": None if sweep.open_loop else round(leg.level),
        "repeat": leg.repeat,
        "valid": body["valid"],
        "problems": body["problems"],
        "figures": body["figures"],
        "stack": body["stack"],
        "file": str(file),
    }
