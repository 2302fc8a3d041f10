"""Shrinks a scenario that fails: the smallest that still fails in the same way, by greedy delta debugging.

Every step takes something away: faults, deaths, cuts, switches and clocks (halves first), users, tokens, processes, and
every setting that need not differ from the default. The order of events becomes asyncio's where that still fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from tests.harness.scenario import Scenario

EVENTS: Final = ("faults", "deaths", "stops", "cuts", "pauses", "fulls", "switches", "clocks")
# Settings that are tried at their defaults; the counts are tried one by one.
PLAIN: Final = {f.name: f.default for f in fields(Scenario) if f.name not in (*EVENTS, "seed", "policy")}
COUNTS: Final = {
    "users": 1,
    "tokens": 1,
    "prompt": 1,
    "verifiers": 1,
    "devices": 0,
    "gateways": 1,
    "schedulers": 1,
}
SIMPLEST_POLICIES: Final = ("greedy-batch", "fixed-k")

Fails = Callable[[Scenario], bool]


def shrink(scenario: Scenario, fails: Fails, out_of_time: Callable[[], bool]) -> Scenario:
    """The smallest scenario found that fails, when none of its simpler ones does or the time is over."""
    found = True
    while found and not out_of_time():
        found = False
        for simpler in simpler_ones(scenario):
            if out_of_time():
                break
            if fails(simpler):
                scenario, found = simpler, True
                break
    return scenario


def simpler_ones(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios with one thing less, those that take most away first."""
    for name in EVENTS:
        yield from (scenario.with_(**{name: fewer}) for fewer in _fewer(getattr(scenario, name)))
    for name, smallest in COUNTS.items():
        yield from (_with_count(scenario, name, count) for count in _lower(getattr(scenario, name), smallest))
    for name, default in PLAIN.items():
        if name not in COUNTS and getattr(scenario, name) != default:
            yield scenario.with_(**{name: default})
    if scenario.policy not in SIMPLEST_POLICIES:
        yield from (scenario.with_(policy=policy) for policy in SIMPLEST_POLICIES)


def _fewer(events: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Without all, without each half, each quarter … and each single one."""
    size = len(events)
    while size:
        for start in range(0, len(events), size):
            yield events[:start] + events[start + size :]
        size //= 2


def _lower(count: int, smallest: int) -> Iterator[int]:
    """Lower counts, the lowest first; each halves the way that is left."""
    step = count - smallest
    while step > 0:
        yield count - step
        step //= 2


def _with_count(scenario: Scenario, name: str, count: int) -> Scenario:
    """Another count. Events of processes that are no longer there go too; a single one loses its number."""
    changed = scenario.with_(**{name: count})
    if name not in ("verifiers", "devices", "gateways", "schedulers"):
        return changed
    role, known = name.removesuffix("s"), {"", *changed.names()}
    kept: dict[str, Any] = {}
    for events in EVENTS:
        renamed = [_renamed(event, role) if role in known else event for event in getattr(changed, events)]
        kept[events] = tuple(event for event in renamed if getattr(event, "process", "") in known)
    return changed.with_(**kept)


def _renamed(event: Any, role: str) -> Any:
    """The event with the bare name of the role's first process."""
    if getattr(event, "process", "") != f"{role}-0":
        return event
    return type(event)(**{f.name: getattr(event, f.name) for f in fields(event)} | {"process": role})
