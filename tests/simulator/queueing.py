"""Queueing theory in closed form and as recursions: what simulated queues are held against. Pure.

Servers are FIFO: they serve in order of arrival. Times are in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import pairwise
from math import factorial
from typing import Final

import numpy as np
import numpy.typing as npt

REPEATS: Final = 100
Z_99: Final = 2.576

Draws = tuple[list[float], list[float]]  # arrivals and services of all requests


def lindley(arrivals: Sequence[float], services: Sequence[float]) -> list[float]:
    """Waits at one server: W' = max(0, W + S - A), A the time to the next arrival."""
    waits = [0.0]
    for (arrived, following), service in zip(pairwise(arrivals), services, strict=False):
        waits.append(max(0.0, waits[-1] + service - (following - arrived)))
    return waits


def kiefer_wolfowitz(arrivals: Sequence[float], services: Sequence[float], servers: int) -> list[float]:
    """Waits at `servers` servers with one queue: each request goes to the server that is free first."""
    free_at = [0.0] * servers
    heapify(free_at)
    waits = []
    for arrived, service in zip(arrivals, services, strict=True):
        begins = max(arrived, free_at[0])
        heapreplace(free_at, begins + service)
        waits.append(float(begins - arrived))
    return waits


def md1_wait(load: float, service: float) -> float:
    """Mean wait of M/D/1: rho / (2 (1 - rho)) of a service (Pollaczek, Khinchine)."""
    return service * load / (2 * (1 - load))


def mmc_wait(load: float, service: float, servers: int) -> float:
    """Mean wait of M/M/c: Erlang's C times service / (c (1 - rho)). load: rho, of all servers."""
    offered = servers * load
    waiting = offered**servers / factorial(servers) / (1 - load)
    idle = sum(offered**n / factorial(n) for n in range(servers))
    return waiting / (idle + waiting) * service / (servers * (1 - load))


@dataclass(frozen=True, slots=True)
class Queue:
    """M/M/c, or M/D/c where `fixed`. load: rho, of all servers. requests: of a run that starts empty."""

    load: float
    requests: int
    servers: int = 1
    fixed: bool = False
    service: float = 0.02

    @property
    def gap(self) -> float:
        """Mean time between arrivals."""
        return self.service / self.load / self.servers

    @property
    def formula(self) -> float:
        """The stationary mean wait."""
        if self.fixed:
            return md1_wait(self.load, self.service)
        return mmc_wait(self.load, self.service, self.servers)

    def draw(self, seed: int) -> Draws:
        """Arrivals and services of a run."""
        rng = np.random.default_rng([seed, self.requests, self.servers])
        gaps = rng.exponential(self.gap, self.requests)
        services = np.full_like(gaps, self.service)
        if not self.fixed:
            services = rng.exponential(self.service, self.requests)
        return np.cumsum(gaps).tolist(), services.tolist()


@dataclass(frozen=True, slots=True)
class Interval:
    """A 99 % confidence interval of a mean."""

    mean: float
    half: float

    def __contains__(self, value: float) -> bool:
        return abs(value - self.mean) <= self.half


def mean_wait(waits: Sequence[float], drawn: Draws, queue: Queue) -> Interval:
    """The interval of a run's mean wait.

    Waits in a busy queue depend on each other over hundreds of requests, so their spread tells little about that of
    their mean. Its spread is therefore that over independent runs of the recursion. What a mean owes to its run's own
    mean gap and mean service is taken out first (control variates), which halves the interval.
    """
    runs = [queue.draw(1000 + n) for n in range(REPEATS)]
    means = np.array([np.mean(kiefer_wolfowitz(*run, queue.servers)) for run in runs])  # [REPEATS]
    controls = np.array([_controls(run, queue) for run in runs])  # [REPEATS, 2]
    design = np.column_stack([np.ones(REPEATS), controls])
    slopes = np.linalg.lstsq(design, means)[0]
    spread = float(np.std(means - design @ slopes, ddof=3))
    return Interval(float(np.mean(waits) - _controls(drawn, queue) @ slopes[1:]), Z_99 * spread)


def _controls(drawn: Draws, queue: Queue) -> npt.NDArray[np.float64]:
    """By how much a run's mean gap and mean service exceed their expectations. [2]"""
    arrivals, services = drawn
    return np.array([arrivals[-1] / len(arrivals) - queue.gap, np.mean(services) - queue.service])
