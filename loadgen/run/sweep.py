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
from loadgen.results.result_file import write_result
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import endpoint, settle
from loadgen.run.runner import Observer, client_of, watched, write
from shared.planning.policies import REGISTRY

SETTLE_S: Final = 1.0  # after a change of policy


class SweepError(ValueError):
    """A sweep that cannot be; the text names the option."""


@dataclass(frozen=True, slots=True)
class SweepPolicy:
    """A policy and its draft length. policy "": whatever is in force."""

    policy: str = ""
    k: int = 0

    def __str__(self) -> str:
        return (f"{self.policy} k={self.k}" if self.k else self.policy) or "as it is"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to run. levels: requests per second, or users at once."""

    levels: Sequence[float]
    open_loop: bool
    entrants: Sequence[SweepPolicy]
    repeats: int


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep, the number-th."""

    number: int
    repeat: int
    level: float
    entrant: SweepPolicy

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{str(self.entrant).replace(' ', '-')}-{self.level:g}-{self.repeat}"


def parse_policies(text: str) -> list[SweepPolicy]:
    """`greedy-batch,fixed-k:4,outrider`. Raises SweepError."""
    entrants = []
    for word in text.replace(",", " ").split():
        name, _, k = word.partition(":")
        if k and not k.isdigit():
            raise SweepError(f"--policies {word!r}: POLICY or POLICY:K is meant")
        entrants.append(SweepPolicy(name, int(k or 0)))
    return entrants or [SweepPolicy()]


def parse_levels(text: str, option: str) -> list[float]:
    """`0.5,1,2`. Raises SweepError."""
    try:
        levels = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < 1e6 for level in levels) or len(set(levels)) < len(levels):
        raise SweepError(f"--{option} {text!r}: different numbers over 0 are meant, separated by commas")
    return sorted(levels)


def legs(sweep: Sweep) -> Iterator[SweepRun]:
    """Repeat by repeat, level by level; policies by turns, another one first each time."""
    number = 0
    for turn, (repeat, level) in enumerate(product(range(sweep.repeats), sweep.levels)):
        first = turn % len(sweep.entrants)
        for entrant in [*sweep.entrants[first:], *sweep.entrants[:first]]:
            number += 1
            yield SweepRun(number, repeat, level, entrant)


async def run_sweep(
    sweep: Sweep,
    options: RunOptions,
    model: str,
    out: Path,
    course_of: Callable[[SweepRun], tuple[RunState, Observer]],
) -> Mapping[str, Any]:
    """Run every leg, write each result into a folder beside `out` and the whole into it after each. Returns the whole.

    course_of(leg): who watches a leg, and can end it and with it the sweep. Raises what a run raises.
    """
    points: list[dict[str, Any]] = []
    folder = out.with_suffix("")
    whole: Mapping[str, Any] = {}
    for leg in legs(sweep):
        mine = replace(options, label=str(leg.entrant), **_load(leg, sweep))
        where = endpoint(mine)
        plan = settle(mine, where, model)
        course, onlooker = course_of(leg)
        async with client_of(where) as client:
            if leg.entrant.policy:
                await _set_policy(client, leg.entrant)
            outcome = await watched(plan, course, client, onlooker)
        file = folder / f"{leg.name}.json"
        kept = keep(file, partial(write, outcome, plan, course))
        if kept != file:
            raise OutputError(
                f"{file} cannot be written; that run is kept as {kept}, and the sweep has ended"
            )
        points.append(_point(leg, sweep, outcome.body, file.relative_to(out.parent)))
        whole = {"points": points, **bends(points, sweep.open_loop), "partial": course.over.is_set()}
        of_one_leg = {"rate": None, "concurrency": None}
        config = {**plan.config, **of_one_leg, "label": options.label, "levels": list(sweep.levels)}
        write_result(out, "sweep", config, whole)
        if course.over.is_set():
            break
    return whole


async def _set_policy(client: Client, entrant: SweepPolicy) -> None:
    """Have the endpoint follow it. Raises SweepError."""
    try:
        await client.set_policy(entrant.policy, entrant.k)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SweepError(f"--policies {entrant}: the endpoint does not take it: {error}") from None
    await asyncio.sleep(SETTLE_S)


def _load(leg: SweepRun, sweep: Sweep) -> dict[str, Any]:
    """The option that a level is of."""
    return {"rate_per_s": leg.level} if sweep.open_loop else {"concurrency": round(leg.level)}


def bends(points: Sequence[Mapping[str, Any]], open_loop: bool) -> dict[str, Any]:
    """Knees by policy, and where each policy that speculates stops being better than the best that does not."""
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
    """Whether devices draft under the policy of a curve; a name that is not in the registry is taken to."""
    entry = REGISTRY.get(curve)
    return entry is None or entry.speculates


def _curve(points: Sequence[Mapping[str, Any]]) -> list[LoadPoint]:
    """Medians over repeats, by level."""
    levels = sorted({point["level"] for point in points})
    return [
        LoadPoint(level, *(median(values) for values in zip(*_figures(points, level), strict=True)))
        for level in levels
    ]


def _figures(points: Sequence[Mapping[str, Any]], level: float) -> list[tuple[float, float, float]]:
    names = ("request_throughput", "output_throughput", "median_e2el_scheduled_ms")
    return [
        (seen[names[0]] or 0.0, seen[names[1]] or 0.0, seen[names[2]] or 0.0)
        for point in points
        if point["level"] == level
        for seen in [point["figures"]]
    ]


def _point(leg: SweepRun, sweep: Sweep, body: Mapping[str, Any], file: Path) -> dict[str, Any]:
    return {
        "policy": str(leg.entrant),
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
