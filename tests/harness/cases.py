"""Which scenarios are played: every single fault, samples of them, and mixtures from a seed."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from shared.planning.policies import POLICY_NAMES
from simulator.faults import AT_BROKER, AT_COMPUTE, AT_MESSAGE, Fault
from tests.harness.judge import play
from tests.harness.scenario import Scenario

# What each kind of fault is enumerated on: small, so that thousands can be played.
PLAIN: Final = Scenario(tokens=12)
TWO_VERIFIERS: Final = Scenario(tokens=12, users=3, verifiers=2, policy="cyclic-k")


def single_faults(scenario: Scenario) -> Iterator[tuple[Fault, str]]:
    """Every fault at every call and message of an undisturbed run; with what it befalls (role and operation)."""
    for name, counter in play(scenario).stack.counters.items():
        role = name.split("-", maxsplit=1)[0]
        for n, operation in enumerate(counter.calls):
            for kind in AT_COMPUTE if operation == "compute" else AT_BROKER:
                yield Fault(name, n, kind), f"{role} {operation} {kind}"
        for n, stream in enumerate(counter.messages):
            for what in AT_MESSAGE:
                yield Fault(name, n, what), f"{role} {stream.split(':')[2]} {what}"


def sampled(faults: Iterator[tuple[Fault, str]], each: int) -> list[Fault]:
    """Of every kind of fault the last, and some before it."""
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault, kind in faults:
        by_kind[kind].append(fault)
    return [fault for some in by_kind.values() for fault in spread(some, each)]


def few(faults: Iterator[tuple[Fault, str]]) -> list[Fault]:
    """One fault at every operation of every role, of each kind in turn."""
    by_operation: dict[str, list[Fault]] = defaultdict(list)
    for fault, kind in faults:
        by_operation[kind.rpartition(" ")[0]].append(fault)
    return [some[turn % len(some)] for turn, some in enumerate(by_operation.values())]


def spread(faults: Sequence[Fault], n: int) -> list[Fault]:
    """n of them, the last included, at equal distances."""
    return [faults[(i + 1) * len(faults) // n - 1] for i in range(n)] if len(faults) > n else list(faults)


def mixture(seed: int) -> Scenario:
    """Some stack, some users, and several faults at once, most of them in mid-generation."""
    rng = random.Random(seed)  # no secrets
    scenario = Scenario(
        policy=rng.choice(POLICY_NAMES),
        k=rng.choice([1, 4, 8]),
        users=rng.choice([1, 3, 8]),
        tokens=rng.choice([5, 20, 40]),
        prompt=rng.choice([2, 24, 100]),
        verifiers=rng.choice([1, 1, 2]),
        devices=rng.choice([1, 2, 3]),
        sharing=rng.random() < 0.5,
        alpha=rng.choice([0.0, 0.7, 1.0]),
        stop_every=rng.choice([0, 0, 20]),
        kv_tokens=rng.choice([4096, 4096, 256]),
        spread_s=rng.choice([0.01, 0.5]),
        seed=seed + 1,
    )
    processes = scenario.names()
    faults = tuple(
        Fault(
            rng.choice(processes),
            rng.randrange(40, 160) if rng.random() < 0.8 else rng.randrange(40),
            rng.choice([*AT_BROKER, *AT_MESSAGE]),
        )
        for _ in range(rng.choice([2, 4, 8, 16]))
    )
    return replace(scenario, faults=faults)
