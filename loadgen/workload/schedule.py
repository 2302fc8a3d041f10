"""All requests of a run, fixed from a seed before the first is sent. Pure.

Arrivals, lengths, prompts and groups have random numbers of their own: to change one leaves the others as they were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Final

import numpy as np

from loadgen.request import ChatRequest
from loadgen.workload.arrivals import Gaps, Stage, arrivals
from loadgen.workload.lengths import Lengths, parse_lengths
from loadgen.workload.prompt_source import Prompts
from loadgen.workload.trace import Arrival

SEEDS: Final = 1 << 31


class GroupError(ValueError):
    """A group of requests that cannot be; the text names the field."""


@dataclass(frozen=True, slots=True)
class Group:
    """Requests with the same sampling settings: a share of all, by weight. answer: tokens; None = the run's."""

    name: str = ""
    weight: float = 1.0
    temperature: float = 0.0
    top_p: float = 1.0
    answer: Lengths | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked for. raw, ignore_eos, device: see ChatRequest."""

    model: str
    prompts: Prompts
    prompt: Lengths
    answer: Lengths
    groups: Sequence[Group] = field(default_factory=lambda: (Group(),))
    raw: bool = False
    ignore_eos: bool = False
    devices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A request and when it is due, in seconds from the start."""

    at: float
    request: ChatRequest


def open_schedule(
    workload: Workload,
    seed: int,
    stages: Sequence[Stage],
    gaps: Gaps,
    burstiness: float,
    requests: int | None,
    seconds: float | None,
) -> list[Planned]:
    """So many requests at most, within so many seconds; at least one of both ends the stages. Raises ArrivalError."""
    times = arrivals(stages, gaps, _streams(seed)[0], burstiness)
    if seconds is not None:
        times = takewhile(lambda at: at < seconds, times)
    due = islice(times, requests)
    return [Planned(at, request) for at, request in zip(due, asked(workload, seed), strict=False)]


def trace_schedule(workload: Workload, seed: int, trace: Sequence[Arrival]) -> list[Planned]:
    """Every arrival of a trace with its lengths."""
    return [
        Planned(arrival.at, request)
        for arrival, request in zip(trace, asked(workload, seed, trace), strict=True)
    ]


def asked(workload: Workload, seed: int, trace: Sequence[Arrival] = ()) -> Iterator[ChatRequest]:
    """Requests in order; without an end unless a trace has one."""
    _, lengths, prompts, groups = _streams(seed)
    weights = np.array([group.weight for group in workload.groups])
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
        raise GroupError("weights of groups: 0 or more each, more than 0 together")
    shares = np.cumsum(weights / weights.sum())
    number = 0
    while not trace or number < len(trace):
        group = workload.groups[min(int(np.searchsorted(shares, groups.random())), len(shares) - 1)]
        seen = trace[number] if trace else None
        tokens = seen.prompt if seen else workload.prompt.draw(lengths)
        answer = seen.answer if seen else (group.answer or workload.answer).draw(lengths)
        drawn = workload.prompts.draw(prompts, tokens, seen.blocks if seen else ())
        yield ChatRequest(
            f"r{number:06d}",
            workload.model,
            drawn.prompt,
            drawn.max_tokens or answer,
            group.temperature,
            group.top_p,
            int(groups.integers(SEEDS)),
            workload.devices[number % len(workload.devices)] if workload.devices else "",
            workload.raw or not isinstance(drawn.prompt, str),
            workload.ignore_eos,
            drawn.kind,
            group.name,
        )
        number += 1


def parse_group(text: str) -> Group:
    """`NAME weight=2 temperature=0.7 top_p=0.9 answer=64..256`, settings optional. Raises GroupError, LengthError."""
    name, *settings = text.replace(",", " ").split()
    values: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == "answer":
            values[key] = parse_lengths(value)
            continue
        if key not in ("weight", "temperature", "top_p"):
            raise GroupError(f"group {name}: no setting {key!r}; weight, temperature, top_p and answer are")
        try:
            values[key] = float(value)
        except ValueError:
            raise GroupError(f"group {name}: {key} is {value!r}, not a number") from None
    group = Group(name, **values)
    if not (0 <= group.temperature <= 2 and 0 < group.top_p <= 1 and group.weight >= 0):
        raise GroupError(f"group {name}: temperature 0 to 2, top_p over 0 to 1, weight 0 or more")
    return group


def _streams(seed: int) -> list[np.random.Generator]:
    """For arrivals, lengths, prompts and groups."""
    return [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(4)]
