"""All requests of a run, fixed by a seed before the first is sent. Pure.

Arrivals, lengths, prompts and groups each have their own random stream: a change of one does not affect the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Final

import numpy as np

from loadgen.request import ChatRequest
from loadgen.workload.arrivals import Gaps, RateStage, arrivals
from loadgen.workload.lengths import Lengths, parse_lengths
from loadgen.workload.prompt_source import Prompts
from loadgen.workload.trace import Arrival

SEEDS: Final = 1 << 31


class GroupError(ValueError):
    """Invalid settings of a group of requests; the text names the field."""


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Requests with the same sampling settings: a share of all, by weight. answer: its length; None: the workload's."""

    name: str = ""
    weight: float = 1.0
    temperature: float = 0.0
    top_p: float = 1.0
    answer: Lengths | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """The model, prompts, lengths and settings of requests.

    raw: prompts are continued, not answered. ignore_eos: every answer has its maximum length. devices: requests name
    them in turn.
    """

    model: str
    prompts: Prompts
    prompt: Lengths
    answer: Lengths
    groups: Sequence[RequestGroup] = field(default_factory=lambda: (RequestGroup(),))
    raw: bool = False
    ignore_eos: bool = False
    devices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """A request and when it is due, in seconds from the run's start."""

    at: float
    request: ChatRequest


def open_schedule(
    workload: Workload,
    seed: int,
    stages: Sequence[RateStage],
    gaps: Gaps,
    burstiness: float,
    requests: int | None,
    seconds: float | None,
) -> list[ScheduledRequest]:
    """A schedule of at most `requests` requests within `seconds`. Raises ArrivalError.

    If the stages have no end, one of the two must be given.
    """
    times = arrivals(stages, gaps, _streams(seed)[0], burstiness)
    if seconds is not None:
        times = takewhile(lambda at: at < seconds, times)
    due = islice(times, requests)
    return [
        ScheduledRequest(at, request)
        for at, request in zip(due, generate_requests(workload, seed), strict=False)
    ]


def trace_schedule(workload: Workload, seed: int, trace: Sequence[Arrival]) -> list[ScheduledRequest]:
    """A request for every arrival of a trace, with its lengths."""
    return [
        ScheduledRequest(arrival.at, request)
        for arrival, request in zip(trace, generate_requests(workload, seed, trace), strict=True)
    ]


def generate_requests(workload: Workload, seed: int, trace: Sequence[Arrival] = ()) -> Iterator[ChatRequest]:
    """Requests in order: one for every arrival of a trace, or endless without one. Raises GroupError."""
    _, lengths, prompts, groups = _streams(seed)
    weights = np.array([group.weight for group in workload.groups])
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
        raise GroupError("weights of groups must be 0 or more, and their sum more than 0")
    shares = np.cumsum(weights / weights.sum())
    number = 0
    while not trace or number < len(trace):
        group = workload.groups[min(int(np.searchsorted(shares, groups.random())), len(shares) - 1)]
        arrival = trace[number] if trace else None
        tokens = arrival.prompt if arrival else workload.prompt.draw(lengths)
        answer = arrival.answer if arrival else (group.answer or workload.answer).draw(lengths)
        drawn = workload.prompts.draw(prompts, tokens, arrival.blocks if arrival else ())
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


def parse_group(text: str) -> RequestGroup:
    """`NAME weight=2 temperature=0.7 top_p=0.9 answer=64..256`, settings optional. Raises GroupError, LengthError."""
    name, *settings = text.replace(",", " ").split()
    values: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == "answer":
            values[key] = parse_lengths(value)
            continue
        if key not in ("weight", "temperature", "top_p"):
            raise GroupError(
                f"group {name}: unknown setting {key!r}; give weight, temperature, top_p or answer"
            )
        try:
            values[key] = float(value)
        except ValueError:
            raise GroupError(f"group {name}: {key} is {value!r}, not a number") from None
    group = RequestGroup(name, **values)
    if not (0 <= group.temperature <= 2 and 0 < group.top_p <= 1 and group.weight >= 0):
        raise GroupError(
            f"group {name}: temperature must be from 0 to 2, top_p above 0 and at most 1, weight 0 or more"
        )
    return group


def _streams(seed: int) -> list[np.random.Generator]:
    """The random streams of arrivals, lengths, prompts and groups."""
    return [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(4)]
